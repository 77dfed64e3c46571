"""Bundles that read titles are evaluated with those of the data set."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers_bundle import make_frame_bundle, picture
from helpers_sets import gray_memento
from helpers_titled import expected_score, make_titled_bundle
from memedge.titles import tokenise
from memedge_export.data import Record
from memedge_export.eval.contenders import Device, open_contenders
from memedge_export.eval.parts import open_parts
from memedge_export.eval.scoring import score
from memedge_export.train.callers import title_of


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def text_logit(*words: str) -> float:
    """What a title adds to the logit of the tiny bundle's score."""
    return logit(expected_score(3, *words)) - logit(expected_score(3))


def record(**labels: tuple[str, ...]) -> Record:
    return Record(id="r", path=Path("r.mp4"), score=0.5, split="test", labels=labels)


def test_title_of_a_record() -> None:
    assert title_of(record(caption=("a dog", "a beach"))) == "a dog"
    assert title_of(record(caption=("a dog",), title=("Beach-dog.webm",))) == "Beach-dog.webm"
    assert title_of(record(caption=("...",))) is None
    assert title_of(record()) is None


def test_pictures_and_videos_are_scored_with_their_titles(tmp_path: Path) -> None:
    titled = make_titled_bundle(tmp_path / "titled").path
    bare = make_titled_bundle(tmp_path / "bare", words=False, name="bare").path
    plain = make_frame_bundle(tmp_path / "plain").path
    with ExitStack() as stack:
        first, second, third = open_contenders(stack, [titled, bare, plain])
        for number, one in enumerate((record(caption=("a dog",)), record())):
            first.add(number, picture(3), one)
        found = first.finish()
        assert float(found[0][0]) == pytest.approx(expected_score(3, "a", "dog"), abs=2e-3)
        assert float(found[1][0]) == pytest.approx(expected_score(3), abs=2e-3)
        # One pass over videos for all three: the title goes to the bundle that reads it.
        (part,) = open_parts([f"memento10k:{gray_memento(tmp_path / 'memento')}"], "val", "short_term")
        score(part, [first, second, third])
        with_titles, without = (part.predicted[c.model.label]["short_term"] for c in (first, second))
        words = [tokenise(one.labels["caption"][0]) for one in part.records]
        for title, own, other in zip(words, with_titles, without, strict=True):
            assert logit(own) - logit(other) == pytest.approx(text_logit(*title), abs=1e-3)
        for device in (second, third):
            assert isinstance(device, Device)
            assert device.caller(record(caption=("a dog",))) == {}
