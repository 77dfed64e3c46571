"""Files decoded by NVDEC through PyNvVideoCodec, as NV12 frames in device memory. Optional.

A decoded surface belongs to the decoder and is overwritten by its next call, while the loop holds several frames at a
time. So each surface is copied, on the decoder's own stream, into memory of this source before the next call: two
copies inside the device, which cost microseconds. The names used are those of PyNvVideoCodec 2.2's core decoder
(CreateDemuxer, CreateDecoder, Decode, CUDA array interface); it was **not** run on a GPU for this project.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from memedge_engines import hardware
from memedge_engines.backends.base import Availability, first_line
from memedge_engines.cuda.driver import ALIGNMENT, Driver
from memedge_engines.errors import CudaError
from memedge_engines.frame import Frame, MemoryKind, PixelFormat, Plane

from ..errors import SourceError
from .base import SourceOptions
from .decoder import Decoder
from .decoding import PictureDecoder
from .device_pool import DeviceArray, DevicePool
from .file import FileSource

_INSTALL = "pip install -U PyNvVideoCodec"
_NEEDED = ("CreateDemuxer", "CreateDecoder", "Pixel_Format")


def availability(module: Any = None) -> Availability:
    """Whether PyNvVideoCodec can be used here; never raises. ``module`` stands in for it in tests."""
    if module is None:
        if not hardware.nvidia_driver():
            return Availability(
                False, "no NVIDIA driver is loaded", "install the GPU's driver; --decoder pyav needs none"
            )
        logging.getLogger("PyNvVideoCodec").setLevel(logging.CRITICAL)  # it logs what it raises, too
        try:
            module = importlib.import_module("PyNvVideoCodec")
        except ModuleNotFoundError:
            return Availability(False, "PyNvVideoCodec is not installed", _INSTALL)
        except Exception as error:  # it looks for the encoder's library while it is imported
            fix = "give a container NVIDIA_DRIVER_CAPABILITIES=compute,utility,video, or update the driver"
            return Availability(False, f"PyNvVideoCodec does not load: {first_line(error)}", fix)
    version = str(getattr(module, "__version__", ""))
    missing = [name for name in _NEEDED if not hasattr(module, name)]
    if missing:
        return Availability(False, f"PyNvVideoCodec {version} has no {missing[0]}; 2.0 or newer has", _INSTALL, version)
    return Availability(True, version=version)


class NvcodecSource(FileSource):
    """A file decoded on the GPU. Everything before ``from_s`` is decoded and left out.

    Args:
        path: a file.
        options: ``from_s``, ``to_s``, ``realtime``, ``pixel_limit``.
        label: what readings call it; the path as it was given.
        module: stands in for PyNvVideoCodec.
        driver: makes the CUDA driver that copies surfaces; memedge's own unless given.
    """

    def __init__(
        self,
        path: str | Path,
        options: SourceOptions | None = None,
        label: str | None = None,
        *,
        module: Any = None,
        driver: Callable[[], Driver] | None = None,
    ) -> None:
        super().__init__(path, options, label)
        self._module = module
        self._driver = driver or _own_driver

    def _make(self) -> tuple[PictureDecoder, None]:
        found = availability(self._module)
        if not found.usable:
            raise SourceError(f"--decoder nvcodec cannot be used: {found.reason}", fix=found.fix)
        module = self._module or importlib.import_module("PyNvVideoCodec")
        header = self._decoder()
        try:
            driver = self._driver()
            return NvDecoder(module, driver, str(self._path.absolute()), header, self._closing), None
        except CudaError as error:
            raise SourceError(f"--decoder nvcodec cannot be used: {error.message}", fix=error.fix) from None
        finally:
            header.close()


def _own_driver() -> Driver:
    from memedge_engines.cuda.opening import load_driver

    return load_driver()


@dataclass(frozen=True)
class Surface:
    """A decoded picture in this source's memory: address and bytes from row to row of luma and chroma, time."""

    luma: int
    luma_pitch: int
    chroma: int
    chroma_pitch: int
    pts: int | None


