"""Building in a child process: how it ends, and that nothing of it is left, whatever happens to either side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers_bundle import make_frame_bundle
from helpers_modules import ROOT
from helpers_plans import DEFAULT, finish, machine, rtx_machine
from memedge_engines import errors, hardware
from memedge_engines.errors import BuildCancelled, DriverMissing, PlanError, PlanMismatch
from memedge_engines.plans import messages
from memedge_engines.plans.process import BuildProcess
from memedge_engines.plans.profile import Profile

STEP = '{"type":"step","fraction":0.5,"text":"half"}'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_frame_bundle(tmp_path_factory.mktemp("process") / "bundle").path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


def faked(
    monkeypatch: pytest.MonkeyPatch, bundle: Path, options: dict[str, Any] | None = None, **acts: Any
) -> BuildProcess:
    monkeypatch.setenv("FAKE_TRT", json.dumps(acts))
    return BuildProcess(bundle, "fp32", machine=machine(), module="helpers_child_trt", **(options or {}))


def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Another program in the interpreter's place."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def gone(pid: int, within_s: float = 20.0) -> bool:
    """Whether a process has ended; one that only waits to be reaped has."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_real_builder_in_a_child() -> None:
    on = rtx_machine()
    with BuildProcess(DEFAULT, "trt-int8", Profile(2, 1), on, module="tensorrt_rtx") as process:
        with pytest.raises(PlanError, match="has not ended yet"):
            process.result()
        process.start()
        with pytest.raises(PlanError, match="was started before"):
            process.start()
        told = finish(process)
        result = process.result()
    assert process.error is None
    fractions = [event.fraction for event in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {event.node for event in told} >= {"model"}
    (plan,) = result.plans
    assert (plan.node, plan.reused, result.lowering) == ("model", False, "trt-int8")
    assert plan.path.read_bytes()[:4] == b"vtrt"
    assert plan.sidecar.machine == on
    assert plan.sidecar.profile == Profile(2, 1)
    # No GPU here: neither counted nor proven, and the record says so.
    assert (plan.sidecar.layers, plan.sidecar.golden) == (None, None)


def test_built_once_by_two_processes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faked(monkeypatch, tiny, act="print") as one, faked(monkeypatch, tiny, act="print") as other:
        one.start()
        other.start()
        told = finish(one) + finish(other)
        plans = [one.result().plans[0], other.result().plans[0]]
    assert sorted(plan.reused for plan in plans) == [False, True]
    assert any("another process builds this plan" in event.text for event in told)
    assert plans[0].path == plans[1].path
    assert plans[0].sidecar.golden


@pytest.mark.parametrize(
    ("act", "cause", "message"),
    [
        ("abort", "crash", r"TensorRT crashed while building \(SIGABRT\); it said last: free\(\): invalid pointer"),
        ("kill", "killed", "killed from outside, most often because the system ran out of memory.*--workspace 256"),
    ],
)
def test_a_child_that_dies(tiny: Path, monkeypatch: pytest.MonkeyPatch, act: str, cause: str, message: str) -> None:
    with faked(monkeypatch, tiny, act=act) as process:
        process.start()
        finish(process)
        with pytest.raises(PlanError, match=message) as caught:
            process.result()
    assert caught.value.cause == cause
    assert process.error is caught.value


@pytest.mark.parametrize(
    ("limit", "message"), [("limit_s", "took longer than 0.2 s"), ("silence_s", "no sign of life")]
)
def test_a_child_that_hangs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    script(tmp_path, monkeypatch, "exec sleep 600")
    with faked(monkeypatch, tiny, {limit: 0.2}) as process:
        process.start()
        finish(process)
        with pytest.raises(PlanError, match=message) as caught:
            process.result()
        assert process.pid is not None
        assert gone(process.pid)
    assert caught.value.cause == "hang"


def test_cancelled_in_the_middle(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faked(monkeypatch, tiny, act="slow") as process:
        process.start()
        finish(process, lambda event: process.cancel() if event.text == "Timing tactics" else None)
        with pytest.raises(BuildCancelled):
            process.result()
    process.cancel()
    assert process.poll() == []


def test_closed_while_it_builds_nothing_is_left(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, monkeypatch, f"echo '{STEP}'; exec sleep 600")  # deaf to being cancelled
    monkeypatch.setattr("memedge_engines.plans.process._GRACE_S", 0.3)
    with faked(monkeypatch, tiny) as process:
        process.start()
        while not process.poll():
            time.sleep(0.01)
    assert process.pid is not None
    assert gone(process.pid, 0.1)
    assert process.done
    with pytest.raises(BuildCancelled):
        process.result()
    process.close()
    never = faked(monkeypatch, tiny)
    never.close()
    with pytest.raises(PlanError, match="started before"):
        never.start()


_PARENT = """
import sys, time
from pathlib import Path
from helpers_plans import machine
from memedge_engines.plans.process import BuildProcess
process = BuildProcess(sys.argv[1], "fp32", machine=machine(), module="helpers_child_trt")
process.start()
while not process.poll():
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(600)
"""


def test_a_child_ends_with_its_parent(tiny: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "engines"), str(ROOT / "tests")])
    environment = {**os.environ, "FAKE_TRT": '{"act": "hang"}', "PYTHONPATH": paths}
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tiny)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
            assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getsid(pid) == pid  # a terminal's Ctrl-C goes to the parent alone
            parent.send_signal(signal.SIGKILL)
            assert gone(pid)
        finally:
            parent.kill()


