"""The decoder seam: what plays files and drains live sources, whichever library decodes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

from memedge_engines.frame import Frame


class Picture(Protocol):
    """A decoded picture in its library's own form; ``pts`` in units of the decoder's ``time_base``, none: unknown."""

    @property
    def pts(self) -> int | None:
        """Presentation time."""


class PictureDecoder(Protocol):
    """Decodes one video stream, picture by picture.

    Attributes:
        label: what messages call it.
        live: pictures come in their own time; otherwise they wait to be taken.
        broken: the data ended with a read error.
        on_packet: called whenever something, or for a while nothing, has arrived; may raise to leave :meth:`read`.
        time_base, nominal_s: seconds per unit of ``pts``; nominal interval between pictures.
        fps: pictures a second as declared, or none.
        duration_s, header_frames: length and number of pictures as the header tells them, or none.
    """

    label: str
    live: bool
    broken: bool
    on_packet: Callable[[], None] | None
    time_base: Fraction
    nominal_s: float
    fps: float | None
    duration_s: float | None
    header_frames: int | None

    def read(self) -> tuple[Any, tuple[str, ...]] | None:
        """The next :class:`Picture` in order of presentation with its flags; none at the end."""

    def frame(self, picture: Any, flags: tuple[str, ...]) -> Frame:
        """A Frame of what :meth:`read` gave; times, index and arrival are for the caller to fill."""

    def close(self) -> None:
        """Give everything back; safe to call twice."""
