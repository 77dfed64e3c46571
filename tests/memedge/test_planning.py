"""`memedge run` on a machine with a GPU and no plan: scoring begins at once, the plan is built beside it and takes
over; whatever goes wrong there, scoring goes on."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_tensorrt.execution import Graph
from helpers_bundle import make_frame_bundle, picture
from helpers_cli import Done, inside, jsonl, start
from helpers_gpu import FakeGpu, add_half_and_int8, desktop, fake_gpu, gpu_for_runs
from memedge import building, planning, tuning
from memedge.console import Progress
from memedge.planning import Planner
from memedge.replacing import Replacements
from memedge.scorer import FixedScorer, Scorer
from memedge.tuning import Tuner
from memedge_engines import choice
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate
from memedge_engines.errors import ExecutorError, PlanError, PlanMismatch
from memedge_engines.plans.profile import Profile

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "test://?size=64x48&fps=20&seconds=1"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return add_half_and_int8(make_frame_bundle(tmp_path_factory.mktemp("planning") / "b"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    with fake_gpu(devices=[desktop()]) as made:

        def build(
            bundle: Bundle, precision: str, profile: Profile, progress: Progress, cancelled: Callable[[], bool]
        ) -> None:
            """In this process, and in no time; what a child does wrong is told by ``gpu.wrong``."""
            progress.advance(40, "Building engine")
            progress.advance(60, "done")
            if wrong:
                raise wrong[0]
            made.build(bundle, building.lowering_of(bundle, precision), profile.max_batch)

        wrong: list[Exception] = []
        made.wrong = wrong  # type: ignore[attr-defined]
        monkeypatch.setattr(planning, "build", build)
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> list[Planner]:
    """Runs that wait for the plan after five frames; the planners that they had."""
    made: list[Planner] = []
    between = Planner.between

    def waiting(self: Planner, frames: int) -> None:
        if not made:
            made.append(self)
        if frames == 5:
            self.wait(60)
        between(self, frames)

    monkeypatch.setattr(Planner, "between", waiting)
    return made


def run(capfd: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path, *words: str) -> tuple[Done, list[Any]]:
    out = tmp_path / "r.jsonl"
    done = inside(capfd, "run", "--source", SOURCE, "--bundle", bundle.path, "-q", "--no-tune", "--jsonl", out, *words)
    return done, jsonl(out)[0] if out.exists() else []


def test_the_plan_takes_over_between_two_frames(
    gpu: FakeGpu, patient: list[Planner], capfd: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path
) -> None:
    done, readings = run(capfd, bundle, tmp_path)
    assert done.code == 0
    assert [(r["engine"], r["precision"]) for r in readings] == (
        [(readings[0]["engine"], "fp32")] * 5 + [("tensorrt", "int8")] * 15
    )
    assert readings[0]["engine"] == "onnxruntime"
    assert all(r["score"] is not None for r in readings)
    # The same pictures on both engines: the swap shows in the name, not in the score.
    lines = [line for line in done.err.splitlines() if "TensorRT" in line or "goes on" in line]
    assert lines[0].endswith("tiny-frame: building the TensorRT plan (int8); onnxruntime scores meanwhile")
    assert lines[1].startswith("memedge: tiny-frame: TensorRT plan: ")
    assert lines[-1].endswith("tiny-frame goes on with tensorrt int8, built on this device")
    assert len(lines) <= 24
    again, readings = run(capfd, bundle, tmp_path)
    assert {r["engine"] for r in readings} == {"tensorrt"}
    assert "building" not in again.err


def test_dry_run_tells_what_a_missing_plan_means(
    gpu: FakeGpu, capfd: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    def bundle_line(*words: str) -> tuple[int, str]:
        done = inside(capfd, "run", "--source", SOURCE, "--bundle", bundle.path, "--dry-run", *words)
        found = [line for line in done.out.splitlines() if line.startswith("bundle ")]
        return done.code, found[0] if found else done.error

    scoring = (
        "bundle tiny-frame: engine onnxruntime, fp32 (lowering fp32); not tensorrt: its plan was not built here yet"
    )
    code, line = bundle_line()
    assert (code, line.startswith(scoring)) == (0, True)
    assert line.endswith("; tensorrt int8: its plan is built meanwhile and takes over")
    assert "meanwhile" not in bundle_line("--no-build")[1]
    only = "bundle tiny-frame: engine tensorrt, int8 (lowering trt-int8)"
    assert bundle_line("--engine", "tensorrt") == (0, f"{only}; its plan is built first")
    code, line = bundle_line("--engine", "tensorrt", "--no-build")
    assert (code, "its plan was not built here yet (fix: memedge build)" in line) == (1, True)
    gpu.build(bundle, "trt-int8", 1)
    assert bundle_line() == bundle_line("--engine", "tensorrt", "--no-build") == (0, only)


@pytest.mark.parametrize(
    "wrong",
    [
        PlanError("TensorRT crashed while building (SIGABRT)", cause="crash"),
        PlanError("the building process was killed from outside", fix="memedge build --workspace 256", cause="killed"),
        PlanMismatch("golden", "the plan's golden scores are not the recorded ones"),
        RuntimeError("what nobody thought of"),
    ],
    ids=["crash", "killed", "golden", "other"],
)
def test_what_goes_wrong_in_the_child_is_said_once_and_scoring_goes_on(
    gpu: FakeGpu,
    patient: list[Planner],
    capfd: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    wrong: Exception,
) -> None:
    gpu.wrong.append(wrong)  # type: ignore[attr-defined]
    done, readings = run(capfd, bundle, tmp_path)
    assert done.code == 0
    assert {r["engine"] for r in readings} == {"onnxruntime"}
    assert len(readings) == 20
    (line,) = [line for line in done.err.splitlines() if "without a TensorRT plan" in line]
    assert line == f"memedge: tiny-frame: goes on with onnxruntime (fp32), without a TensorRT plan: {wrong}"


def test_a_device_that_scores_otherwise_is_not_taken(
    gpu: FakeGpu,
    patient: list[Planner],
    capfd: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plan passed in the child; here, with this device's kernel in front, it does not."""
    graph, build = Graph.run, planning.build

    def then_worse(*arguments: Any, **more: Any) -> None:
        build(*arguments, **more)
        monkeypatch.setattr(Graph, "run", lambda self, inputs: {k: v * 0.5 for k, v in graph(self, inputs).items()})

    monkeypatch.setattr(planning, "build", then_worse)
    done, readings = run(capfd, bundle, tmp_path)
    assert done.code == 0
    assert {r["engine"] for r in readings} == {"onnxruntime"}
    assert done.err.count("golden frames give other scores than recorded: short_term differs by") == 1


