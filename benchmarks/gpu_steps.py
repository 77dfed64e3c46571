"""What gpu_hardware.py measures, one function a step, each with a driver of its own in a process of its own.

A step returns figures for the record; under ``failures`` it lists, in words, what is wrong. ``dry`` is set on the fake
driver: its kernel does nothing, so that results are not compared and times mean nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.cuda import conformance
from memedge_engines.cuda.driver import Driver
from memedge_engines.cuda.memory import DeviceBuffer, PinnedBuffer
from memedge_engines.cuda.pictures import PicturesToTensor
from memedge_engines.frame import ColorRange, Frame, PixelFormat, plane_shapes
from memedge_engines.kernels import image
from memedge_engines.kernels.host import Absent, kernels
from memedge_engines.manifest import Crop, InputStorage, Preprocess, Resize
from memedge_engines.preprocess import geometry, reference_picture
from memedge_engines.preprocess.native import NativePreprocessor

MIB = 1 << 20
SIZES = {"1080p": (1920, 1080), "4K": (3840, 2160)}
_IMAGENET = (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Bench:
    """A bound driver, a stream, and how much to do."""

    driver: Driver
    stream: int
    dry: bool
    small: bool

    @property
    def rounds(self) -> int:
        """Rounds of a measurement; the median counts."""
        return 2 if self.dry else 7

    def milliseconds(self, work: Callable[[], None], least_ms: float = 20.0) -> float:
        """Device time of one call: as many calls between two events as make ``least_ms``; the median of the rounds."""
        driver, stream = self.driver, self.stream
        start, stop = driver.event_create(True), driver.event_create(True)

        def timed(count: int) -> float:
            driver.event_record(start, stream)
            for _ in range(count):
                work()
            driver.event_record(stop, stream)
            driver.event_synchronize(stop)
            return driver.event_elapsed_ms(start, stop) / count

        try:
            timed(2)
            once = timed(1 if self.dry else 5)
            count = 2 if self.dry else int(min(2000, max(5, least_ms / max(once, 1e-4))))
            return statistics.median(timed(count) for _ in range(self.rounds))
        finally:
            driver.event_destroy(start)
            driver.event_destroy(stop)

    def fits(self, size: int) -> bool:
        """Whether so many bytes are a small part of what is free: a Jetson shares them with everything else."""
        return size < self.driver.memory_info()[0] // 4


def made_frame(pixel_format: PixelFormat, width: int, height: int, seed: int = 0, **fields: Any) -> Frame:
    """Waves with noise over all 256 levels; the same bytes in every run."""
    rng = np.random.default_rng(seed)
    planes = []
    for rows, columns in plane_shapes(pixel_format, width, height):
        waves = np.sin(np.arange(rows) / (31.0 + seed))[:, None] * np.cos(np.arange(columns) / 43.0)[None]
        noise = rng.integers(-40, 41, (rows, columns), dtype=np.int16)
        planes.append(np.clip(128 + 110 * waves + noise, 0, 255).astype(np.uint8))
    return Frame.from_planes(planes, pixel_format, width, height, **fields)


def contract_of(color: str = "rgb", rule: str = "short_side", levels: bool = False) -> Preprocess:
    """ImageNet's contract, or one whose tensor holds the levels themselves."""
    resize = {
        "short_side": Resize(rule="short_side", size=256),
        "exact": Resize(rule="exact", size=(120, 160)),
        "bilinear": Resize(rule="exact", size=(120, 160), filter="bilinear"),
        "none": Resize(rule="none"),
    }[rule]
    crop = Crop(rule="center", size=(224, 224)) if rule == "short_side" else Crop(rule="none")
    channels = 1 if color == "gray" else 3
    scale, mean, std = (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) if levels else _IMAGENET
    return Preprocess(color=color, resize=resize, crop=crop, scale=scale, mean=mean[:channels], std=std[:channels])  # type: ignore[arg-type]


@contextmanager
def maker_of(
    bench: Bench, contract: Preprocess, storage: InputStorage | None, max_batch: int, mapped: bool = False
) -> Iterator[PicturesToTensor]:
    """A maker that is closed when nothing is queued any more."""
    maker = PicturesToTensor(bench.driver, contract, storage, max_batch=max_batch, mapped=mapped)
    try:
        yield maker
    finally:
        bench.driver.stream_synchronize(bench.stream)
        maker.close()


