"""Titles in calibration: a node that reads no picture still has ranges, and clips of any sizes stand in one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memedge.pictures import generate
from memedge.titles import Words
from memedge_engines.dataflow import default_value
from memedge_engines.frame import Frame
from memedge_export.models.system import system_entry
from memedge_export.quant.calib_callers import CallerExamples
from memedge_export.quant.frames import plan
from memedge_export.quant.system_pipeline import NodeFeeds
from memedge_export.system_clips import Fitter, Timeline, run_calls
from memedge_export.system_graphs import run_module


def thin(name: str, **options: object) -> Any:
    entry = system_entry(name)
    assert entry is not None
    return entry.build(width=0.0625, **options)


def test_a_node_without_pictures_is_calibrated_on_titles() -> None:
    network = thin("ic-image-text", backbone="resnet50")
    timeline = Timeline.of(network.dataflow)
    feeds = NodeFeeds("text", {}, timeline, plan(None, 32, 12, 0))
    found = list(feeds)
    assert len(found) == len(feeds) == 32
    lengths = [int(one["token_mask"].sum()) for one in found]
    assert lengths[::2] == [0] * 16
    assert all(3 <= length <= 12 for length in lengths[1::2])
    assert len({one["tokens"].tobytes() for one in found}) == 17  # none, and sixteen others
    for one, length in zip(found, lengths, strict=True):
        assert (one["tokens"].dtype, one["tokens"].shape) == (np.float32, (1, *network.node("text").inputs[0].shape))
        assert one["tokens"][0, :length].any(axis=1).all()
        assert not one["tokens"][0, length:].any()
        assert one["token_mask"][0].tolist() == [1.0] * length + [0.0] * (len(one["token_mask"][0]) - length)


def test_titles_are_words_of_the_vocabulary_and_the_same_each_time() -> None:
    manifest = thin("ic-image-text", backbone="resnet50").dataflow
    size = manifest.node("text").inputs[0].shape[1]
    vectors = np.arange(5 * size, dtype=np.float32).reshape(5, size) + 1
    examples = CallerExamples(manifest, Words({}, vectors, np.zeros(size, np.float32)))
    known = {row.tobytes() for row in vectors}
    for row in (1, 3, 5):
        told = examples.of(row)
        count = int(told["token_mask"].sum())
        assert {vector.tobytes() for vector in told["tokens"][:count]} <= known
        np.testing.assert_array_equal(told["tokens"], examples.of(row)["tokens"])
    assert examples.of(2) == {}
    assert CallerExamples(thin("hmp-mlp").dataflow).of(1) == {}


def test_what_the_caller_gives_reaches_the_node_of_its_clip() -> None:
    """Against the text tower run on each clip's own title, and on none."""
    network = thin("ic-image-text", backbone="resnet50")
    network.eval()
    timeline = Timeline.of(network.dataflow).until("text")
    examples = CallerExamples(network.dataflow)
    given = [examples.of(row) for row in range(4)]

    def run(node: Any, inputs: dict[str, Any]) -> Any:
        return run_module(network.graphs[node.name].module, node, inputs)

    found = run_calls(timeline, [{}] * 4, run, callers=given)
    (call,) = timeline.calls
    node = network.node("text")
    for row, one in enumerate(given):
        inputs = {item.name: one.get(item.name, default_value(item))[None] for item in node.inputs}
        expected = run_module(network.graphs["text"].module, node, inputs)["embedding"]
        np.testing.assert_allclose(found[call.number]["text.embedding"][row : row + 1], expected, atol=1e-5)
    assert not np.allclose(found[call.number]["text.embedding"][0], found[call.number]["text.embedding"][1])


@pytest.mark.parametrize("name", ["hmp-mlp"])
def test_clips_of_different_sizes_stand_in_one_batch(name: str) -> None:
    """Host nodes that look at frames of their own size: two clips at once give what each gives alone."""
    network = thin(name)
    network.eval()
    timeline = Timeline.of(network.dataflow)
    fitter = Fitter(timeline)
    picture = next(iter(generate(1, 3)))
    small = np.ascontiguousarray(picture[:100, :148])
    assert Frame.from_rgb(small).height == 100
    clips = [fitter.still(picture, 1), fitter.still(small, 2)]

    def run(node: Any, inputs: dict[str, Any]) -> Any:
        return run_module(network.graphs[node.name].module, node, inputs)

    both = run_calls(timeline, clips, run)
    (number,) = timeline.finals.values()
    (target,) = timeline.manifest.targets
    for row, clip in enumerate(clips):
        alone = run_calls(timeline, [clip], run)
        np.testing.assert_allclose(both[number][target.source][row], alone[number][target.source][0], atol=1e-6)