def test_no_build_builds_nothing(
    gpu: FakeGpu, patient: list[Planner], capfd: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path
) -> None:
    done, readings = run(capfd, bundle, tmp_path, "--no-build")
    assert done.code == 0
    assert patient == []
    assert {r["engine"] for r in readings} == {"onnxruntime"}
    assert "plan" not in done.err
    done, readings = run(capfd, bundle, tmp_path, "--no-build", "--engine", "tensorrt")
    assert "no plan of node 'model' (trt-int8) was built for this GPU" in done.error
    assert f"(fix: memedge build '{bundle.path}' --precision int8)" in done.error


def test_an_engine_that_was_asked_for_is_built_first(
    gpu: FakeGpu, capfd: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path
) -> None:
    done, readings = run(capfd, bundle, tmp_path, "--engine", "tensorrt", "--precision", "fp16")
    assert done.code == 0
    assert {(r["engine"], r["precision"]) for r in readings} == {("tensorrt", "fp16")}
    assert "building the TensorRT plan of tiny-frame: 100/100 done" in done.err


def test_a_precision_that_only_a_plan_has_is_built_first(
    gpu: FakeGpu, capfd: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, readings = run(capfd, bundle, tmp_path, "--precision", "fp16")
    assert {(r["engine"], r["precision"]) for r in readings} == {("tensorrt", "fp16")}
    gpu.wrong.append(PlanError("this TensorRT has no kernel", fix="another"))  # type: ignore[attr-defined]
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "another"))
    done, _ = run(capfd, bundle, tmp_path, "--precision", "fp16")
    assert done.error == "this TensorRT has no kernel (fix: another)"


