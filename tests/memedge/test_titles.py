from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

import memedge
from helpers_bundle import edit_manifest, make_frame_bundle, picture
from helpers_cli import inside
from helpers_titled import LENGTH, SIZE, UNKNOWN, VECTORS, VOCABULARY, expected_score, make_titled_bundle
from memedge import titles
from memedge.errors import BundleError, UsageError
from memedge.loop import Loop, LoopOptions
from memedge.sinks.synthetic import SyntheticSink
from memedge.sources import open_source
from memedge_engines.bundle import Bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_titled_bundle(tmp_path_factory.mktemp("titled") / "b", period_s=0.0)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("young-woman-running-on-the-beach.webm", ["young", "woman", "running", "on", "the", "beach"]),
        ("  Dog_Park  2.MP4 ", ["dog", "park", "2"]),
        ("Don't look: it's an ÉTÉ in St. Ives", ["don't", "look", "it's", "an", "été", "in", "st", "ives"]),
        ("No.5 at v1.2", ["no", "5", "at", "v1", "2"]),
        ("-- ... --", []),
        ("", []),
    ],
)
def test_words_of_titles(title: str, words: list[str]) -> None:
    assert titles.tokenise(title) == words


def test_words_are_looked_up_padded_and_cut(bundle: Bundle) -> None:
    found = titles.caller_values(bundle, {"title": "Dog-on-the-beach", "other": 1.0})
    assert found["other"] == 1.0
    expected = np.zeros((LENGTH, SIZE))
    expected[:4] = [VECTORS[0], UNKNOWN, UNKNOWN, VECTORS[1]]
    np.testing.assert_array_equal(found["tokens"], expected)
    np.testing.assert_array_equal(found["token_mask"], [1, 1, 1, 1, 0, 0])
    long = titles.caller_values(bundle, {"title": "dog " * 40})
    assert long["token_mask"].sum() == LENGTH
    np.testing.assert_array_equal(long["tokens"], np.tile(VECTORS[0], (LENGTH, 1)))


def test_a_vocabulary_survives_its_file() -> None:
    data = titles.pack_words(VOCABULARY, VECTORS, UNKNOWN)
    words = titles.unpack_words(data, "here")
    assert list(words.index) == list(VOCABULARY)
    np.testing.assert_array_equal(words.vectors, VECTORS)
    with pytest.raises(BundleError, match=r"here is not a file of word vectors.*export the bundle again"):
        titles.unpack_words(b"rubbish", "here")
    with pytest.raises(BundleError, match=r"here: 4 words, vectors float32 \[3, 4\]"):
        titles.unpack_words(titles.pack_words(VOCABULARY, VECTORS[:3], UNKNOWN), "here")
    buffer = io.BytesIO()
    np.savez(buffer, words=np.zeros(1, np.uint8))
    with pytest.raises(BundleError, match="here is not a file of word vectors"):
        titles.unpack_words(buffer.getvalue(), "here")


def test_scores_of_pictures_with_and_without_a_title(bundle: Bundle) -> None:
    with memedge.load(bundle.path) as scorer:
        plain = scorer.score(picture(3))
        dog, again = scorer.score_batch([picture(3), picture(3)], {"title": "a dog"})
    assert plain.flags == ("no_title",)
    assert dog.flags == ()
    assert plain.value == pytest.approx(expected_score(3), abs=2e-3)
    assert dog.value == again.value == pytest.approx(expected_score(3, "a", "dog"), abs=2e-3)


def test_titles_that_cannot_be_meant(bundle: Bundle, tmp_path: Path) -> None:
    bare, plain = make_titled_bundle(tmp_path / "bare", words=False), make_frame_bundle(tmp_path / "plain")
    with memedge.load(bundle.path) as scorer:
        with pytest.raises(UsageError, match=r"title '\?' has no words"):
            scorer.score(picture(1), {"title": "?"})
        with pytest.raises(UsageError, match="neither tokens nor token_mask beside it"):
            scorer.score(picture(1), {"title": "dog", "tokens": np.zeros((LENGTH, SIZE))})
        with pytest.raises(UsageError, match="title 7; expected text"):
            scorer.score(picture(1), {"title": 7})
    with memedge.load(bare.path) as scorer:
        assert scorer.score(picture(1)).flags == ("no_title",)
        with pytest.raises(BundleError, match=r"no word vectors.*memedge export --model tiny-titled --words FILE"):
            scorer.score(picture(1), {"title": "dog"})
    with memedge.load(plain.path) as scorer, pytest.raises(UsageError, match="no bundle takes a title; given are"):
        scorer.score(picture(1), {"title": "dog"})


def test_vectors_of_another_size_are_refused(tmp_path: Path) -> None:
    made = make_titled_bundle(tmp_path / "b")
    edit_manifest(made.path, lambda m: m["nodes"][0]["inputs"][0].update(shape=[LENGTH, SIZE + 1]))
    with pytest.raises(BundleError, match="vectors of 4; the bundle takes 5"):
        titles.caller_values(Bundle.open(made.path), {"title": "dog"})


def test_a_stream_scores_its_title_beside_a_bundle_that_takes_none(bundle: Bundle, tmp_path: Path) -> None:
    plain = make_frame_bundle(tmp_path / "plain")
    sink = SyntheticSink()
    with memedge.load(bundle.path) as titled, memedge.load(plain.path) as other:
        options = LoopOptions(caller={"title": "dog"}, max_seconds=0.2)
        Loop(open_source("test://"), {"a": titled, "b": other}, [sink], options).run()
        with memedge.stream("test://", titled) as readings:
            first = next(iter(readings))
        with memedge.stream("test://", titled, caller={"title": "dog"}) as readings:
            dog = next(iter(readings))
        with pytest.raises(UsageError, match="no bundle takes a title"):
            memedge.stream("test://", other, caller={"title": "dog"})
    assert {reading.bundle for reading in sink.readings if reading.score is not None} == {"a", "b"}
    assert not any("no_title" in reading.flags for reading in sink.readings)
    assert "no_title" in first.flags
    assert "no_title" not in dog.flags
    assert first.score != dog.score
    assert "text.embedding" not in first.outputs


def test_run_takes_a_title(bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scores = []
    for title in (["--title", "dog.webm"], []):
        words = ["run", "--source", "test://", "--bundle", bundle.path, "--max-seconds", "0.2", "--jsonl", "-", "-q"]
        done = inside(capfd, *words, "--no-tune", *title)
        assert done.code == 0, done.err
        reading = json.loads(done.out.splitlines()[0])
        scores.append(reading["score"])
        assert ("no_title" in reading["flags"]) == (not title)
    assert scores[0] != scores[1]
    wrong = inside(capfd, "run", "--source", "test://", "--bundle", bundle.path, "--title", "?", "-q")
    assert wrong.code == 2
    assert "title '?' has no words" in wrong.err
    wrong = inside(capfd, "run", "--source", "test://", "--bundle", bundle.path, "--caller", "title=3", "-q")
    assert wrong.code == 2
    assert "--caller title=3; expected NAME=NUMBER" in wrong.err