def tensor_bytes(maker: PicturesToTensor, frames: list[Frame], dtype: np.dtype[Any]) -> int:
    """Size of the tensor of these frames."""
    return len(frames) * int(np.prod(maker.picture_shape(frames[0]))) * dtype.itemsize


def dtype_of(storage: InputStorage | None) -> np.dtype[Any]:
    """The tensor's element."""
    return np.dtype(storage.dtype if storage is not None else "float32")


def on_gpu(bench: Bench, contract: Preprocess, storage: InputStorage | None, frames: list[Frame]) -> NDArray[Any]:
    """The tensor of the frames, made by the kernel in one launch."""
    dtype = dtype_of(storage)
    with maker_of(bench, contract, storage, len(frames)) as maker:
        size = tensor_bytes(maker, frames, dtype)
        with DeviceBuffer(bench.driver, size) as target, PinnedBuffer(bench.driver, size) as host:
            maker.enqueue(0, frames, target.address, bench.stream)
            bench.driver.copy_to_host(host.address, target.address, size, bench.stream)
            bench.driver.stream_synchronize(bench.stream)
            return host.array.view(dtype).reshape(len(frames), *maker.picture_shape(frames[0])).copy()


def device_step(bench: Bench) -> dict[str, Any]:
    """The device, and how long the driver takes to make the kernel's PTX ready."""
    driver = bench.driver
    info = driver.devices()[0]
    started = time.perf_counter()
    module = driver.module_load(image.ptx())
    seconds = time.perf_counter() - started
    driver.module_unload(module)
    free, total = driver.memory_info()
    return {
        "name": info.name,
        "capability": f"{info.capability[0]}.{info.capability[1]}",
        "multiprocessors": info.multiprocessors,
        "memory_mib": total // MIB,
        "free_mib": free // MIB,
        "integrated": info.integrated,
        "maps_host_memory": info.can_map_host,
        "cuda": f"{driver.version() // 1000}.{driver.version() % 1000 // 10}",
        "provider": driver.name,
        "ptx_load_ms": seconds * 1e3,
    }


def conformance_step(bench: Bench) -> dict[str, Any]:
    """The seam's own checks on this driver."""
    found = conformance.run_checks(bench.driver)
    failures = [f"{name}: {reason}" for name, reason in found.items() if reason]
    # The fake is given no kernel that works.
    return {"checks": {name: reason or "passed" for name, reason in found.items()},
            "failures": [] if bench.dry else failures}  # fmt: skip


def _cases(small: bool) -> Iterator[tuple[str, str, str, list[Frame]]]:
    """Name, the contract's colour and resize rule, frames of one launch."""
    sizes = [(641, 479)] if small else [(1920, 1080), (641, 479), (97, 61)]
    for pixel_format in PixelFormat:
        for width, height in sizes:
            for rotation in (0,) if small else (0, 90, 180):
                fields = {"rotation": rotation, "color_range": ColorRange.FULL if rotation else ColorRange.LIMITED}
                frames = [made_frame(pixel_format, width, height, seed, **fields) for seed in range(2)]
                yield f"{pixel_format.value} {width}x{height} turned {rotation}", "rgb", "short_side", frames
    frames = [made_frame(PixelFormat.NV12, 323, 243)]
    for color, rule in (("bgr", "short_side"), ("gray", "exact"), ("rgb", "bilinear"), ("rgb", "none")):
        yield f"nv12 323x243, {color}, {rule}", color, rule, frames


def kernel_step(bench: Bench) -> dict[str, Any]:
    """The kernel in all formats: its bytes against the CPU path's, its levels against the float reference."""
    failures: list[str] = []
    largest, compared = 0.0, 0
    absent = kernels()
    for name, color, rule, frames in _cases(bench.small or bench.dry):
        contract, levels = contract_of(color, rule), contract_of(color, rule, levels=True)
        for storage in (None, InputStorage(dtype="float16"), InputStorage(dtype="int8", scale=2.7 / 127)):
            made = on_gpu(bench, contract, storage, frames)
            if bench.dry or isinstance(absent, Absent):
                continue
            host = NativePreprocessor(contract)
            wanted = np.concatenate([host.tensor(frame, storage) for frame in frames]).reshape(made.shape)
            compared += 1
            if made.tobytes() != wanted.tobytes():
                wrong = int((made != wanted).sum())
                failures.append(f"{name}, {made.dtype}: {wrong} of {made.size} values differ from the CPU path")
        picture = on_gpu(bench, levels, None, frames[:1])[0].transpose(1, 2, 0)
        if not bench.dry:
            distance = float(np.abs(picture - reference_picture(frames[0], levels)).max())
            largest = max(largest, distance)
            if not distance <= 1.0:
                failures.append(f"{name}: {distance:.2f} levels from the float reference")
    return {
        "tensors_equal_to_cpu_path": compared - sum("CPU path" in text for text in failures),
        "tensors_compared": compared,
        "not_compared_because": absent.reason if isinstance(absent, Absent) else "",
        "largest_difference_levels": largest,
        "failures": failures,
    }