def test_a_real_run_changes_over_and_ends_by_a_signal_with_nothing_left(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    paths = ":".join(str(ROOT / part) for part in ("", "engines", "export", "tests"))
    program = ("-c", f"import sys; sys.path.append({str(ROOT / 'tests')!r}); import runpy; "
               "runpy.run_module('helpers_gpu', run_name='__main__')")  # fmt: skip
    with start(
        "run", "--source", "test://?size=64x48&fps=50", "--bundle", bundle.path, "-q", "--no-tune", "--jsonl", out,
        program=program, env={"PYTHONPATH": paths},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "goes on with" in line:
                break
        before = out.read_bytes().count(b"\n")
        until = time.monotonic() + 30
        while out.read_bytes().count(b"\n") < before + 5:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in "".join(said) + rest
    assert said[-1] == "memedge: tiny-frame goes on with tensorrt int8, built on this device\n"
    engines = [r["engine"] for r in jsonl(out)[0]]
    assert engines == sorted(engines)
    assert set(engines) == {"onnxruntime", "tensorrt"}


def test_the_end_of_a_run_ends_the_build(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TRT", json.dumps({"act": "slow"}))
    told: list[str] = []
    monkeypatch.setattr(planning, "say", told.append)
    with gpu_for_runs(), Scorer(bundle, threads=1) as scorer:
        planner = Planner({"tiny": scorer})
        assert planner.busy()
        planner.between(1)
        time.sleep(0.5)
        assert planner.busy()
        planner.close()
        assert not planner.busy()
        planner.close()
    assert told[-1] == f"tiny: the TensorRT plan was not finished; memedge build '{bundle.path}' builds it"
    assert "memedge-build" not in {thread.name for thread in threading.enumerate()}


def test_the_tuner_waits_while_a_plan_is_built(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = threading.Event()
    busy.set()
    with Scorer(bundle, threads=1) as scorer:
        monkeypatch.setattr(tuning.choice, "tuning", lambda *_: iter(()))
        tuner = Tuner({"tiny": scorer}, 0.0, busy.is_set)
        tuner.between(1)
        assert tuner._thread is None
        busy.clear()
        tuner.between(2)
        assert tuner._thread is not None
        tuner.close()


def test_replacements_are_owned_until_they_are_taken(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = Candidate("onnxruntime", "fp32")
    other = make_frame_bundle(tmp_path / "other", seed=3)
    with Scorer(bundle, "onnxruntime", "fp32") as scorer:
        ready = Replacements({"tiny": scorer})
        fresh = [FixedScorer(bundle, here) for _ in range(3)]
        ready.offer("tiny", "the first", fresh[0])
        ready.offer("tiny", "the second", fresh[1])
        assert ready.waiting("tiny")
        assert fresh[0]._closed
        expected = scorer.score(picture(1)).value
        ready.take()
        assert not ready.waiting("tiny")
        assert scorer.score(picture(1)).value == expected
        assert scorer.choice is fresh[1].choice
        with pytest.raises(Exception, match="after it was closed"):
            fresh[1].score(picture(1))
        with FixedScorer(other, here) as stranger:
            with pytest.raises(ExecutorError, match="cannot replace"):
                scorer.replace(stranger)
            assert stranger.score(picture(1)).value != expected
        assert scorer.score(picture(1)).value == expected
        ready.close()
        ready.offer("tiny", "too late", fresh[2])
        assert fresh[2]._closed
    assert "tiny goes on with the second" in capfd.readouterr().err
    assert choice.unbuilt(bundle) is None
