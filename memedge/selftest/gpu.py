"""Steps for a machine with a GPU, in the order in which a failing one explains the next."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memedge_engines import golden
from memedge_engines.bundle import Bundle
from memedge_engines.cuda import shared
from memedge_engines.cuda.driver import Driver
from memedge_engines.cuda.memory import DeviceBuffer, PinnedBuffer
from memedge_engines.frame import Frame, PixelFormat
from memedge_engines.plans import builder, inspection, library
from memedge_engines.plans.machine import Machine
from memedge_engines.plans.profile import Profile
from memedge_engines.plans.runtime import LoadedPlan

from ..scorer import Scorer
from .frames import Pictures, generated, level_contract
from .network import SHAPE, small_network
from .report import Failed, Skipped, Step

DRIVER, SEAM, KERNEL = "driver", "driver calls", "kernel"
TENSORRT, SMALL, GRAPH = "TensorRT", "small network", "CUDA graph"
PLAN, GOLDEN, TIMES = "plan", "golden frames, tensorrt", "timings"
_REPORT = "report it with these lines"
_BATCH = 2
# fp32 without TF32 on both sides; sums of 27 products in another order.
_SMALL_TOLERANCE = 1e-4
_WARM_UP, _ROUNDS, _TIMING_S = 5, 60, 5.0
_T = TypeVar("_T")


def gpu_steps(bundle: Bundle) -> list[Step]:
    """The steps. What one of them made, another may use, but none relies on it: each can be run alone."""
    small = _SmallNetwork()
    return [
        Step(DRIVER, _driver),
        Step(SEAM, _seam, (DRIVER,)),
        Step(KERNEL, lambda: _kernel(bundle), (DRIVER,)),
        Step(TENSORRT, _tensorrt, (DRIVER,)),
        Step(SMALL, small.compare, (TENSORRT,)),
        Step(GRAPH, small.replay, (SMALL,)),
        Step(PLAN, lambda: _plan(bundle), (TENSORRT,)),
        Step(GOLDEN, lambda: _golden(bundle), (PLAN,)),
        Step(TIMES, lambda: _timings(bundle), (PLAN,)),
    ]


@contextmanager
def _device() -> Iterator[Callable[[Callable[[Driver], _T]], _T]]:
    """Runs work in the thread that owns the device."""
    worker = shared.hold()
    try:
        yield lambda work: worker.call(lambda: work(worker.driver))
    finally:
        shared.let_go(worker)


def _driver() -> str:
    from memedge_engines.cuda.opening import load_driver

    driver = load_driver()
    version = driver.version()
    devices = driver.devices()
    if not devices:
        raise Failed("the driver shows no device to this process", fix="nvidia-smi -L; check CUDA_VISIBLE_DEVICES")
    named = "; ".join(
        f"{d.name} (sm_{d.sm}, {d.multiprocessors} SMs, {d.memory_bytes / 2**30:.1f} GiB"
        f"{', integrated' if d.integrated else ''})"
        for d in devices
    )
    graphs = "" if driver.graphs else ", without CUDA graphs"
    return f"CUDA {version // 1000}.{version % 1000 // 10} through {driver.name}{graphs}: {named}"


def _seam() -> str:
    from memedge_engines.cuda import conformance

    with _device() as on_device:
        found = on_device(conformance.run_checks)
    bad = {name: reason for name, reason in found.items() if reason}
    if bad:
        raise Failed("; ".join(f"{name}: {reason}" for name, reason in bad.items()), fix=_REPORT)
    return f"{len(found)} checks passed: {', '.join(found)}"


def _kernel(bundle: Bundle) -> str:
    pictures = Pictures(level_contract(bundle))

    def work(driver: Driver) -> str:
        from memedge_engines.cuda.pictures import PicturesToTensor

        stream = driver.stream_create()
        maker = PicturesToTensor(driver, pictures.contract)

        def picture(frame: Frame) -> NDArray[np.float32]:
            shape = maker.picture_shape(frame)
            with DeviceBuffer(driver, 4 * int(np.prod(shape))) as target:
                maker.enqueue(0, [frame], target.address, stream)
                return _read(driver, stream, target).view(np.float32).reshape(shape).transpose(1, 2, 0)

        try:
            return pictures.compare(picture)
        finally:
            driver.stream_synchronize(stream)
            maker.close()
            driver.stream_destroy(stream)

    with _device() as on_device:
        return on_device(work)


def _read(driver: Driver, stream: int, buffer: DeviceBuffer) -> NDArray[np.uint8]:
    """A device buffer's bytes, once everything before is done."""
    with PinnedBuffer(driver, buffer.size) as host:
        driver.copy_to_host(host.address, buffer.address, buffer.size, stream)
        driver.stream_synchronize(stream)
        return host.array[: buffer.size].copy()


