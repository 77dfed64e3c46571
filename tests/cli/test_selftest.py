"""``memedge selftest`` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers_cli import inside
from memedge.selftest import frames
from memedge_engines import hardware

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_SIZES", ((97, 61), (64, 48)))


def test_a_report_in_plain_lines(tiny: Path, capfd: Capture) -> None:
    done = inside(capfd, "selftest", "--bundle", tiny)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("memedge selftest, ")
    assert any(line.startswith("ok      stream: 8 frames") for line in lines)
    assert lines[-1].startswith("selftest passed: ")
    assert "\x1b" not in done.out


def test_without_a_gpu_it_says_what_is_missing_and_fails(tiny: Path, capfd: Capture) -> None:
    if hardware.nvidia_driver():
        pytest.skip("there is a GPU here")
    done = inside(capfd, "selftest", "--gpu", "--json", "--bundle", tiny)
    assert done.code == 1
    told = json.loads(done.out)
    assert told["passed"] is False
    steps = {step["name"]: step for step in told["steps"]}
    assert steps["driver"]["status"] == "failed"
    assert steps["driver"]["fix"]
    assert steps["timings"]["status"] == "skipped"


def test_a_bundle_that_is_not_there(tmp_path: Path, capfd: Capture) -> None:
    done = inside(capfd, "selftest", "--bundle", tmp_path / "none")
    assert done.code == 1
    assert "none" in done.error


def test_help(capfd: Capture) -> None:
    done = inside(capfd, "selftest", "--help")
    assert done.code == 0
    assert "--gpu" in done.out
