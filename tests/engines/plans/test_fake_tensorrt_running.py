"""Engines of the fake TensorRT on the fake driver: asynchrony, captures, order, refusals."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fake_tensorrt import Misuse, fake_tensorrt
from helpers_plans import DEFAULT, conv, machine
from memedge_engines import golden
from memedge_engines.bundle import Bundle
from memedge_engines.cuda.fake import FakeDriver, FakeDriverMisuse
from memedge_engines.errors import CudaError
from memedge_engines.plans import builder, classify, library
from memedge_engines.plans.profile import Profile


class Bench:
    """One engine of the 1x1 convolution by ones, its buffers and a stream, on a bound fake driver."""

    def __init__(self, version: str = "10.3", model: bytes | None = None, **options: Any) -> None:
        self.driver = FakeDriver(late=True)
        self.trt = fake_tensorrt(version, driver=self.driver, **options)
        self.driver.retain(0)
        self.driver.bind()
        made = builder.build(model or conv(), "fp32", Profile(max_batch=4), machine(), trt=self.trt)
        runtime = self.trt.Runtime(library.logger(self.trt))
        self.engine = runtime.deserialize_cuda_engine(made.plan)
        self.context = self.engine.create_execution_context()
        self.stream = self.driver.stream_create()
        self.source = self.driver.device_alloc(4 * 3 * 256 * 4)
        self.target = self.driver.device_alloc(4 * 4 * 256 * 4)

    def ready(self, batch: int = 2) -> None:
        assert self.context.set_input_shape("frames", (batch, 3, 16, 16)) is True
        assert self.context.infer_shapes() == []
        assert self.context.set_tensor_address("frames", self.source) is True
        assert self.context.set_tensor_address("score", self.target) is True

    def fill(self, batch: int = 2, seed: int = 0) -> np.ndarray:
        frames = np.random.default_rng(seed).random((batch, 3, 16, 16), np.float32)
        self.driver.memory(self.source, frames.nbytes)[:] = frames.view(np.uint8).reshape(-1)
        return np.repeat(frames.sum(1, keepdims=True), 4, 1)

    def result(self, batch: int = 2) -> np.ndarray:
        data = self.driver.memory(self.target, batch * 4 * 256 * 4)
        return data.view(np.float32).reshape(batch, 4, 16, 16)

    def run(self) -> bool:
        answer: bool = self.context.execute_async_v3(self.stream)
        return answer

    def said(self) -> str:
        return str(self.trt.fake.said[-1][1])


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    if made.driver._device is not None:
        made.driver.stream_synchronize(made.stream)


@pytest.mark.parametrize("version", ["10.3", "10.16", "11.4"])
def test_nothing_happens_before_somebody_waits(version: str) -> None:
    bench = Bench(version)
    bench.ready()
    expected = bench.fill()
    assert bench.run() is True
    assert not np.allclose(bench.result(), expected)
    bench.driver.stream_synchronize(bench.stream)
    np.testing.assert_allclose(bench.result(), expected, rtol=1e-6)
    assert tuple(bench.context.get_tensor_shape("score")) == (2, 4, 16, 16)


def test_a_captured_execution_is_replayed_with_new_pictures(bench: Bench) -> None:
    bench.ready()
    bench.fill()
    bench.run()
    bench.driver.stream_synchronize(bench.stream)
    bench.driver.capture_begin(bench.stream)
    assert bench.run() is True
    graph = bench.driver.capture_end(bench.stream)
    executable = bench.driver.graph_instantiate(graph)
    before = bench.trt.fake.executions
    for seed in (1, 2):
        expected = bench.fill(seed=seed)
        bench.driver.graph_launch(executable, bench.stream)
        bench.driver.stream_synchronize(bench.stream)
        np.testing.assert_allclose(bench.result(), expected, rtol=1e-6)
    assert bench.trt.fake.executions == before + 2


@pytest.mark.parametrize("why", ["no warm-up", "refused"])
def test_a_capture_that_the_library_refuses(bench: Bench, why: str) -> None:
    bench.ready()
    bench.fill()
    if why == "refused":
        bench.run()
        bench.driver.stream_synchronize(bench.stream)
        bench.trt.fake.faults.capture = True
    bench.driver.capture_begin(bench.stream)
    assert bench.run() is False
    assert "STREAM_CAPTURE" in bench.said()
    with pytest.raises(CudaError):
        bench.driver.capture_end(bench.stream)
    expected = bench.fill(seed=3)
    assert bench.run() is True  # the stream goes on without a graph
    bench.driver.stream_synchronize(bench.stream)
    np.testing.assert_allclose(bench.result(), expected, rtol=1e-6)


def test_a_new_shape_needs_a_new_warm_up(bench: Bench) -> None:
    bench.ready(2)
    bench.run()
    bench.driver.stream_synchronize(bench.stream)
    bench.ready(3)
    bench.driver.capture_begin(bench.stream)
    assert bench.run() is False
    with pytest.raises(CudaError):
        bench.driver.capture_end(bench.stream)


def test_what_returns_false(bench: Bench) -> None:
    context = bench.context
    assert context.set_input_shape("pictures", (1, 3, 16, 16)) is False
    assert context.set_input_shape("score", (1, 4, 16, 16)) is False
    assert context.set_input_shape("frames", (5, 3, 16, 16)) is False  # beyond the profile
    assert context.set_input_shape("frames", (1, 3, 16)) is False
    assert context.infer_shapes() == ["frames"]
    assert tuple(context.get_tensor_shape("score")) == (-1, 4, 16, 16)
    assert context.set_tensor_address("pictures", bench.source) is False
    assert bench.run() is False
    assert "Input shapes are not set: frames" in bench.said()
    assert context.set_input_shape("frames", (1, 3, 16, 16)) is True
    assert context.infer_shapes() == []
    assert bench.run() is False
    assert "Address is not set" in bench.said()


def test_what_is_undefined_is_misuse(bench: Bench) -> None:
    with pytest.raises(FakeDriverMisuse, match="not aligned to 256"):
        bench.context.set_tensor_address("frames", bench.source + 4)
    bench.ready()
    bench.context.set_input_shape("frames", (1, 3, 16, 16))
    with pytest.raises(Misuse, match="before infer_shapes"):
        bench.run()
    bench.context.infer_shapes()
    with pytest.raises(FakeDriverMisuse, match="default stream"):
        bench.context.execute_async_v3(0)
    small = bench.driver.device_alloc(64)
    bench.context.set_tensor_address("score", small)
    with pytest.raises(FakeDriverMisuse, match="reach beyond"):
        bench.run()


def test_a_second_thread_is_misuse(bench: Bench) -> None:
    bench.ready()
    bench.run()
    caught: list[BaseException] = []

    def other() -> None:
        bench.driver.bind()
        try:
            bench.run()
        except BaseException as error:
            caught.append(error)
        finally:
            bench.driver.unbind()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == ["a context is executed from a second thread"]


def test_a_thread_that_is_not_bound_makes_no_context(bench: Bench) -> None:
    caught: list[BaseException] = []

    def other() -> None:
        try:
            bench.engine.create_execution_context()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert isinstance(caught[0], FakeDriverMisuse)


def test_memory_is_held_and_contexts_outlive_their_work(bench: Bench) -> None:
    bench.ready()
    bench.run()
    with pytest.raises(FakeDriverMisuse, match="queued work uses it"):
        bench.driver.device_free(bench.source)
    bench.context = None
    gc.collect()
    with pytest.raises(Misuse, match="destroyed before its work was done"):
        bench.driver.stream_synchronize(bench.stream)


def test_faults_of_running(bench: Bench) -> None:
    bench.trt.fake.faults.context = True
    assert bench.engine.create_execution_context() is None
    assert classify.build_failure(["error: " + bench.said()]).code == "memory"
    bench.ready()
    bench.trt.fake.faults.enqueue = 2
    assert [bench.run() for _ in range(3)] == [True, False, True]


def test_a_context_without_memory_of_its_own(bench: Bench) -> None:
    strategy = bench.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    bench.context = bench.engine.create_execution_context(strategy)
    bench.ready()
    assert bench.run() is False
    assert "Device memory is not set" in bench.said()
    size = bench.engine.device_memory_size_v2
    scratch = bench.driver.device_alloc(size)
    with pytest.raises(Misuse, match="bytes of device memory; the engine needs"):
        bench.context.set_device_memory(scratch, size - 1)
    bench.context.set_device_memory(scratch, size)
    assert bench.run() is True


def test_inputs_may_be_written_again_after_the_event(bench: Bench) -> None:
    bench.ready()
    expected = bench.fill()
    event = bench.driver.event_create()
    assert bench.context.set_input_consumed_event(event) is True
    bench.run()
    bench.driver.event_synchronize(event)
    bench.fill(seed=9)
    bench.driver.stream_synchronize(bench.stream)
    np.testing.assert_allclose(bench.result(), expected, rtol=1e-6)


def test_builds_that_give_other_scores() -> None:
    bench = Bench()
    bench.trt.fake.faults.skew, bench.trt.fake.faults.skewed_builds = 0.25, 2
    outputs = []
    for _ in range(2):
        plan = builder.build(conv(), "fp32", Profile(max_batch=4), machine(), trt=bench.trt).plan
        bench.engine = bench.trt.Runtime(library.logger(bench.trt)).deserialize_cuda_engine(plan)
        bench.context = bench.engine.create_execution_context()
        bench.ready()
        expected = bench.fill()
        bench.run()
        bench.driver.stream_synchronize(bench.stream)
        outputs.append(float((bench.result() - expected).mean()))
    # The bench's own build was the first of all.
    np.testing.assert_allclose(outputs, [0.25, 0.0], atol=1e-5)


@pytest.mark.parametrize("lowering", ["trt-int8", "trt-fp16"])
def test_the_default_bundle_gives_its_recorded_scores(lowering: str) -> None:
    """Recorded at export time by another session of ONNX Runtime; plans are judged by the same tolerance."""
    bundle = Bundle.open(DEFAULT)
    node = bundle.manifest.node("model")
    frames = golden.read(bundle)
    driver = FakeDriver()
    trt = fake_tensorrt("10.3", driver=driver)
    driver.retain(0)
    driver.bind()
    model = bundle.read(node.files[lowering])
    plan = builder.build(model, lowering, Profile(), machine(), trt=trt).plan
    context = trt.Runtime(library.logger(trt)).deserialize_cuda_engine(plan).create_execution_context()
    stream, scores = driver.stream_create(), []

    def run(node: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        (array,) = inputs.values()
        given, taken = driver.device_alloc(array.nbytes), driver.device_alloc(1 << 16)
        driver.memory(given, array.nbytes)[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        context.set_input_shape(next(iter(inputs)), array.shape)
        assert context.infer_shapes() == []
        context.set_tensor_address(next(iter(inputs)), given)
        found = {}
        for number, output in enumerate(node.outputs):
            context.set_tensor_address(output.name, taken + 4096 * number)
            size = tuple(context.get_tensor_shape(output.name))
            data = driver.memory(taken + 4096 * number, int(np.prod(size)) * 4)
            found[output.name] = data.view(np.float32).reshape(size)
        assert context.execute_async_v3(stream) is True
        driver.stream_synchronize(stream)
        return {name: array.copy() for name, array in found.items()}

    for number in range(len(frames.frames)):
        values = golden.values_of(bundle, frames, number, lowering, run)
        scores.append({t.name: float(np.clip(values[t.source], 0, 1).reshape(-1)[0]) for t in bundle.manifest.targets})
    for one in golden.check_scores(bundle, frames, lowering, scores):
        assert one.largest <= one.tolerance / 20