def _tensorrt() -> str:
    trt = library.tensorrt()
    machine = Machine.here(trt)
    return f"TensorRT {trt.__version__} for {machine.gpu} (sm {machine.sm}) on {machine.system} {machine.arch}"


class _SmallNetwork:
    """The small graph's plan, built when first wanted."""

    def __init__(self) -> None:
        self._built: builder.Built | None = None

    def compare(self) -> str:
        """TensorRT's numbers beside ONNX Runtime's on the CPU."""
        plan = self._plan()
        apart = self._run(lambda runner: _largest(runner.plain(_input(n)) - _expected(n) for n in range(2)))
        layers = inspection.inspect_plan(library.tensorrt(), library.logger(library.tensorrt()), plan.plan)
        told = f", {layers.total} layers" if layers is not None else ""
        text = f"built in {plan.seconds:.1f} s{told}; differs from ONNX Runtime on the CPU by {apart:.2g}"
        if not apart <= _SMALL_TOLERANCE:
            raise Failed(f"{text} (tolerance {_SMALL_TOLERANCE:g})", fix=_REPORT)
        return text

    def replay(self) -> str:
        """A captured inference replayed with other pictures, beside the same calls made one by one."""

        def work(runner: _Runner) -> float:
            if not runner.driver.graphs:
                raise Skipped(f"{runner.driver.name} has no CUDA graphs", "pip install 'memedge[cuda]'")
            plain = [runner.plain(_input(n)) for n in range(3)]
            with runner.captured() as replay:
                return _largest(replay(_input(n)) - plain[n] for n in range(3))

        apart = self._run(work)
        if apart != 0.0:
            raise Failed(f"a replayed inference differs from the same calls by {apart:.2g}", fix=_REPORT)
        return "three replays of one captured inference give the bytes of the same calls made one by one"

    def _plan(self) -> builder.Built:
        if self._built is None:
            trt = library.tensorrt()
            profile = Profile(max_batch=_BATCH, opt_batch=_BATCH, workspace_mib=256)
            self._built = builder.build(small_network(), "fp32", profile, Machine.here(trt), trt=trt)
        return self._built

    def _run(self, work: Callable[[_Runner], _T]) -> _T:
        data = self._plan().plan

        def in_thread(driver: Driver) -> _T:
            with _Runner(driver, data) as runner:
                return work(runner)

        with _device() as on_device:
            return on_device(in_thread)


def _input(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).random((_BATCH, *SHAPE), np.float32)


def _largest(differences: Iterable[NDArray[np.float32]]) -> float:
    """Largest of all differences; not a number where one is not."""
    return float(np.max([np.abs(one).max() for one in differences]))


def _expected(number: int) -> NDArray[np.float32]:
    import onnxruntime as ort

    from memedge_engines.backends.onnxruntime import session_options

    session = ort.InferenceSession(small_network(), session_options(1), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"frames": _input(number)})[0]
    return found


