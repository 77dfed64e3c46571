"""Times the preprocess contract on one picture, on one core: fast paths, float reference, Pillow, OpenCV, torch.

    python benchmarks/bench_preprocess.py [--size 1920x1080] [--short-side 256] [--crop 224] [--out FILE.json]

Every way starts from a frame in memory (planes of a seeded pattern with noise) and ends with the uint8 picture. The
ways take turns, so that caches are as cold as in a real loop. ``level`` and ``mean`` are the largest and the mean
difference from the float reference. OpenCV, torch and swscale are set to one thread; the others have one. The compiled
path is timed with each instruction set of the processor; the last one is what scoring uses. Nothing is written unless
``--out`` is given (committed results lie in benchmarks/results/).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import Frame, PixelFormat, plane_shapes
from memedge_engines.kernels.host import Absent, kernels
from memedge_engines.manifest import Crop, Preprocess, Resize
from memedge_engines.preprocess import Preprocessor, geometry, reference_picture, reference_rgb, to_rgb, to_tensor
from memedge_engines.preprocess.fast import NumpyPreprocessor
from memedge_engines.preprocess.native import NativePreprocessor

Bytes = NDArray[np.uint8]
Work = Callable[[], Any]


def made_frame(pixel_format: PixelFormat, width: int, height: int) -> Frame:
    """Smooth waves with noise of sigma 4, in legal levels; the same bytes in every run."""
    rng = np.random.default_rng(7)
    planes = []
    for rows, columns in plane_shapes(pixel_format, width, height):
        waves = np.sin(np.arange(rows) / 37.0)[:, None] * np.cos(np.arange(columns) / 53.0)[None]
        planes.append(np.clip(126 + 80 * waves + rng.normal(0, 4, (rows, columns)), 16, 235).astype(np.uint8))
    return Frame.from_planes(planes, pixel_format, width, height)


def contract_of(short_side: int, crop: int) -> Preprocess:
    """ImageNet's contract; ``crop`` 0: no crop."""
    return Preprocess(
        color="rgb",
        resize=Resize(rule="short_side", size=short_side),
        crop=Crop(rule="center", size=(crop, crop)) if crop else Crop(rule="none"),
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def pillow_work(rgb: Bytes, contract: Preprocess) -> Callable[[], Bytes]:
    """Pillow as a user writes it: the whole picture resized, then cropped."""
    from PIL import Image

    shape = geometry(contract, rgb.shape[1], rgb.shape[0])
    box = (shape.left, shape.top, shape.left + shape.out_w, shape.top + shape.out_h)

    def work() -> Bytes:
        image = Image.fromarray(rgb).resize((shape.resized_w, shape.resized_h), Image.Resampling.BILINEAR)
        return np.asarray(image.crop(box))

    return work


def opencv_work(rgb: Bytes, contract: Preprocess, interpolation: str) -> Callable[[], Bytes] | None:
    """OpenCV's resize with one thread, or none where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    shape = geometry(contract, rgb.shape[1], rgb.shape[0])
    flag = getattr(cv2, interpolation)

    def work() -> Bytes:
        resized = cv2.resize(rgb, (shape.resized_w, shape.resized_h), interpolation=flag)
        cut = resized[shape.top : shape.top + shape.out_h, shape.left : shape.left + shape.out_w]
        return np.asarray(cut, np.uint8)

    return work


def torch_work(rgb: Bytes, contract: Preprocess) -> Callable[[], Bytes] | None:
    """torch's antialiased uint8 resize, which torchvision's transforms call, with one thread; none without torch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    shape = geometry(contract, rgb.shape[1], rgb.shape[0])
    batch = torch.from_numpy(rgb).permute(2, 0, 1)[None]

    def work() -> Bytes:
        resized = torch.nn.functional.interpolate(
            batch, (shape.resized_h, shape.resized_w), mode="bilinear", antialias=True, align_corners=False
        )
        cut = resized[0, :, shape.top : shape.top + shape.out_h, shape.left : shape.left + shape.out_w]
        return np.asarray(cut.permute(1, 2, 0).contiguous())

    return work


def swscale_work(frame: Frame) -> Callable[[], Any] | None:
    """swscale with the accurate flags, one thread, from a frame that PyAV already holds."""
    try:
        import av
        from av.video.reformatter import VideoReformatter
    except ImportError:
        return None
    picture = av.VideoFrame(frame.width, frame.height, frame.format.value)
    for target, plane in zip(picture.planes, frame.host_planes(), strict=True):
        rows = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)  # type: ignore[call-overload]
        rows[: plane.shape[0], : plane.shape[1]] = plane
    reformatter = VideoReformatter()
    options: dict[str, Any] = {"interpolation": 0x2 | 0x40000 | 0x2000, "src_color_range": 1, "dst_color_range": 2}

    def work() -> Any:
        return reformatter.reformat(picture, format="rgb24", src_colorspace=1, dst_colorspace=1, threads=1, **options)

    try:
        work()
    except (KeyError, TypeError):  # older releases of PyAV take neither flags nor a number of threads
        return None
    return work


