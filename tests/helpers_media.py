"""Frames and contracts for tests: made planes, frames of a clip through plain PyAV, photographs through Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat, plane_shapes
from memedge_engines.kernels.host import Absent, kernels
from memedge_engines.manifest import Crop, Preprocess, Resize
from memedge_engines.preprocess import reference
from memedge_engines.preprocess.color import ROUNDING
from memedge_engines.preprocess.fast import NumpyPreprocessor
from memedge_engines.preprocess.native import NativePreprocessor

# What FFmpeg calls these decoded formats, and the format and range that they are.
DECODED_FORMATS = {
    "yuv420p": (PixelFormat.I420, None),
    "yuvj420p": (PixelFormat.I420, ColorRange.FULL),
    "yuvj422p": (PixelFormat.YUV422P, ColorRange.FULL),
    "gray": (PixelFormat.GRAY8, None),
}


def make_contract(
    size: int | tuple[int, int] | None = 256,
    crop: int | None = 224,
    *,
    color: Any = "rgb",
    filter_name: Any = "triangle",
    layout: Any = "nchw",
) -> Preprocess:
    """``size``: short side, [height, width], or none for no resize; ``crop``: side of the centre crop, or none."""
    channels = 1 if color == "gray" else 3
    rule: Any = "none" if size is None else "exact" if isinstance(size, tuple) else "short_side"
    return Preprocess(
        color=color,
        resize=Resize(rule=rule, size=size, filter=filter_name),
        crop=Crop(rule="none") if crop is None else Crop(rule="center", size=(crop, crop)),
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406)[:channels],
        std=(0.229, 0.224, 0.225)[:channels],
        layout=layout,
    )


def preprocessors(contract: Preprocess) -> list[NumpyPreprocessor | NativePreprocessor]:
    """The CPU's fast paths that this installation has: without a compiler, and compiled for each instruction set."""
    found = kernels()
    native = [] if isinstance(found, Absent) else [NativePreprocessor(contract, name) for name in found.instructions]
    return [NumpyPreprocessor(contract), *native]


def levels_apart(found: NDArray[np.uint8], frame: Frame, contract: Preprocess, expected: NDArray[np.float32]) -> float:
    """How far a picture lies from the reference at most, in levels.

    ``expected``: the reference. Compiled code cuts products off at 21 fraction bits, so that a sample that lies within
    two millionths of half a level may be rounded to 8 bit the other way; where a picture is enlarged, that can be seen.
    A distance above one is therefore counted from the references with all such samples rounded down and rounded up.
    """
    apart = float(np.abs(found - expected).max())
    if apart <= 1.0001 or not frame.format.is_yuv:
        return apart
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "ROUNDING", ROUNDING - 2e-6)
        low = reference.reference_picture(frame, contract)
        patch.setattr(reference, "ROUNDING", ROUNDING + 2e-6)
        high = reference.reference_picture(frame, contract)
    assert (high - low).max() <= 1.0001
    return float(np.maximum(low - found, found - high).max())


def noise_planes(
    pixel_format: PixelFormat, width: int, height: int, *, low: int = 0, high: int = 255, seed: int = 0
) -> list[NDArray[np.uint8]]:
    """Planes of independent noise: every edge of luma and chroma is as hard as it can be."""
    rng = np.random.default_rng(seed)
    return [rng.integers(low, high + 1, s, dtype=np.uint8) for s in plane_shapes(pixel_format, width, height)]


def block_planes(pixel_format: PixelFormat, width: int, height: int, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Planes of 8x8 blocks of extreme samples (16, 128 or 240): saturated colours with hard borders."""
    rng = np.random.default_rng(seed)
    planes = []
    for rows, columns in plane_shapes(pixel_format, width, height):
        cells = rng.choice(np.array([16, 128, 240], np.uint8), (rows // 8 + 1, columns // 8 + 1))
        planes.append(np.kron(cells, np.ones((8, 8), np.uint8))[:rows, :columns].copy())
    return planes


def clip_frames(path: Path, picks: set[int], *, siting: ChromaSiting, rotation: int = 0) -> Iterator[tuple[Frame, Any]]:
    """(frame, the decoder's ``av.VideoFrame``) for the frames numbered in ``picks``, read with plain PyAV.

    The frame's planes are those of the decoder, with its row pitch.
    """
    import av

    with av.open(str(path)) as container:
        for index, decoded in enumerate(container.decode(video=0)):
            if index in picks:
                pixel_format, color_range = DECODED_FORMATS[decoded.format.name]
                if color_range is None:
                    color_range = ColorRange.FULL if decoded.color_range == 2 else ColorRange.LIMITED
                matrix = ColorMatrix.BT601 if decoded.colorspace in (5, 6) else ColorMatrix.BT709
                planes = [np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in decoded.planes]
                size = decoded.width, decoded.height
                yield (
                    Frame.from_planes(
                        planes,
                        pixel_format,
                        *size,
                        matrix=matrix,
                        color_range=color_range,
                        siting=siting,
                        rotation=rotation,
                    ),
                    decoded,
                )
            if index >= max(picks):
                return


def video_frame(planes: list[NDArray[np.uint8]], name: str, width: int, height: int) -> Any:
    """An ``av.VideoFrame`` with these planes and no colour tags."""
    import av

    frame = av.VideoFrame(width, height, name)
    for target, plane in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)  # type: ignore[call-overload]
        rows[: plane.shape[0], : plane.shape[1]] = plane
    return frame


def swscale_rgb(frame: Any, matrix: ColorMatrix, color_range: ColorRange) -> NDArray[np.uint8]:
    """RGB of an ``av.VideoFrame`` by swscale with BILINEAR, ACCURATE_RND and FULL_CHR_H_INT, uint8 ``[H, W, 3]``.

    Chroma siting is what the decoder left on the frame; centre where it left nothing.
    """
    from av.video.reformatter import VideoReformatter

    flags = 0x2 | 0x40000 | 0x2000
    space = {ColorMatrix.BT601: 5, ColorMatrix.BT709: 1, ColorMatrix.BT2020: 9}[matrix]
    try:
        result = VideoReformatter().reformat(
            frame,
            format="rgb24",
            src_colorspace=space,
            dst_colorspace=space,
            src_color_range=1 if color_range is ColorRange.LIMITED else 2,
            dst_color_range=2,
            interpolation=flags,
        )
    except KeyError:
        pytest.skip("this release of PyAV cannot pass flags to swscale")
    return np.asarray(result.to_ndarray(), np.uint8)


def pillow_picture(rgb: NDArray[np.uint8], contract: Preprocess) -> NDArray[np.uint8]:
    """What Pillow and torchvision's rules make of an upright RGB picture, written independently of the package."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(rgb))
    if contract.color == "gray":
        image = image.convert("L")
    width, height = image.size
    size = contract.resize.size
    if isinstance(size, tuple):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    elif size is not None:
        long = int(size * max(width, height) / min(width, height))
        image = image.resize((size, long) if width <= height else (long, size), Image.Resampling.BILINEAR)
    if contract.crop.size is not None:
        out_h, out_w = contract.crop.size
        left, top = round((image.width - out_w) / 2.0), round((image.height - out_h) / 2.0)
        image = image.crop((left, top, left + out_w, top + out_h))
    result = np.asarray(image)
    result = result[..., None] if result.ndim == 2 else result
    return result[..., ::-1] if contract.color == "bgr" else result
