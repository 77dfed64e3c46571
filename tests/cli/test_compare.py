"""``memedge compare`` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers_bundle import make_frame_bundle, picture
from helpers_cli import inside
from helpers_video import write_video

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_frame_bundle(tmp_path_factory.mktemp("both") / "b", lowerings=("fp32", "cpu")).path


def test_help_and_the_list_of_commands(capfd: Capture) -> None:
    assert "\n  compare " in inside(capfd, "--help").out
    done = inside(capfd, "compare", "--help")
    assert (done.code, done.err) == (0, "")
    for word in ("--data", "--engine-a", "--precision-b", "--frames", "--json", "--plot"):
        assert word in done.out


def test_two_precisions_of_a_bundle_on_a_video(both: Path, tmp_path: Path, capfd: Capture) -> None:
    clip = write_video(tmp_path / "c.mp4", [picture(i) for i in range(20)], rate=10)
    words = ["compare", both, "--data", clip, "--precision-a", "fp32", "--precision-b", "int8"]
    done = inside(capfd, *words, "--plot", tmp_path / "p.png")
    assert done.code == 0
    assert done.out.startswith("A: tiny-frame, onnxruntime fp32: mean ")
    assert f"pictures: 20 of {clip}" in done.out
    assert "\nSpearman: 1.0000\n" in done.out or "\nSpearman: 0.9" in done.out
    assert "\x1b" not in done.out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(inside(capfd, *words, "--json", "--frames", "6").out)
    assert told["frames"] == 6
    assert told["spearman"] > 0.9
    assert {told["a"]["precision"], told["b"]["precision"]} == {"fp32", "int8"}


def test_two_bundles(both: Path, tmp_path: Path, capfd: Capture) -> None:
    other = make_frame_bundle(tmp_path / "o", name="other", seed=2, untrained=True).path
    done = inside(capfd, "compare", both, other, "--frames", "4", "--precision-a", "fp32")
    assert done.code == 0
    assert "B: other, onnxruntime fp32" in done.out
    assert "WARNING B is UNTRAINED" in done.out
    assert "compare: 4/4" in done.err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "nothing to compare"),
        (["--precision-b", "int8"], 2, "both sides are 'tiny-frame' on onnxruntime int8"),
        (["--precision-b", "fp32", "--frames", "0"], 2, "--frames 0; expected 1 to"),
        (["--precision-b", "fp32", "--plot", "p.txt"], 2, "does not end in"),
        (["--precision-b", "half"], 2, "no precision 'half'"),
        (["--engine-b", "onnxruntim"], 2, "did you mean 'onnxruntime'"),
        (["--precision-b", "fp16"], 1, "has no fp16 lowering"),
        (["/no/such/bundle"], 1, "no bundle at"),
        (["--precision-b", "fp32", "--data", "/no/such.mp4"], 1, "no such file"),
        (["--precision-b", "fp32", "--data", ""], 2, "--data is empty"),
    ],
)
def test_bad_usage(both: Path, capfd: Capture, words: list[str], code: int, told: str) -> None:
    done = inside(capfd, "compare", both, *words)
    assert told in done.error
    assert done.code == code