class NvDecoder:
    """See :class:`~memedge.sources.decoding.PictureDecoder`.

    Args:
        module: PyNvVideoCodec.
        driver: unbound; bound while this decoder works in a thread.
        path: absolute.
        header: what FFmpeg read of the file: colours, turn, rate, size.
        closing: ends every wait.

    Raises:
        SourceError: the GPU does not decode this file.
        CudaError: no memory, no device.
    """

    def __init__(self, module: Any, driver: Driver, path: str, header: Decoder, closing: threading.Event) -> None:
        self.label = header.label
        self.live = self.broken = False
        self.on_packet: Callable[[], None] | None = None
        self.fps, self.nominal_s = header.fps, header.nominal_s
        self.duration_s, self.header_frames = header.duration_s, header.header_frames
        self._looks = _first_look(header)
        self._size = self._looks.width, self._looks.height
        self._native = module.Pixel_Format.NV12
        self._ended = self._closed = False
        self._ready: deque[Surface] = deque()
        self._pool = DevicePool(driver, closing)
        self._demuxer: Any = None
        self._decoder: Any = None
        try:
            with self._pool.bound():
                self._demuxer = module.CreateDemuxer(filename=path)
                self._decoder = module.CreateDecoder(
                    gpuid=0,
                    codec=self._demuxer.GetNvCodecId(),
                    cudacontext=0,  # the primary one, as everywhere here
                    cudastream=self._pool.stream,
                    usedevicememory=True,
                )
            self.time_base = self._time_base(header)
            self._packets: Iterator[Any] = iter(self._demuxer)
            if not self._more():
                raise SourceError(f"{self.label}: a video stream without a frame that NVDEC decodes")
        except Exception as error:
            failure = self._told(error)
        else:
            return
        self.close()
        raise failure

    def _time_base(self, header: Decoder) -> Fraction:
        """Releases before 2.2 do not tell the unit of their times; it is the stream's own."""
        if hasattr(self._demuxer, "GetTimebaseNum"):
            return Fraction(int(self._demuxer.GetTimebaseNum()), int(self._demuxer.GetTimebaseDen()))
        return header.time_base

    def read(self) -> tuple[Surface, tuple[str, ...]] | None:
        """The next picture; none at the end. A decoder that fails in the middle ends the file, with ``broken``."""
        failure: SourceError | None = None
        try:
            if not self._ready and not self._more():
                return None
        except SourceError as error:
            failure = self._told(error)
        except Exception:
            self.broken, self._ended = True, True
            return None
        if failure is not None:
            raise failure
        return self._ready.popleft(), ()

    def _told(self, error: Exception) -> SourceError:
        """A new error of the same words: the old one's traceback holds surfaces, which must not outlive the decoder."""
        if isinstance(error, (SourceError, CudaError)):
            return SourceError(error.message, fix=error.fix)
        # PyNvVideoCodec's own exceptions share no base that every release has.
        return SourceError(f"{self.label}: NVDEC: {first_line(error)}", fix="--decoder pyav")

    def _more(self) -> bool:
        """Decode until there is a picture; false at the end."""
        with self._pool.bound():
            while not self._ready and not self._ended:
                packet = next(self._packets, None)
                if packet is None:
                    self._ended = True
                    break
                self._ready.extend(self._copied(surface) for surface in self._decoder.Decode(packet))
        return bool(self._ready)

    def _copied(self, surface: Any) -> Surface:
        if surface.format != self._native:
            name = getattr(surface.format, "name", surface.format)
            raise SourceError(
                f"{self.label}: NVDEC delivers {name}; expected NV12 (8 bits, 4:2:0)", fix="--decoder pyav"
            )
        (luma, luma_pitch, found), (chroma, chroma_pitch, _) = (_view(view) for view in surface.cuda())
        width, height = self._size
        if found[0] < width or found[1] < height:
            raise SourceError(f"{self.label}: NVDEC delivers {found[0]}x{found[1]}; the header says {width}x{height}")
        # Whole rows, but of the last one only its payload: what follows it may not be the decoder's.
        luma_size = luma_pitch * (height - 1) + width
        chroma_begin = -(-luma_size // ALIGNMENT) * ALIGNMENT
        chroma_size = chroma_pitch * ((height + 1) // 2 - 1) + (width + 1) // 2 * 2
        block = self._pool.take(chroma_begin + chroma_size, self.label)
        self._pool.copy(block, luma, luma_size)
        self._pool.copy(block + chroma_begin, chroma, chroma_size)
        self._pool.finish()
        return Surface(block, luma_pitch, block + chroma_begin, chroma_pitch, int(surface.getPTS()))

    def frame(self, picture: Surface, flags: tuple[str, ...]) -> Frame:
        """A Frame over this source's memory; its release gives the memory back for a later picture."""
        width, height = self._size
        pool, looks = self._pool, self._looks
        luma = DeviceArray(picture.luma, (height, width), picture.luma_pitch)
        chroma = DeviceArray(picture.chroma, ((height + 1) // 2, (width + 1) // 2 * 2), picture.chroma_pitch)
        return Frame(
            [Plane(array, array.pitch, MemoryKind.DEVICE) for array in (luma, chroma)],
            PixelFormat.NV12,
            width,
            height,
            rotation=looks.rotation,
            matrix=looks.matrix,
            color_range=looks.color_range,
            siting=looks.siting,
            flags=flags,
            on_release=lambda: pool.give_back(picture.luma),
        )

    def close(self) -> None:
        """Give decoder and memory back; frames that are still held keep theirs. Safe to call twice."""
        self._ended = True
        if self._closed:
            return
        self._closed = True
        while self._ready:
            self._pool.give_back(self._ready.popleft().luma)
        self._packets = iter(())
        with self._pool.bound():
            with suppress(CudaError):  # of work that failed, which was told or does not matter any more
                self._pool.finish()
            self._decoder = None  # before the demuxer and the stream that it works with
            self._demuxer = None
        self._pool.close()


def _view(view: Any) -> tuple[int, int, tuple[int, int]]:
    """(address, bytes from row to row, (width, height) in samples) of one plane of a surface."""
    interface = view.__cuda_array_interface__
    rows, columns, *rest = (int(side) for side in interface["shape"])
    strides = interface.get("strides")
    pitch = int(strides[0]) if strides else columns * (rest[0] if rest else 1)
    return int(interface["data"][0]), pitch, (columns, rows)


def _first_look(header: Decoder) -> Frame:
    """The first frame as FFmpeg decodes it: size, turn and colours, which hold for the file. Released at once."""
    item = header.read()
    if item is None:
        raise SourceError(f"{header.label}: a video stream without a frame that can be decoded; expected at least one")
    frame = header.frame(*item)
    frame.release()
    return frame
