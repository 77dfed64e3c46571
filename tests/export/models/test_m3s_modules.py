"""Every combination of M3-S's modules: streamed as torch scores offline, with stand-ins for the trunks or their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import helpers_m3s
import memedge
from helpers_offline import decode
from memedge_export.models import m3s

OWN = {"m3s-mid": "the HRNet itself", "m3s-high": "the CSN itself"}
"""Where a narrow copy of the trunk takes the stand-in's place; test_m3s has both in one system."""


def _last_frame(letters: str) -> int:
    """Of a clip's frames, the one on which the head runs: CSN's last, else the last of the low-level values, else
    HRNet's only one."""
    if set(letters) & set("hs"):
        return 36
    return 30 if "l" in letters else 0


def _check(folder: Path, letters: str, own: bool) -> None:
    torch.manual_seed(4)
    network = helpers_m3s.lively(helpers_m3s.network(letters, own=own).eval())
    bundle = helpers_m3s.bundle_of(network, folder, letters, own=own)
    clip = helpers_m3s.write_film(folder / "film.mp4")
    with memedge.load(bundle.path, engine="onnxruntime") as scorer:
        with memedge.stream(str(clip), scorer) as stream:
            readings = list(stream)
        video = stream.summary.video_score["short_term"]
    frames = decode(clip)
    last = _last_frame(letters)
    ends = [readings[begin + last] for begin in (0, 45)]
    # Low-level values come once a second, also between two clips; the others give one score a clip.
    if "l" not in letters or set(letters) & set("hs"):
        assert [reading.frame_index for reading in readings if reading.score is not None] == [last, 45 + last]
    expected = [helpers_m3s.offline(network, frames, begin) for begin in (0, 45)]
    scores = [float(one[0][0]) for one in expected]
    assert abs(scores[0] - scores[1]) > 0.01, "scores that never change would prove nothing"
    assert [reading.score for reading in ends] == pytest.approx(scores, abs=1e-3)
    assert [reading.rolling for reading in ends] == pytest.approx(scores, abs=1e-3)
    assert video == pytest.approx(scores[0 if letters == "m" else -1], abs=1e-3)
    names = network.get_submodule("head").contributions
    for reading, one in zip(ends, expected, strict=True):
        found = [reading.outputs[f"head.{name}"][0] for name in names]
        assert found == pytest.approx([float(value[0]) for value in one[2:]], abs=1e-3)


def _cases() -> list[Any]:
    cases = [pytest.param(name, id=name, marks=pytest.mark.slow) for name in m3s.COMBINATIONS if name != "m3s"]
    return sorted(cases, key=lambda case: str(case.id))


@pytest.mark.parametrize("name", _cases())
def test_streamed_as_torch_scores_offline(tmp_path: Path, name: str) -> None:
    letters = m3s.COMBINATIONS[name]
    if "l" in letters:
        pytest.importorskip("cv2", reason="optical flow needs OpenCV (pip install 'memedge[opencv]')")
    _check(tmp_path, letters, name in OWN)
