from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_bundle import edit_manifest, make_frame_bundle
from helpers_sinks import context, reading
from memedge.decay import DelayedScore, check_delay, score_at
from memedge.errors import UsageError
from memedge.shown import NewestOutputs, ShownOutput, shown_outputs
from memedge.sinks.terminal import TerminalSink
from memedge_engines.bundle import Bundle
from memedge_engines.errors import BundleError
from memedge_engines.manifest import Decay, Manifest


def _manifest(path: Path, role: str, **more: Any) -> Manifest:
    make_frame_bundle(path, period_s=1.5)

    def edit(data: dict[str, Any]) -> None:
        data["nodes"][0]["outputs"][1] = {"name": "extra", "role": role, **more}

    edit_manifest(path, edit)
    return Bundle.open(path).manifest


def test_score_at_a_delay_is_semantic_memnets_line() -> None:
    decay = Decay(lag=180, item_s=3)
    assert score_at(0.8, -0.001, decay, 540) == pytest.approx(0.8)  # 180 items
    assert score_at(0.8, -0.001, decay, 30) == pytest.approx(0.8 + 0.001 * 170)
    assert score_at(0.8, -0.001, decay, 600) == pytest.approx(0.78)
    assert score_at(0.8, -0.001, decay, 1e6) == 0
    assert score_at(0.8, 0.01, decay, 1e6) == 1


def test_decay_of_a_bundle(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path / "b", "decay", decay={"lag": 100, "item_s": 2})
    delayed = DelayedScore(manifest, 300.0)
    values = {"model.score": np.array([0.7], np.float32), "model.extra": np.array([-0.002], np.float32)}
    assert delayed.values(values) == {"score_at_300s": pytest.approx(0.6)}
    assert delayed.values({}) == DelayedScore(manifest, None).values(values) == {}
    check_delay([manifest], 300.0)
    names = [(output.name, output.label) for output in shown_outputs(manifest, 300.0)]
    assert names == [("model.extra", "extra"), ("score_at_300s", "after 300 s")]
    assert [output.hold_s for output in shown_outputs(manifest)] == [3.0]


def test_a_delay_that_cannot_be_meant(tmp_path: Path) -> None:
    plain = _manifest(tmp_path / "b", "attention")
    check_delay([plain], None)
    with pytest.raises(UsageError, match="no bundle has a slope of decay"):
        check_delay([plain], 60.0)
    with pytest.raises(UsageError, match="--delay -1; expected 0 or more"):
        check_delay([plain], -1.0)
    with pytest.raises(BundleError, match="expected role decay"):
        _manifest(tmp_path / "c", "attention", decay={"lag": 100, "item_s": 2})


def test_attention_knows_how_its_pictures_were_made(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path / "b", "attention")
    (shown,) = shown_outputs(manifest)
    assert (shown.name, shown.role, shown.contract) == (
        "model.extra",
        "attention",
        manifest.nodes[0].inputs[0].preprocess,
    )


SHOWN = (
    ShownOutput("ic.class_probs", "class_probs", "class probs", hold_s=2.0),
    ShownOutput("head.low", "contribution", "low", hold_s=2.0),
    ShownOutput("streams.alpha", "decay", "alpha", hold_s=2.0),
    ShownOutput("score_at_60s", "decay", "after 60 s", hold_s=2.0),
)
OUTPUTS = {
    "ic.class_probs": [0.1, 0.25, 0.6, 0.05],
    "head.low": [0.031],
    "streams.alpha": [-0.0012],
    "score_at_60s": 0.81,
}
TEXT = "class probs 10 25 60 5 %  low 0.03  alpha -0.0012  after 60 s 0.81"


def test_text_of_further_outputs() -> None:
    newest = NewestOutputs(SHOWN)
    assert newest.text() == ""
    newest.update(reading(0, outputs={**OUTPUTS, "other.thing": [1.0]}))
    assert newest.text() == TEXT
    newest.update(reading(25, outputs={"head.low": list(range(20))}))
    assert "low 0.00 1.00 2.00 3.00 4.00 5.00 6.00 7.00 ..." in newest.text()
    newest.update(reading(60))
    assert newest.text().startswith("low"), "what is older than its period allows is not shown"


def test_terminal_shows_them_in_lines_and_panels() -> None:
    import dataclasses

    given = dataclasses.replace(context(), shown={"small": SHOWN})
    for live in (False, True):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        sink = TerminalSink(stream, live=live)
        sink.start(given)
        sink.write(reading(0, outputs=OUTPUTS), None, {})
        sink.close()
        assert TEXT in stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
