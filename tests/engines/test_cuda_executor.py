"""The GPU's executor on a fake driver and a fake TensorRT: calls per frame, graphs, overlap, failures, nothing left."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fake_tensorrt.execution import Graph
from helpers_bundle import evaluate, make_frame_bundle, make_window_bundle, picture
from helpers_gpu import add_half_and_int8, desktop, device_frame, fake_gpu
from helpers_kernel import restated
from memedge_engines import backends, executors
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.cuda import ending, opening, pipeline
from memedge_engines.cuda.slots import Slot
from memedge_engines.cuda_executor import CudaExecutor
from memedge_engines.errors import CudaError, DeviceOutOfMemory, DriverMissing, EngineError, FrameError, PlanError
from memedge_engines.executor import Executor, Outputs
from memedge_engines.frame import Frame
from memedge_engines.host_executor import HostExecutor, to_input
from memedge_engines.synthetic import SyntheticDevice


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = add_half_and_int8(make_frame_bundle(tmp_path_factory.mktemp("cuda") / "b"))
    with fake_gpu(devices=[desktop()]) as gpu:
        gpu.build(made, max_batch=6)
        for lowering in ("trt-fp16", "trt-int8"):
            gpu.build(made, lowering)
    return made


def still(number: int, **fields: object) -> Frame:
    return Frame.from_rgb(picture(number), pts_s=number / 10, duration_s=0.1, index=number, **fields)


def score(run: Executor, *numbers: int) -> list[Outputs]:
    """One submit of these frames, each of a stream of its own."""
    frames = [still(number) for number in numbers]
    names = [f"s{place}" for place in range(len(numbers))]
    for name in names:
        run.open_stream(name)
    try:
        return run.submit(list(zip(names, frames, strict=True))).result(10)
    finally:
        for name, frame in zip(names, frames, strict=True):
            run.close_stream(name)
            frame.release()
            assert frame.released


@pytest.mark.parametrize("lowering", ["fp32", "trt-fp16", "trt-int8"])
def test_scores_equal_the_reference_evaluator(bundle: Bundle, lowering: str) -> None:
    """The kernel's picture restated in NumPy, normalised on the host, through onnx's evaluator."""
    (node,) = bundle.manifest.nodes
    (item,) = node.inputs
    assert item.preprocess is not None
    entry = node.files[lowering]
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle, lowering) as run:
        assert isinstance(run, CudaExecutor)
        assert (run.lowering, run.captured) == (lowering, True)
        for number in range(3):
            frame = still(number)
            tensor = to_input(item, [restated(frame, item.preprocess)], entry.inputs["frames"])
            expected = evaluate(bundle.read(entry), frames=tensor)
            (found,) = score(run, number)
            np.testing.assert_allclose(found.values["model.score"], expected["score"][0], atol=1e-5)
            np.testing.assert_allclose(found.values["model.embedding"], expected["embedding"][0], atol=1e-4)


def test_a_frame_is_one_upload_one_replay_and_no_other_work(bundle: Bundle) -> None:
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle) as run:
        for number in range(4):
            before, executions = gpu.driver.calls.copy(), gpu.trt.fake.executions
            score(run, number)
            made = gpu.driver.calls - before
            # The planes and the parameter block; kernel, inference and read-back are in the graph.
            assert made.pop("copy_to_device") == 2
            assert made.pop("graph_launch") == 1
            assert made.pop("event_record") == 3
            made.pop("event_query")
            made.pop("event_elapsed_ms")
            assert not made
            assert gpu.trt.fake.executions == executions + 1


def test_without_graphs_a_frame_is_one_upload_one_kernel_and_one_read_back(bundle: Bundle) -> None:
    told: list[str] = []
    with fake_gpu(devices=[desktop()], graphs=False) as gpu, gpu.executor(bundle, tell=told.append) as run:
        before = gpu.driver.calls.copy()
        score(run, 1)
        made = gpu.driver.calls - before
        assert (made["copy_to_device"], made["launch"], made["copy_to_host"]) == (2, 1, 1)
        assert made["stream_synchronize"] == 0
    assert told == ["frames are queued call by call, not as one CUDA graph: fake has no CUDA graphs"]


def test_frames_of_several_streams_are_one_inference(bundle: Bundle) -> None:
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle, max_batch=3) as run:
        alone = [score(run, number)[0].values["model.score"] for number in range(4)]
        executions = gpu.trt.fake.executions
        together = score(run, 0, 1, 2, 3)
        assert gpu.trt.fake.executions == executions + 1
        np.testing.assert_array_equal([one.values["model.score"] for one in together], alone)
        assert len({one.infer_ms for one in together}) == 1


def test_another_batch_is_another_context_and_graph_and_the_oldest_go(bundle: Bundle) -> None:
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle, max_batch=6) as run:
        for count in (1, 2, 2, 2, 3, 4, 5, 6, 1, 1):
            score(run, *range(count))
        calls, fake = gpu.driver.calls, gpu.trt.fake.calls
        # Six sizes on the slot that is free first, size 1 once more after it was forgotten, and on the other slot.
        assert fake["ICudaEngine.create_execution_context"] == calls["graph_instantiate"] == 8
        assert calls["executable_destroy"] == 7 - Slot.SHAPES


@pytest.mark.parametrize("how", ["capture_begin", "capture_end", "graph_instantiate", "library"])
def test_a_refused_capture_is_said_once_and_frames_go_on(bundle: Bundle, how: str) -> None:
    told: list[str] = []
    fail = {} if how == "library" else {how: 1}
    with fake_gpu(devices=[desktop()], fail=fail) as gpu:
        gpu.faults.capture = how == "library"
        with gpu.executor(bundle, max_batch=2, tell=told.append) as run:
            assert isinstance(run, CudaExecutor)
            assert not run.captured
            found = [score(run, number)[0].values["model.score"] for number in (3, 4)]
            score(run, 1, 2)  # another shape: nothing is captured any more
        assert gpu.driver.calls["capture_begin"] == 1
    assert len(told) == 1
    assert told[0].startswith("frames are queued call by call, not as one CUDA graph: ")
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle) as run:
        np.testing.assert_array_equal(found, [score(run, number)[0].values["model.score"] for number in (3, 4)])


def test_the_next_frame_is_queued_behind_one_that_runs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle) as run:
        done, query = threading.Event(), gpu.driver.event_query
        monkeypatch.setattr(gpu.driver, "event_query", lambda event: done.is_set() and query(event))
        run.open_stream("s")
        before = gpu.driver.calls["graph_launch"]
        tickets = []
        for number in range(2):
            frame = still(number)
            tickets.append(run.submit([("s", frame)]))
            frame.release()
        until = time.monotonic() + 10
        while gpu.driver.calls["graph_launch"] < before + 2:
            assert time.monotonic() < until, "the second frame waits for the first"
            time.sleep(0.001)
        assert not any(ticket.done() for ticket in tickets)
        done.set()
        scores = [ticket.result(10)[0].values["model.score"] for ticket in tickets]
        assert scores[0] != scores[1]


def test_ways_of_moving_are_timed_where_memory_is_shared(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 1)
    monkeypatch.setattr(pipeline, "_WARM_UP", 1)
    monkeypatch.setattr(pipeline, "_CAMERA", (60, 80))
    told: list[str] = []
    with fake_gpu(devices=[desktop(integrated=True)]) as gpu:
        gpu.build(bundle)
    with fake_gpu(devices=[desktop(integrated=True)]) as gpu, gpu.executor(bundle, tell=told.append) as run:
        assert isinstance(run, CudaExecutor)
        (line,) = told
        assert line.startswith(f"{run.way}: ")
        assert line.count("ms") == 4
        before = gpu.driver.calls.copy()
        score(run, 1)
        made = gpu.driver.calls - before
        assert made["copy_to_device"] == (0 if run.way.input_mapped else 2)
    with fake_gpu(devices=[desktop(integrated=True, can_map_host=False)]) as gpu, gpu.executor(bundle) as run:
        assert isinstance(run, CudaExecutor)
        assert run.way == pipeline.Way()


@pytest.mark.parametrize("call", ["graph_launch", "copy_to_device", "event_record"])
def test_an_error_of_a_call_fails_its_ticket_only(bundle: Bundle, call: str) -> None:
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle) as run:
        expected = score(run, 5)[0].values["model.score"]
        gpu.driver.fail_next(call, 999)
        with pytest.raises(CudaError, match="failure on order"):
            score(run, 4)
        for _ in range(3):
            np.testing.assert_array_equal(score(run, 5)[0].values["model.score"], expected)


def test_a_refused_inference_tells_what_the_library_said(bundle: Bundle) -> None:
    with fake_gpu(devices=[desktop()], graphs=False) as gpu, gpu.executor(bundle) as run:
        gpu.faults.enqueue = 1
        with pytest.raises(PlanError, match=r"node 'model' \(fp32\): running failed: .*illegal memory access"):
            score(run, 4)
        assert score(run, 4)[0].values


@pytest.mark.parametrize("call", ["graph_launch", "event_query"])
def test_a_lost_context_ends_the_executor_with_a_reason(bundle: Bundle, call: str) -> None:
    with fake_gpu(devices=[desktop()]) as gpu:
        run = gpu.executor(bundle)
        run.open_stream("s")
        frames = [still(number) for number in range(3)]
        gpu.driver.fail_next(call, 700)
        tickets = [run.submit([("s", frame)]) for frame in frames[:2]]
        for ticket in tickets:
            with pytest.raises(EngineError, match=r"this process cannot use it any more: .*ILLEGAL_ADDRESS"):
                ticket.result(10)
        with pytest.raises(EngineError, match="compute-sanitizer"):
            run.submit([("s", frames[2])])
        for frame in frames:
            frame.release()
            assert frame.released
        # Another executor, on the host say, can still go on with the streams.
        assert list(run.hand_over()) == ["s"]
        run.close()
        run.close()


def test_memory_that_runs_out_on_opening_leaves_nothing(bundle: Bundle) -> None:
    for limit in (20_000, 40_000, 60_000, 90_000):
        with fake_gpu(devices=[desktop(memory_bytes=limit)]) as gpu:
            try:
                gpu.executor(bundle, max_batch=6).close()
            except DeviceOutOfMemory as error:
                assert error.fix is not None  # noqa: PT017 - any of the limits may do
            else:
                return
    pytest.fail("no limit was enough")


def test_a_plan_that_gives_no_number_is_not_opened(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Graph.run
    monkeypatch.setattr(Graph, "run", lambda self, inputs: {k: v * np.nan for k, v in run(self, inputs).items()})
    with fake_gpu(devices=[desktop()]) as gpu, pytest.raises(EngineError, match="of a grey picture is not finite"):
        gpu.executor(bundle)


def test_executors_of_one_device_share_its_thread(bundle: Bundle) -> None:
    with fake_gpu(devices=[desktop()]) as gpu, gpu.executor(bundle) as one, gpu.executor(bundle, "trt-fp16") as two:
        assert gpu.driver.calls["retain"] - gpu.driver.calls["release"] == 1
        threads = [t.name for t in threading.enumerate() if t.name == "memedge-device"]
        assert len(threads) == 1
        pairs = [(score(one, n)[0], score(two, n)[0]) for n in range(3)]
        assert {(a.precision, b.precision) for a, b in pairs} == {("fp32", "fp16")}


def test_what_was_forgotten_is_closed_at_the_end(bundle: Bundle) -> None:
    with fake_gpu(devices=[desktop()]) as gpu:
        run, engines = gpu.executor(bundle), gpu.engines(bundle, "trt-fp16")
        score(run, 1)
        ending.close_forgotten()
        with pytest.raises(EngineError, match="after it was closed"):
            engines["model"].run({"frames": np.zeros((1, 3, 32, 32), np.float16)})


def test_windows_and_several_nodes_run_on_the_hosts_executor(tmp_path: Path) -> None:
    window = make_window_bundle(tmp_path / "w")
    with fake_gpu(devices=[desktop()]) as gpu:
        gpu.build(window)
        scores = {}
        for where in ("host", "device"):
            with gpu.executor(window) as run:
                assert isinstance(run, HostExecutor)
                run.open_stream("s")
                found = []
                for number in range(20):
                    frame = Frame.from_rgb(picture(number), pts_s=number / 2, duration_s=0.5, index=number)
                    frame = device_frame(gpu, frame) if where == "device" else frame
                    found += run.submit([("s", frame)]).result(10)
                    frame.release()
                scores[where] = [o.values["model.score"] for o in found if "model" in o.complete]
                assert found[-4].complete["model"]
        assert len(scores["host"]) == 5
        np.testing.assert_allclose(scores["device"], scores["host"], atol=2e-3)


def test_a_cpu_engine_reads_frames_in_device_memory(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder on the GPU and no plan yet: scoring begins all the same. Without a GPU it is said why not."""
    (node,) = bundle.manifest.nodes

    def opened() -> Executor:
        engine = backends.get("onnxruntime").open(bundle, node, "fp32", EngineOptions(threads=1))
        return executors.make(bundle, {node.name: engine})

    with fake_gpu(devices=[desktop()]) as gpu, opened() as run:
        run.open_stream("s")
        expected = score(run, 4)[0].values["model.score"]
        assert gpu.driver.calls["retain"] == 0  # nobody needed it so far
        frame = device_frame(gpu, still(4))
        (found,) = run.submit([("s", frame)]).result(10)
        frame.release()
        np.testing.assert_allclose(found.values["model.score"], expected, atol=5e-3)

    def no_driver(device: int = 0) -> None:
        raise DriverMissing("there is no NVIDIA driver on this machine")

    monkeypatch.setattr(opening, "open_driver", no_driver)
    with opened() as run:
        run.open_stream("s")
        frame = SyntheticDevice().upload(still(4))
        with pytest.raises(FrameError, match="lies in device memory, which cannot be read here"):
            run.submit([("s", frame)])
        frame.release()
