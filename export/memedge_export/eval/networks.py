"""A checkpoint of a system as something to be evaluated: in torch, in float, on whole records."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from memedge.console import status
from memedge.errors import EngineError, SourceError

from ..data.pictures import Picture
from ..data.records import Record
from ..models.system import SystemEntry
from ..system_weights import load_system
from ..train.assembly import Table, as_run
from ..train.callers import caller_of
from ..train.clips import Clip, Eye
from ..train.system_run import every_call, run, scores_of, sources
from ..train.viewing import Viewer
from .contenders import Contender
from .report import Model


class SystemNetwork(Contender):
    """A system's checkpoint; on a GPU where there is one. Its score of a video is that of its published sampling and
    aggregation."""

    def __init__(self, path: Path, entry: SystemEntry, label: str, words: Path | None = None) -> None:
        loaded = load_system(entry, [str(path)])
        for note in loaded.notes:
            status(note)
        self.training = loaded.training
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = loaded.network.eval().to(self._device)
        self._eye = Eye(Viewer(loaded.network))
        self._caller_of = caller_of(loaded.network, words)
        self.sampling = {target.name: target.sampling for target in loaded.network.system_targets}
        self._found: dict[int, NDArray[np.float64]] = {}
        self.model = Model(
            label=label,
            kind="checkpoint",
            model=entry.id,
            name=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            engine="torch",
            precision="fp32",
            targets=tuple(loaded.network.targets),
            untrained=loaded.untrained,
        )

    def add(self, key: int, picture: Picture, record: Record) -> None:
        """Scored at once; every window shows the picture."""
        self._found[key] = self._score(self._eye.still(picture, self._caller_of(record)), record)

    def video(self, record: Record) -> NDArray[np.float64]:
        """A video's scores, 0..1, float64 ``[T]``.

        Raises:
            SourceError: it cannot be read, or gives no score.
            EngineError: the network gave a score that is not finite.
        """
        return self._score(self._eye.look(record.path, self._caller_of(record)), record)

    def _score(self, clip: Clip, record: Record) -> NDArray[np.float64]:
        one = every_call(0, clip)
        table = Table(self._eye.layout, sources(self._network), [one])
        outputs = run(self._network, table, as_run([one]))
        if not all(torch.isfinite(outputs[source]).all() for source in sources(self._network).values()):
            raise EngineError(f"{self.model.label}: the network gave scores that are not finite")
        found = np.array(scores_of(self._network, one, table, 0, outputs))
        if not np.isfinite(found).all():
            raise SourceError(f"{record.path}: no score; expected a video of the system's least length")
        return found

    def finish(self) -> dict[int, NDArray[np.float64]]:
        """See :class:`Contender`."""
        found, self._found = self._found, {}
        return found

    def close(self) -> None:
        """Nothing to give back but memory."""