def copy_bandwidth(bench: Bench) -> float:
    """GB/s of a copy within device memory, reading and writing counted."""
    size = MIB if bench.dry else 256 * MIB
    while not bench.fits(2 * size):
        size //= 2
    with DeviceBuffer(bench.driver, size) as source, DeviceBuffer(bench.driver, size) as target:
        took = bench.milliseconds(
            lambda: bench.driver.copy_on_device(target.address, source.address, size, bench.stream)
        )
        bench.driver.stream_synchronize(bench.stream)
    return 2 * size / max(took, 1e-9) / 1e6


def speed_step(bench: Bench) -> dict[str, Any]:
    """The kernel alone, frames on the device already, beside the copy bandwidth of the same run."""
    copy = copy_bandwidth(bench)
    rows = []
    for size_name, (width, height) in list(SIZES.items())[: 1 if bench.dry else None]:
        for pixel_format in (PixelFormat.NV12, PixelFormat.RGB24):
            source = sum(rows_ * columns for rows_, columns in plane_shapes(pixel_format, width, height))
            frame = made_frame(pixel_format, width, height)
            for batch in (1, 2) if bench.dry else (1, 8, 64):
                row: dict[str, Any] = {"frames": batch, "size": size_name, "format": pixel_format.value}
                rows.append(row)
                if not bench.fits(4 * batch * source):
                    row["left_out"] = "too little memory"
                    continue
                storage = InputStorage(dtype="float16")
                with maker_of(bench, contract_of(), storage, batch) as maker:
                    frames = [frame] * batch
                    target_size = tensor_bytes(maker, frames, dtype_of(storage))
                    with DeviceBuffer(bench.driver, target_size) as target:
                        maker.enqueue(0, frames, target.address, bench.stream)
                        bench.driver.stream_synchronize(bench.stream)
                        took = bench.milliseconds(lambda: maker.launch(0, bench.stream))
                        bench.driver.stream_synchronize(bench.stream)
                moved = batch * _read_bytes(frame, pixel_format) + target_size
                row |= {
                    "ms": took,
                    "us_per_frame": took * 1e3 / batch,
                    "gb_s": moved / max(took, 1e-9) / 1e6,
                    "of_copy_bandwidth": moved / max(took, 1e-9) / 1e6 / copy,
                }
    return {"copy_gb_s": copy, "rows": rows}


def _read_bytes(frame: Frame, pixel_format: PixelFormat) -> int:
    """Bytes of the source that the centre crop needs: its columns, all of its rows' share."""
    shape = geometry(contract_of(), *frame.display_size)
    part = (shape.out_w / shape.resized_w) * (shape.out_h / shape.resized_h)
    planes = plane_shapes(pixel_format, frame.width, frame.height)
    return int(part * sum(rows * columns for rows, columns in planes))


def graph_step(bench: Bench) -> dict[str, Any]:
    """One frame's kernel and read-back: call by call, and replayed as one graph."""
    driver, stream = bench.driver, bench.stream
    frame = made_frame(PixelFormat.NV12, *SIZES["1080p"])
    with maker_of(bench, contract_of(), None, 1) as maker:
        size = tensor_bytes(maker, [frame], np.dtype(np.float32))
        with DeviceBuffer(driver, size) as target, PinnedBuffer(driver, size) as host:
            maker.enqueue(0, [frame], target.address, stream)

            def work() -> None:
                maker.launch(0, stream)
                driver.copy_to_host(host.address, target.address, 4096, stream)

            work()
            driver.stream_synchronize(stream)
            before = host.array[:4096].copy()
            driver.capture_begin(stream)
            work()
            graph = driver.capture_end(stream)
            executable = driver.graph_instantiate(graph)
            driver.graph_destroy(graph)
            host.array[:] = 0
            driver.graph_launch(executable, stream)
            driver.stream_synchronize(stream)
            same = bool(np.array_equal(host.array[:4096], before))
            result = {
                "plain": _queued(bench, work),
                "replayed": _queued(bench, lambda: driver.graph_launch(executable, stream)),
                "same_bytes": same,
            }
            driver.executable_destroy(executable)
    return {**result, "failures": [] if same else ["a replay gives other bytes than the calls it was made of"]}