def measure(works: dict[str, Work], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Milliseconds of each work in each round; the works take turns, so that a busy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warmup + rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number >= warmup:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def statistics(samples: list[float]) -> dict[str, float]:
    """min, p50, p90, p99 and max in milliseconds."""
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    values = {"min": min(samples), "p50": p50, "p90": p90, "p99": p99, "max": max(samples)}
    return {name: round(float(value), 3) for name, value in values.items()}


def makers(contract: Preprocess) -> list[NumpyPreprocessor | NativePreprocessor]:
    """The fast paths that are there: compiled for each instruction set, and without a compiler."""
    found = kernels()
    if isinstance(found, Absent):
        print(f"no compiled path: {found.reason} ({found.fix})", file=sys.stderr)
        return [NumpyPreprocessor(contract)]
    return [NumpyPreprocessor(contract), *(NativePreprocessor(contract, name) for name in found.instructions)]


def run(width: int, height: int, contract: Preprocess, rounds: int, warmup: int) -> list[dict[str, Any]]:
    """One row a step: name, what it starts from, statistics, largest difference from the float reference."""
    frames = {f.value: made_frame(f, width, height) for f in (PixelFormat.I420, PixelFormat.NV12)}
    yuv = frames[PixelFormat.I420.value]
    rgb_array = reference_rgb(yuv)
    frames["rgb24"] = Frame.from_rgb(rgb_array)
    works: dict[str, Work | None] = {}
    compared = set()
    for maker in makers(contract):
        for name, frame in frames.items():
            works[f"{maker.name}, {name} to picture"] = _on(maker.picture, frame)
            if name != PixelFormat.NV12.value:  # another noise
                compared.add(f"{maker.name}, {name} to picture")
            if isinstance(maker, NativePreprocessor):
                works[f"{maker.name}, {name} to tensor"] = _on(maker.tensor, frame)
    picture = Preprocessor(contract).picture(yuv)
    peers: dict[str, Work | None] = {
        "Pillow, rgb24 to picture": pillow_work(rgb_array, contract),
        "torch antialias uint8, rgb24 to picture": torch_work(rgb_array, contract),
        "OpenCV INTER_LINEAR, rgb24 to picture": opencv_work(rgb_array, contract, "INTER_LINEAR"),
        "OpenCV INTER_AREA, rgb24 to picture": opencv_work(rgb_array, contract, "INTER_AREA"),
    }
    works |= peers | {
        f"step: whole frame to RGB, {Preprocessor(contract).name}": lambda: to_rgb(yuv),
        "step: whole frame to RGB, swscale accurate": swscale_work(yuv),
        "step: picture to tensor, NumPy": lambda: to_tensor([picture], contract),
    }
    present = {name: work for name, work in works.items() if work is not None}
    times = measure(present, rounds, warmup)
    slow = {"float reference, yuv420p to picture": lambda: reference_picture(yuv, contract)}
    times |= measure(slow, max(3, rounds // 10), 1)
    expected = reference_picture(yuv, contract)
    rows = []
    for name, samples in times.items():
        row: dict[str, Any] = {"step": name, "ms": statistics(samples), "samples": len(samples)}
        if name in present and (name in compared or name in peers):
            difference = np.abs(present[name]() - expected)
            row |= {"level": round(float(difference.max()), 2), "mean_level": round(float(difference.mean()), 3)}
        rows.append(row)
    return rows


def _on(work: Callable[[Frame], Any], frame: Frame) -> Work:
    return lambda: work(frame)


def environment() -> dict[str, str]:
    """What the numbers depend on."""
    import PIL

    found = {"python": platform.python_version(), "numpy": np.__version__, "pillow": PIL.__version__}
    for name in ("av", "cv2", "torch"):
        module = sys.modules.get(name)
        found[name] = getattr(module, "__version__", "absent") if module else "absent"
    return found | {"machine": platform.machine(), "system": platform.system()}


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line a step, milliseconds."""
    columns = ("min", "p50", "p90", "p99", "max")
    print(f"{'step (ms)':<44}" + "".join(f"{c:>9}" for c in columns) + f"{'level':>8}{'mean':>8}{'n':>6}")
    for row in rows:
        numbers = "".join(f"{row['ms'][c]:>9.2f}" for c in columns)
        print(f"{row['step']:<44}{numbers}{row.get('level', ''):>8}{row.get('mean_level', ''):>8}{row['samples']:>6}")


def parse_size(text: str) -> tuple[int, int]:
    """``1920x1080`` to (1920, 1080)."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}'; expected WIDTHxHEIGHT")
    return int(width), int(height)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}'; expected a whole number of at least 1")
    return int(text)


def main() -> None:
    """Measure, print and, when asked, write."""
    parser = argparse.ArgumentParser(description="Times of the preprocess contract on one core.")
    parser.add_argument("--size", type=parse_size, default=(1920, 1080), metavar="WxH")
    parser.add_argument("--short-side", type=positive, default=256)
    parser.add_argument("--crop", type=int, default=224, help="side of the centre crop; 0: none")
    parser.add_argument("--rounds", type=positive, default=40)
    parser.add_argument("--warmup", type=positive, default=5)
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    options = parser.parse_args()
    width, height = options.size
    rows = run(width, height, contract_of(options.short_side, options.crop), options.rounds, options.warmup)
    crop = f", crop {options.crop}" if options.crop else ""
    print(f"{width}x{height} to short side {options.short_side}{crop}; {options.warmup} rounds of warm-up")
    print_table(rows)
    if options.out is not None:
        result = {
            "size": [width, height],
            "short_side": options.short_side,
            "crop": options.crop,
            "warmup": options.warmup,
            "environment": environment(),
            "rows": rows,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
        print(f"wrote {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