class _Runner:
    """The small plan with its buffers, in the device's thread."""

    def __init__(self, driver: Driver, data: bytes) -> None:
        self.driver = driver
        self._plan = LoadedPlan(library.tensorrt(), data, "small network")
        self._context = self._plan.context()
        shape = (_BATCH, *SHAPE)
        self._shape = self._context.shape({"frames": shape})["score"]
        self._host = PinnedBuffer(driver, 4 * int(np.prod(shape)))
        self._given = DeviceBuffer(driver, self._host.size)
        self._made = DeviceBuffer(driver, 4 * int(np.prod(self._shape)))
        self._stream = driver.stream_create()
        self._context.address({"frames": self._given.address, "score": self._made.address})

    def _queue(self) -> None:
        self.driver.copy_to_device(self._given.address, self._host.address, self._host.size, self._stream)
        self._context.enqueue(self._stream)

    def _result(self) -> NDArray[np.float32]:
        return _read(self.driver, self._stream, self._made)[: 4 * int(np.prod(self._shape))].view(np.float32)

    def plain(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """One inference, call by call."""
        self._host.array[: frames.nbytes] = frames.view(np.uint8).reshape(-1)
        self._queue()
        return self._result().reshape(self._shape).copy()

    @contextmanager
    def captured(self) -> Iterator[Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
        """The same as one graph, captured once; it must have run plainly before."""
        driver = self.driver
        driver.capture_begin(self._stream)
        try:
            self._queue()
        finally:
            graph = driver.capture_end(self._stream)
        executable = driver.graph_instantiate(graph)
        driver.graph_destroy(graph)

        def replay(frames: NDArray[np.float32]) -> NDArray[np.float32]:
            self._host.array[: frames.nbytes] = frames.view(np.uint8).reshape(-1)
            driver.graph_launch(executable, self._stream)
            return self._result().reshape(self._shape).copy()

        try:
            yield replay
        finally:
            driver.stream_synchronize(self._stream)
            driver.executable_destroy(executable)

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *unused: object) -> None:
        self.driver.stream_synchronize(self._stream)
        self._context.close()
        self._plan.close()
        for buffer in (self._host, self._given, self._made):
            buffer.close()
        self.driver.stream_destroy(self._stream)


def _plan(bundle: Bundle) -> str:
    from ..building import build

    report = build(bundle)
    return "; ".join(line.strip() for line in report.lines() if not line.startswith("  plan: "))


def _golden(bundle: Bundle) -> str:
    frames = golden.read(bundle)
    with Scorer(bundle, "tensorrt") as ours, Scorer(bundle, "onnxruntime", "fp32") as theirs:
        found = [ours.score(picture).targets for picture in frames.frames]
        beside = [theirs.score(picture).targets for picture in frames.frames]
        lowering, engine = ours.executor.lowering, f"{ours.engine} {ours.precision}"
    differences = golden.check_scores(bundle, frames, lowering, found)
    apart = float(np.max([abs(a[name] - b[name]) for a, b in zip(found, beside, strict=True) for name in a]))
    told = ", ".join(f"{d.target} differs by {d.largest:.2g} (tolerance {d.tolerance:g})" for d in differences)
    text = f"{engine}: {told} from the recorded scores; by at most {apart:.2g} from onnxruntime fp32 here"
    if not all(d.passed for d in differences):
        raise Failed(text, fix=_REPORT)
    return text


def _timings(bundle: Bundle) -> str:
    notes: list[str] = []
    frame = generated(PixelFormat.NV12, 1920, 1080)
    told = []
    for engine in ("tensorrt", "onnxruntime"):
        with Scorer(bundle, engine, tell=notes.append) as scorer:
            times = _frame_times(scorer, frame)
            told.append(
                f"{engine} {scorer.precision}: median {statistics.median(times):.2f} ms, p90 "
                f"{sorted(times)[int(0.9 * (len(times) - 1))]:.2f} ms over {len(times)} frames"
            )
    return "1080p NV12 frame to score: " + "; ".join([*told, *notes])


def _frame_times(scorer: Scorer, frame: Frame) -> list[float]:
    """Milliseconds of single frames from submission to score, at most 60 and about 5 s."""
    executor = scorer.executor
    # So far apart that every node is due at every frame.
    step_s = max([1.0, *(node.period_s for node in scorer.manifest.nodes)])
    executor.open_stream("selftest")
    times: list[float] = []
    try:
        until = time.monotonic() + _TIMING_S
        for number in range(_WARM_UP + _ROUNDS):
            frame.index, frame.pts_s, frame.duration_s = number, number * step_s, step_s
            began = time.perf_counter()
            executor.submit([("selftest", frame)]).result()
            if number >= _WARM_UP:
                times.append((time.perf_counter() - began) * 1e3)
            if times and time.monotonic() > until:
                break
    finally:
        executor.close_stream("selftest")
    return times
