"""The self-test on the host, and on a GPU that is all fake: what passes, and how what is wrong is told."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers_bundle import evaluate, make_frame_bundle
from helpers_gpu import FakeGpu, desktop, fake_gpu
from helpers_plans import DEFAULT
from memedge import building
from memedge.selftest import child, frames, host, network, report, selftest
from memedge.selftest import gpu as gpu_module
from memedge.selftest.report import Failed, Outcome, Skipped, Step
from memedge_engines.bundle import Bundle
from memedge_engines.cuda import conformance
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, PixelFormat
from memedge_engines.kernels import image
from memedge_engines.kernels.host import Absent
from memedge_engines.plans.machine import Machine
from memedge_engines.preprocess.fast import NumpyPreprocessor


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("selftest") / "bundle")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the pictures: the float reference and the kernel's emulation take their time."""
    monkeypatch.setattr(frames, "_SIZES", ((97, 61), (64, 48)))


def by_name(outcomes: Any) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in outcomes}


# Steps and the report ------------------------------------------------------------------------------------------------


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "text", "fix"),
    [
        (Failed("3 levels", fix="mend it"), "failed", "3 levels", "mend it"),
        (Skipped("no GPU", "buy one"), "skipped", "no GPU", "buy one"),
        (ValueError("odd\nsecond line"), "failed", "ValueError: odd", "report it with these lines"),
    ],
)
def test_whatever_a_step_raises_is_an_outcome(error: Exception, status: str, text: str, fix: str) -> None:
    found = report.attempt(Step("a step", lambda: _raise(error)))
    assert (found.status, found.text, found.fix) == (status, text, fix)
    assert "\n" not in found.line()


def test_a_step_whose_needs_are_not_met_is_skipped_with_the_reason() -> None:
    done = [Outcome("driver", "failed", "none"), Outcome("seam", "skipped", "none")]
    assert report.missing(Step("kernel", str, ("driver",)), done).text == "needs 'driver', which failed"  # type: ignore[union-attr]
    assert report.missing(Step("kernel", str, ("seam",)), done).text == "needs 'seam', which was skipped"  # type: ignore[union-attr]
    assert report.missing(Step("kernel", str, ("other",)), done) is None


# The host ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_pictures")
def test_a_machine_that_works(tiny: Bundle) -> None:
    found = selftest(tiny)
    outcomes = by_name(found.outcomes)
    assert found.passed, found.lines()
    assert outcomes["golden frames, onnxruntime"].status == "ok"
    assert outcomes["stream"].text.startswith("8 frames, 8 scored by onnxruntime fp32")
    assert "in 8 formats differ from the float reference by at most" in outcomes[host_step("NumPy")].text
    lines = found.lines()
    assert lines[0].startswith("memedge selftest, 20")
    assert lines[-1].startswith("selftest passed: ")
    assert not any("\n" in line for line in lines)
    told = json.loads(json.dumps(found.to_json()))
    assert told["passed"] is True
    assert [step["name"] for step in told["steps"]] == list(outcomes)
    assert told["environment"]["packages"]["numpy"] == np.__version__


def host_step(word: str) -> str:
    """Name of the step with this word."""
    return next(step.name for step in host.host_steps(Bundle.open(DEFAULT)) if word in step.name)


