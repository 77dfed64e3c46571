"""The script for a machine with a GPU: its steps on the fake driver, and what it makes of steps that fail."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers_kernel import fake_kernel
from memedge_engines.cuda import conformance
from memedge_engines.cuda.fake import FakeDriver
from memedge_engines.kernels import image
from memedge_engines.kernels.host import Absent, kernels


@pytest.fixture
def steps(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    import gpu_steps

    return gpu_steps


@pytest.fixture
def script(steps: ModuleType) -> ModuleType:
    import gpu_hardware

    return gpu_hardware


@pytest.mark.parametrize("name", ["device", "conformance", "kernel", "speed", "graph", "memory"])
def test_every_step_runs_on_the_fake_driver(steps: ModuleType, name: str) -> None:
    assert name in steps.STEPS
    found = steps.run(name, "cuda-python", dry=True, small=True)
    assert not found.get("failures")
    json.dumps(found)


def kernel_step(steps: ModuleType, kernel: Any) -> dict[str, Any]:
    driver = FakeDriver({image.NAME: kernel, conformance.KERNEL: conformance.scale}, late=True)
    driver.retain(0)
    driver.bind()
    stream = driver.stream_create()
    found: dict[str, Any] = steps.kernel_step(steps.Bench(driver, stream, dry=False, small=True))
    driver.stream_destroy(stream)
    driver.release()
    driver.close_check()
    return found


def test_the_comparison_passes_with_the_emulated_kernel(steps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [case for case in steps._cases(small=True) if case[0].startswith(("rgb24", "nv12 323x243, gray"))]
    assert len(some) == 2
    monkeypatch.setattr(steps, "_cases", lambda small: iter(some))
    found = kernel_step(steps, fake_kernel)
    assert found["failures"] == []
    assert 0 < found["largest_difference_levels"] <= 1
    if not isinstance(kernels(), Absent):
        assert found["tensors_equal_to_cpu_path"] == found["tensors_compared"] == 6


def test_the_comparison_finds_a_kernel_that_does_nothing(steps: ModuleType) -> None:
    found = kernel_step(steps, steps.idle)
    assert any("levels from the float reference" in text for text in found["failures"])
    if not isinstance(kernels(), Absent):
        assert found["tensors_equal_to_cpu_path"] == 0


def test_a_step_in_a_process_of_its_own(script: ModuleType) -> None:
    run = script.Run(dry=True, minutes=1)
    found = run.step("device", "device")
    assert found["name"] == "memedge fake device"
    assert found["seconds"] > 0


def answered(record: dict[str, Any] | None, code: int = 0, said: str = "") -> Any:
    """A stand-in for subprocess.run: a child that writes this record, or none, and ends like that."""

    def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "--json" in words and record is not None:
            Path(words[words.index("--json") + 1]).write_text(json.dumps(record))
        return subprocess.CompletedProcess(words, code, said, "")

    return run


@pytest.mark.parametrize(
    ("record", "code", "said", "failure"),
    [
        ({"failures": ["nv12: 3 of 9 values differ"]}, 1, "", "nv12: 3 of 9 values differ"),
        (None, -11, "one\ntwo\n", "ended by signal 11: one | two"),
        (None, 1, "Traceback\nNoDevice: none\n", "exit 1: Traceback | NoDevice: none"),
        ({"ptx_load_ms": 3.0}, 9, "ERROR SUMMARY: 2 errors", "exit 9: ERROR SUMMARY: 2 errors"),
    ],
)
def test_a_step_that_fails_is_told(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, record: Any, code: int, said: str, failure: str
) -> None:
    monkeypatch.setattr(subprocess, "run", answered(record, code, said))
    run = script.Run(dry=True, minutes=1)
    assert run.step("kernel", "kernel")["failures"] == [failure]


def test_a_step_that_hangs_or_comes_too_late(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(words: list[str], **options: Any) -> Any:
        raise subprocess.TimeoutExpired(words, options["timeout"], output=b"loading\n")

    monkeypatch.setattr(subprocess, "run", hangs)
    assert script.Run(dry=True, minutes=1).step("speed", "speed")["failures"] == ["not done after 60 s: loading"]
    late = script.Run(dry=True, minutes=0)
    assert late.step("speed", "speed") == {"left out": "no time was left"}


def test_one_failing_step_hides_no_other(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(self: Any, label: str, name: str, *_: Any, **__: Any) -> dict[str, Any]:
        failures = ["the kernel is wrong"] if name == "kernel" else []
        self.steps[label] = {"failures": failures, "seconds": 1.0}
        return self.steps[label] | ({"name": "NVIDIA Something 9"} if name == "device" else {})

    monkeypatch.setattr(script.Run, "step", step)
    assert script.main(["--dry", "--out", str(tmp_path)]) == 1
    (told,) = tmp_path.glob("*-nvidia-something-9-gpu.json")
    record = json.loads(told.read_text())
    assert record["failed"] == ["kernel", "kernel, PyCUDA"]
    assert {"device", "speed", "graph", "memory", "onnxruntime"} <= record["steps"].keys()
    text = told.with_suffix(".md").read_text()
    assert "**kernel:** the kernel is wrong" in text
    assert "| speed | done |" in text
    assert "left out: compute-sanitizer is not installed" in text
    assert "FAILED: kernel: the kernel is wrong" in capsys.readouterr().err


def test_an_archive_that_is_not_there_is_bad_usage(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(["--pycuda", str(tmp_path / "none.tar.gz")])
    assert ended.value.code == 2
