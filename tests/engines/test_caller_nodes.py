"""Nodes fed by the caller alone: they run at a stream's first frame, and again when their values change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_bundle import picture
from helpers_titled import LENGTH, SIZE, expected_score, make_titled_bundle
from memedge.titles import caller_values
from memedge_engines import backends
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.errors import EngineError, ExecutorError
from memedge_engines.executor import Executor, Outputs
from memedge_engines.frame import Frame
from memedge_engines.host_executor import HostExecutor
from memedge_engines.manifest import decode, encode
from memedge_engines.replaceable import ReplaceableExecutor
from memedge_engines.trace import FrameTime, trace

DOG, BEACH = {"title": "Dog"}, {"title": "beach-nowhere.webm"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_titled_bundle(tmp_path_factory.mktemp("titled") / "b")


def executor(bundle: Bundle, backend: str = "onnxruntime") -> HostExecutor:
    options = EngineOptions(threads=1, max_batch=4)
    engines = {n.name: backends.get(backend).open(bundle, n, "fp32", options) for n in bundle.manifest.nodes}
    return HostExecutor(bundle, engines, max_batch=4)


def play(run: Executor, stream: str, count: int, first: int = 0) -> Iterator[Outputs]:
    """Frames two a second, all the same picture."""
    for number in range(first, first + count):
        frame = Frame.from_rgb(picture(3), pts_s=number / 2, duration_s=0.5, index=number)
        yield run.submit([(stream, frame)]).result(10)[0]
        frame.release()


def ran(outputs: list[Outputs]) -> list[list[str]]:
    return [sorted(o.complete) for o in outputs]


def scores(outputs: list[Outputs]) -> list[float]:
    return [float(o.values["image.score"][0]) for o in outputs if "image.score" in o.values]


def test_text_runs_once_a_title_and_pictures_at_their_period(bundle: Bundle) -> None:
    with executor(bundle) as run:
        run.open_stream("s", caller_values(bundle, DOG))
        found = list(play(run, "s", 5))
        assert ran(found) == [["image", "text"], [], ["image"], [], ["image"]]
        assert all(o.complete.get("image", True) for o in found)
        assert np.allclose(scores(found), expected_score(3, "dog"), atol=2e-3)
        # Between two samples: the text runs at the next frame, the picture when it is due.
        run.set_caller("s", caller_values(bundle, BEACH))
        found = list(play(run, "s", 3, first=5))
        assert ran(found) == [["text"], ["image"], []]
        assert np.allclose(scores(found), expected_score(3, "beach", "nowhere"), atol=2e-3)
        run.set_caller("s", caller_values(bundle, BEACH))
        assert ran(list(play(run, "s", 2, first=8))) == [["image"], []]


def test_without_values_the_defaults_hold(bundle: Bundle) -> None:
    with executor(bundle) as run:
        run.open_stream("s")
        found = list(play(run, "s", 3))
    assert ran(found) == [["image", "text"], [], ["image"]]
    assert np.allclose(scores(found), expected_score(3), atol=2e-3)


def test_streams_have_titles_of_their_own_in_one_batch(bundle: Bundle) -> None:
    with executor(bundle) as run:
        run.open_stream("dog", caller_values(bundle, DOG))
        run.open_stream("beach", caller_values(bundle, {"title": "beach"}))
        frames = [Frame.from_rgb(picture(3), duration_s=0.5) for _ in range(2)]
        found = run.submit(list(zip(("dog", "beach"), frames, strict=True))).result(10)
        for frame in frames:
            frame.release()
    assert np.allclose(scores(found), [expected_score(3, "dog"), expected_score(3, "beach")], atol=2e-3)


def test_reset_runs_it_again_and_a_restored_state_does_not(bundle: Bundle) -> None:
    with executor(bundle) as run:
        run.open_stream("s", caller_values(bundle, DOG))
        first = list(play(run, "s", 2))
        saved = run.state("s")
        run.reset("s")
        again = list(play(run, "s", 2))
        run.open_stream("t")
        run.restore("t", saved)
        rest = list(play(run, "t", 3, first=2))
    assert ran(first) == ran(again) == [["image", "text"], []]
    assert scores(first) == scores(again) == scores(rest)[:1]
    assert ran(rest) == [["image"], [], ["image"]]


def test_another_engine_makes_the_text_anew_and_scores_stay_whole(bundle: Bundle) -> None:
    with ReplaceableExecutor(executor(bundle, "synthetic")) as run:
        run.open_stream("s", caller_values(bundle, DOG))
        list(play(run, "s", 2))
        run.replace(executor(bundle))
        found = list(play(run, "s", 3, first=2))
    assert ran(found) == [["image", "text"], [], ["image"]]
    assert [o.complete["image"] for o in found if "image" in o.complete] == [True, True]
    assert np.allclose(scores(found), expected_score(3, "dog"), atol=2e-3)


def test_values_of_another_shape_or_name_are_refused(bundle: Bundle) -> None:
    wrong: dict[str, Any] = {"tokens": np.zeros((LENGTH, SIZE + 1))}
    with executor(bundle) as run:
        with pytest.raises(ExecutorError, match=r"'tokens' has shape \[6, 5\]; expected \[6, 4\]"):
            run.open_stream("s", wrong)
        run.open_stream("s")
        with pytest.raises(ExecutorError, match="no caller input 'words'"):
            run.set_caller("s", {"words": 1})


def test_a_file_of_another_shape_than_the_manifests_does_not_open(bundle: Bundle) -> None:
    data = encode(bundle.manifest).replace(
        b'"shape": [\n            6,\n            4', b'"shape": [\n            6,\n            5'
    )
    text = decode(data).node("text")
    assert text.inputs[0].shape == (6, 5)
    with pytest.raises(EngineError, match=r"'tokens': the file takes \(batch, 6, 4\), the .* makes \(batch, 6, 5\)"):
        backends.get("onnxruntime").open(bundle, text, "fp32")


def test_the_trace_runs_it_once(bundle: Bundle) -> None:
    calls = trace(bundle.manifest, [FrameTime(n / 2, 0.5, n) for n in range(5)])
    assert [(call.node, call.frame) for call in calls] == [("text", 0), ("image", 0), ("image", 2), ("image", 4)]
    assert calls[3].inputs == {"frames": (4,), "text": (0,)}


def test_paths_of_bundles_are_not_looked_at_where_no_title_is_given(tmp_path: Path) -> None:
    bare = make_titled_bundle(tmp_path / "bare", words=False)
    assert caller_values(bare, {}) == {}
