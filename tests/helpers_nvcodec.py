"""A stand-in for PyNvVideoCodec 2.2 on the fake CUDA driver: names, argument names and array interfaces are those that
its bindings show (read from the 2.2.4 extension without a GPU); pictures are PyAV's.

As the real one it owns one surface, which its next Decode overwrites, and works in the stream that it was given.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from memedge_engines.cuda.fake import FakeDriver

PITCH = 512


class PixelFormats(enum.Enum):
    NV12 = 1
    P016 = 3


class View:
    """CAIMemoryView."""

    def __init__(self, address: int, rows: int, columns: int, samples: int) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": [rows, columns, samples],
            "strides": [PITCH, samples, 1],
            "typestr": "|u1",
            "stream": 2,
            "data": (address, False),
            "gpuIdx": 0,
        }


class DecodedFrame:
    def __init__(self, owner: Decoder, width: int, height: int, pts: int) -> None:
        self.format = owner.pixel_format
        self._owner, self._width, self._height, self._pts = owner, width, height, pts

    def cuda(self) -> list[View]:
        half = (self._height + 1) // 2
        base = self._owner.surface
        return [
            View(base, self._height, self._width, 1),
            View(base + PITCH * self._height, half, (self._width + 1) // 2, 2),
        ]

    def getPTS(self) -> int:
        return self._pts


class Demuxer:
    def __init__(self, filename: str) -> None:
        self._container = av.open(filename)
        self.stream = self._container.streams.video[0]

    def GetNvCodecId(self) -> str:
        return str(self.stream.codec_context.name)

    def GetTimebaseNum(self) -> int:
        assert self.stream.time_base is not None
        return self.stream.time_base.numerator

    def GetTimebaseDen(self) -> int:
        assert self.stream.time_base is not None
        return self.stream.time_base.denominator

    def __iter__(self) -> Iterator[Any]:
        yield from self._container.demux(self.stream)
        self._container.close()


class Decoder:
    def __init__(self, module: NvStandIn, stream: int) -> None:
        self._module, self._stream = module, stream
        self.pixel_format = module.pixel_format
        self.surface = 0

    def Decode(self, packet: Any) -> list[DecodedFrame]:
        module = self._module
        module.calls += 1
        if module.fail_at is not None and module.calls >= module.fail_at:
            raise RuntimeError("HandlePictureDecode : cuvidDecodePicture returned error 700\nat NvDecoder.cpp")
        frames = []
        for decoded in packet.decode():
            frames.append(self._show(decoded))
        return frames[:1] + module.unsent(frames[1:])

    def _show(self, decoded: av.VideoFrame) -> DecodedFrame:
        driver, width, height = self._module.driver, decoded.width, decoded.height
        half = (height + 1) // 2
        nv12 = decoded.reformat(format="nv12")
        if not self.surface:
            self.surface = driver.device_alloc(PITCH * (height + half))
        rows = [
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:count, :payload].copy()
            for plane, count, payload in zip(nv12.planes, (height, half), (width, (width + 1) // 2 * 2), strict=True)
        ]

        def write() -> None:
            memory = driver.memory(self.surface, PITCH * (height + half)).reshape(-1, PITCH)
            memory[:] = 0xEE
            memory[:height, : rows[0].shape[1]] = rows[0]
            memory[height:, : rows[1].shape[1]] = rows[1]

        driver.enqueue(self._stream, write, "Decode", [self.surface])
        return DecodedFrame(self, width, height, decoded.pts or 0)

    def __del__(self) -> None:
        if self.surface:
            self._module.driver.device_free(self.surface)


class NvStandIn:
    """The module."""

    __version__ = "2.2.4"
    Pixel_Format = PixelFormats

    def __init__(
        self, driver: FakeDriver, *, fail_at: int | None = None, pixel_format: Any = PixelFormats.NV12
    ) -> None:
        self.driver = driver
        self.fail_at = fail_at
        self.pixel_format = pixel_format
        self.calls = 0
        self.asked: dict[str, Any] = {}

    def unsent(self, frames: list[DecodedFrame]) -> list[DecodedFrame]:
        """One surface holds one picture: clips of these tests never give two for a packet."""
        assert not frames
        return frames

    def CreateDemuxer(self, filename: str) -> Demuxer:
        return Demuxer(filename)

    def CreateDecoder(
        self, gpuid: int = 0, codec: str = "", cudacontext: int = 0, cudastream: int = 0, usedevicememory: bool = True
    ) -> Decoder:
        assert usedevicememory
        assert cudacontext == 0
        self.asked = {"gpuid": gpuid, "codec": codec}
        return Decoder(self, cudastream)
