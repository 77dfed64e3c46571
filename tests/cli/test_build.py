from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers_cli import inside, start
from helpers_plans import machine
from memedge import building
from memedge_engines import hardware

# `memedge build` with a slow fake for TensorRT, on a machine that the test makes up.
_SLOW = """
import functools, sys
from helpers_plans import machine
from memedge import building, cli
building.build = functools.partial(building.build, machine=machine(), module="helpers_child_trt")
cli.main(["build", *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


def test_without_a_driver_it_fails_with_the_reason(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    for words in ((), (tiny,), (tiny, "--precision", "fp32", "--batch", "4", "--workspace", "64", "--level", "0")):
        done = inside(capfd, "build", *words)
        assert done.code == 1
        assert done.error.startswith("no NVIDIA driver is loaded")
        assert "(fix: install the GPU's driver, or run on the CPU" in done.error


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--precision", "int9"), 2, "no precision 'int9'; did you mean 'int8'"),
        (("--precision", "int8"), 1, "has no lowering 'trt-int8'; TensorRT could run fp32"),
        (("--batch", "0"), 2, "--batch"),
        (("--batch", "1025"), 2, "--batch"),
        (("--workspace", "0"), 2, "--workspace"),
        (("--level", "6"), 2, "--level"),
        (("--level", "-1"), 2, "--level"),
        (("--levle", "3"), 2, "--levle"),
    ],
)
def test_bad_usage(
    capfd: pytest.CaptureFixture[str], tiny: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = inside(capfd, "build", tiny, *words)
    assert done.code == code
    assert message in done.error


def test_no_bundle(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no bundle at" in inside(capfd, "build", tmp_path / "nothing").error


def test_built_kept_and_printed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setenv("FAKE_TRT", "{}")
    here = functools.partial(building.build, machine=machine(), module="helpers_child_trt")
    monkeypatch.setattr(building, "build", here)
    done = inside(capfd, "build", tiny, "--json")
    assert done.code == 0, done.err
    (plan,) = json.loads(done.out)["plans"]
    assert plan["record"]["golden"][0]["target"] == "short_term"
    assert "build tiny-frame: 100/100 done" in done.err
    done = inside(capfd, "build", tiny)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("tiny-frame node model: fp32, 0.0 MB, kept (built ")
    assert lines[1] == f"  plan: {plan['path']}"
    assert lines[3].startswith("  layers: ")
    assert lines[4].startswith("  golden frames: short_term differs by ")


def slowly(tiny: Path, *words: str, **acts: Any) -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return start(tiny, *words, program=("-c", _SLOW), env={"FAKE_TRT": json.dumps(acts), "PYTHONPATH": paths})


def test_interrupted_it_leaves_no_plan(tiny: Path, tmp_path: Path) -> None:
    with slowly(tiny, act="slow") as process:
        locks = tmp_path / "cache" / "plans" / "locks"
        while not (locks.exists() and list(locks.iterdir())):  # the child has begun
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (out, "Traceback" in err) == ("", False)
    assert not list(tmp_path.rglob("*.plan"))