@pytest.mark.usefixtures("few_pictures")
def test_a_damaged_bundle(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle")
    (bundle.path / "golden.npz").write_bytes(b"damaged")
    found = selftest(Bundle.open(bundle.path))
    outcomes = by_name(found.outcomes)
    assert not found.passed
    assert outcomes[host.FILES].status == "failed"
    assert outcomes["golden frames, onnxruntime"].text == f"needs '{host.FILES}', which failed"
    assert outcomes["stream"].status == "skipped"
    assert outcomes[host_step("NumPy")].status == "ok"
    assert found.lines()[-1].startswith("selftest FAILED: ")


@pytest.mark.usefixtures("few_pictures")
def test_preprocessing_that_is_off(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    right = NumpyPreprocessor.picture
    monkeypatch.setattr(NumpyPreprocessor, "picture", lambda self, frame: right(self, frame).astype(np.float32) + 3)
    step = next(step for step in host.host_steps(tiny) if "NumPy" in step.name)
    found = report.attempt(step)
    assert found.status == "failed"
    assert "levels" in found.text
    assert "at most 1.01 was expected" in found.text


def test_without_compiled_preprocessing_it_says_how_to_get_it(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memedge_engines.kernels.host.kernels", lambda: Absent("it was not built", "build it"))
    step = next(step for step in host.host_steps(tiny) if "compiled" in step.name)
    found = report.attempt(step)
    assert (found.status, found.text, found.fix) == ("skipped", "it was not built", "build it")


def test_scores_that_are_off(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from memedge_engines import golden

    check = golden.check_scores

    def off(bundle: Bundle, golden_frames: Any, lowering: str, rows: list[dict[str, float]]) -> Any:
        return check(bundle, golden_frames, lowering, [{name: v + 0.5 for name, v in row.items()} for row in rows])

    monkeypatch.setattr(golden, "check_scores", off)
    found = report.attempt(next(s for s in host.host_steps(tiny) if s.name == "golden frames, onnxruntime"))
    assert found.status == "failed"
    assert "short_term differs by 0.5" in found.text


def test_pictures_cover_every_format_and_declaration() -> None:
    made = [frame for _, frame in frames.all_formats()]
    yuv = [frame for frame in made if frame.format.is_yuv]
    assert {frame.format for frame in made} == set(PixelFormat)
    assert {frame.matrix for frame in yuv} == set(ColorMatrix)
    assert {frame.color_range for frame in yuv} == set(ColorRange)
    assert {frame.siting for frame in yuv} == set(ChromaSiting)
    assert {frame.rotation for frame in made} == {0, 90}
    one, other = (frames.generated(PixelFormat.NV12, 64, 48).host_planes() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_small_network_is_what_it_says() -> None:
    model = onnx.load_from_string(network.small_network())
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(1).random((2, *network.SHAPE), np.float32)
    constants = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    features = np.einsum("bchwij,ocij->bohw", windows, constants["weights"]) + constants["bias"][:, None, None]
    expected = np.maximum(features, 0).mean((2, 3), keepdims=True)
    np.testing.assert_allclose(evaluate(network.small_network(), frames=x)["score"], expected, atol=1e-5)


# A GPU that is all fake ----------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """A desktop GPU whose plans are built by the same fake TensorRT in a child process."""
    with fake_gpu(devices=[desktop()]) as made:
        made.driver._kernels[conformance.KERNEL] = conformance.scale
        build = functools.partial(building.build, machine=Machine.here(made.trt), module="helpers_child_trt")
        monkeypatch.setattr(building, "build", build)
        yield made


def on_gpu(bundle: Bundle, *names: str) -> dict[str, Outcome]:
    """The named GPU steps, or all, in this process."""
    steps = [step for step in gpu_module.gpu_steps(bundle) if not names or step.name in names]
    return by_name(child.run_gpu_steps(bundle, lambda name: None, steps, isolated=False))


@pytest.mark.usefixtures("few_pictures")
def test_a_gpu_that_works(gpu: FakeGpu, tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "_ROUNDS", 2)
    right = gpu_module.generated
    monkeypatch.setattr(gpu_module, "generated", lambda kind, width, height: right(kind, width // 8, height // 8))
    found = on_gpu(tiny)
    assert {name: one.status for name, one in found.items() if one.status != "ok"} == {}, found
    assert found["driver"].text.startswith("CUDA 12.6 through fake: Fake 4090 (sm_87, 8 SMs, 4.0 GiB)")
    assert "TensorRT 10.3.0 for Fake 4090" in found["TensorRT"].text
    assert "differs from ONNX Runtime on the CPU by" in found["small network"].text
    assert "three replays" in found["CUDA graph"].text
    assert "golden frames: short_term differs by" in found["plan"].text
    assert "from onnxruntime fp32 here" in found["golden frames, tensorrt"].text
    assert "tensorrt fp32: median" in found["timings"].text
    assert f"{len(conformance.CHECKS)} checks passed" in found["driver calls"].text


def test_other_numbers_than_onnx_runtime_s(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.faults.skew = 0.01
    found = on_gpu(tiny, "TensorRT", "small network", "CUDA graph")
    assert found["small network"].status == "failed"
    assert "differs from ONNX Runtime on the CPU by 0.01 (tolerance 0.0001)" in found["small network"].text
    assert found["CUDA graph"].text == "needs 'small network', which failed"


def test_a_capture_that_is_refused(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.faults.capture = True
    found = on_gpu(tiny, "small network", "CUDA graph")
    assert found["small network"].status == "ok"
    assert found["CUDA graph"].status == "failed"


def test_a_provider_without_graphs(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.driver.graphs = False
    found = on_gpu(tiny, "driver", "CUDA graph")
    assert "without CUDA graphs" in found["driver"].text
    assert (found["CUDA graph"].status, found["CUDA graph"].fix) == ("skipped", "pip install 'memedge[cuda]'")


def test_a_build_that_fails(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.faults.build = ("Error Code 2: OutOfMemory (out of memory)",)
    found = on_gpu(tiny, "small network", "CUDA graph")
    assert "memory ran out" in found["small network"].text
    assert found["small network"].fix


@pytest.mark.usefixtures("few_pictures")
def test_a_kernel_that_does_nothing(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.driver._kernels[image.NAME] = lambda driver, grid, block, values, shared: None
    found = on_gpu(tiny, "kernel")
    assert "at most 1.01 was expected" in found["kernel"].text


def test_driver_calls_that_do_not_conform(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.driver._kernels[conformance.KERNEL] = lambda driver, grid, block, values, shared: None
    found = on_gpu(tiny, "driver calls")
    assert found["driver calls"].status == "failed"
    assert "launch" in found["driver calls"].text


def test_a_driver_without_devices(gpu: FakeGpu, tiny: Bundle) -> None:
    gpu.driver._devices.clear()
    assert "shows no device" in on_gpu(tiny, "driver")["driver"].text


# A process of its own ------------------------------------------------------------------------------------------------


def test_without_a_gpu_the_process_says_what_is_missing(tiny: Bundle) -> None:
    from memedge_engines import hardware

    if hardware.nvidia_driver():
        pytest.skip("there is a GPU here")
    names: list[str] = []
    found = child.run_gpu_steps(tiny, names.append)
    assert names == [outcome.name for outcome in found]
    assert (found[0].name, found[0].status) == ("driver", "failed")
    assert found[0].fix
    assert {outcome.status for outcome in found[1:]} == {"skipped"}


def test_crashes_hangs_and_noise_are_lines_of_the_report(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MODULE", "helpers_selftest_child")
    monkeypatch.setitem(child._LIMIT_S, "hang", 2.0)
    steps = [Step(name, str) for name in ("print", "crash", "skip", "hang", "end", "after")]
    found = by_name(child.run_gpu_steps(tiny, lambda name: None, [*steps, Step("last", str, ("crash",))]))
    assert found["print"].text == "printed"
    assert found["crash"].text == "the process crashed (signal 11)"
    assert "it said: " in (found["crash"].fix or "")
    assert "free(): invalid pointer" in (found["crash"].fix or "")
    assert (found["skip"].status, found["skip"].fix) == ("skipped", "look elsewhere")
    assert found["hang"].text == "not done after 2 s"
    assert found["end"].text == "the process ended early (exit code 3)"
    assert found["after"].text == "1"
    assert found["last"].text == "needs 'crash', which failed"