def _queued(bench: Bench, work: Callable[[], None]) -> dict[str, float]:
    """Microseconds: on the device, for the calling thread to queue it, and from queueing to knowing that it is done."""
    driver, stream = bench.driver, bench.stream
    event = driver.event_create()
    count = 3 if bench.dry else 200
    queueing, whole = [], []
    for _ in range(count):
        began = time.perf_counter()
        work()
        driver.event_record(event, stream)
        queueing.append(time.perf_counter() - began)
        driver.event_synchronize(event)
        whole.append(time.perf_counter() - began)
    device = bench.milliseconds(work)
    driver.event_destroy(event)
    return {
        "device_us": device * 1e3,
        "queue_us": statistics.median(queueing) * 1e6,
        "round_trip_us": statistics.median(whole) * 1e6,
        "round_trip_p99_us": float(np.percentile(whole, 99)) * 1e6,
    }


def memory_step(bench: Bench) -> dict[str, Any]:
    """A 1080p NV12 frame from ordinary, page-locked and mapped memory: copies alone, and all the way to the tensor."""
    driver, stream = bench.driver, bench.stream
    frame = made_frame(PixelFormat.NV12, *SIZES["1080p"])
    joined = np.concatenate([plane.reshape(-1) for plane in frame.host_planes()])
    size = joined.size
    found: dict[str, Any] = {"frame_bytes": size}
    with DeviceBuffer(driver, size) as device, PinnedBuffer(driver, size) as host:
        host.array[:] = joined
        for name, address in (("ordinary", joined.ctypes.data), ("page-locked", host.address)):
            took = bench.milliseconds(lambda a=address: driver.copy_to_device(device.address, a, size, stream))
            found[f"copy from {name} memory, ms"] = took
        took = bench.milliseconds(lambda: driver.copy_to_host(host.address, device.address, size, stream))
        found["copy to page-locked memory, ms"] = took
        driver.stream_synchronize(stream)
    ways = {"copied": False} | ({"mapped": True} if driver.devices()[0].can_map_host else {})
    for name, mapped in ways.items():
        target = DeviceBuffer(driver, 3 * 224 * 224 * 4)
        with target, maker_of(bench, contract_of(), None, 1, mapped) as maker:
            maker.enqueue(0, [frame], target.address, stream)
            driver.stream_synchronize(stream)

            def work(maker: PicturesToTensor = maker) -> None:
                maker.upload(0, stream)
                maker.launch(0, stream)

            found[f"{name}: upload and kernel, ms"] = bench.milliseconds(work)
            driver.stream_synchronize(stream)
            began = time.perf_counter()
            for _ in range(10):
                maker.prepare(0, [frame], target.address)
            found[f"{name}: host's part, ms"] = (time.perf_counter() - began) * 100
    return found


STEPS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "device": device_step,
    "conformance": conformance_step,
    "kernel": kernel_step,
    "speed": speed_step,
    "graph": graph_step,
    "memory": memory_step,
}


def idle(driver: Any, grid: Any, block: Any, arguments: Any, shared_bytes: int) -> None:
    """The fake's kernel: nothing."""


def run(name: str, provider: str, dry: bool, small: bool) -> dict[str, Any]:
    """One step on a driver of its own."""
    if dry:
        from memedge_engines.cuda.fake import FakeDriver

        driver: Driver = FakeDriver({image.NAME: idle, conformance.KERNEL: conformance.scale})
        driver.retain(0)
        driver.bind()
    else:
        from memedge_engines.cuda.opening import open_driver

        driver = open_driver(provider=provider)
    stream = driver.stream_create()
    found = STEPS[name](Bench(driver, stream, dry, small))
    driver.stream_destroy(stream)
    driver.release()
    return found