def test_errors_of_the_child_keep_their_kind(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faked(monkeypatch, tmp_path / "nothing") as process:
        process.start()
        finish(process)
        assert isinstance(process.error, errors.BundleError)
    with BuildProcess(tiny, "fp32", machine=machine(), module="no_such_module") as process:
        process.start()
        finish(process)
        with pytest.raises(PlanError, match="ModuleNotFoundError: No module named 'no_such_module'"):
            process.result()


def test_every_error_survives_the_journey() -> None:
    for error in (
        PlanError("m", log=("a",), fix="f", cause="memory"),
        PlanMismatch("golden", "m", log=("a",), fix="f"),
        BuildCancelled("m", cause="cancelled"),
        DriverMissing("m", fix="f"),
        errors.NoDevice("m"),
        errors.BackendUnavailable("m", fix="f"),
        errors.BundleError("m", fix="f"),
        errors.EngineError("m"),
    ):
        line = messages.encode(messages.failure(error))
        told = messages.decode(line)
        assert isinstance(told, messages.Failed)
        back = messages.error_of(told)
        assert type(back) is type(error)
        assert (str(back), back.fix) == (str(error), error.fix)
        for name in ("log", "cause", "reason"):
            assert getattr(back, name, "") == getattr(error, name, "")
    told = messages.failure(KeyError("frames"))
    assert (told.kind, told.message, told.cause) == ("PlanError", "KeyError: 'frames'", "crash")
    for line in (b"", b"garbage\n", b"{}", b'{"type": "step"}', b'{"type": "other"}', b"\xff", b"[" * 9999):
        assert messages.decode(line) is None


def test_garbage_on_the_pipe(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "head -c 3000000 /dev/zero; printf '\\377\\n'; seq 2000"
    script(tmp_path, monkeypatch, f"{noise}; echo '{STEP}'; echo '{{\"type\":\"finished\"}}'; echo last")
    with faked(monkeypatch, tiny) as process:
        process.start()
        told = finish(process)
        with pytest.raises(PlanError, match="ended with exit code 0 and no result; it said last: last") as caught:
            process.result()
    assert [(event.fraction, event.text) for event in told] == [(0.5, "half")]
    assert len(caught.value.log) <= 40
    script(tmp_path, monkeypatch, 'echo \'{"type":"finished","plans":[["model","/nowhere.plan",false]],"seconds":1}\'')
    with faked(monkeypatch, tiny) as process:
        process.start()
        finish(process)
        with pytest.raises(PlanError, match=r"'/nowhere\.engine\.json' cannot be read"):
            process.result()


def test_where_nothing_can_be_started(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    with BuildProcess(tiny, "fp32") as process, pytest.raises(DriverMissing, match="no NVIDIA driver"):
        process.start()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with faked(monkeypatch, tiny) as process, pytest.raises(PlanError, match="cannot start a process"):
        process.start()
