"""Windows that begin at a tick, and the trace of a dataflow, against rules written out by hand."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest

from memedge_engines.dataflow import StreamState
from memedge_engines.errors import BundleError, ExecutorError
from memedge_engines.manifest import Crop, FileEntry, Manifest, Node, NodeInput, NodeOutput, Preprocess, Resize, Target
from memedge_engines.manifest_rules import check
from memedge_engines.trace import Call, FrameTime, behind, trace

RGB = Preprocess(
    color="rgb",
    resize=Resize(rule="exact", size=(4, 4)),
    crop=Crop(rule="none"),
    scale=1 / 255,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    layout="ncthw",
)
FILE = FileEntry(file="a.onnx", sha256="0" * 64)
SCORE = (NodeOutput(name="score", role="score"),)


def clip_node(last: int, stride_s: float, period_s: float, anchor: str = "start") -> Node:
    item = NodeInput(name="clip", source="source", preprocess=RGB, last=last, stride_s=stride_s)
    return Node(name="clip", kind="graph", inputs=(item,), outputs=SCORE, period_s=period_s, anchor=anchor)  # type: ignore[arg-type]


def flow(*nodes: Node) -> Manifest:
    blank: object = None
    target = Target(name="short_term", source=f"{nodes[-1].name}.score", primary=True)
    return Manifest(schema=1, name="x", nodes=nodes, targets=(target,), golden=blank, provenance=blank)  # type: ignore[arg-type]


def film(seconds: float, rate: int) -> list[FrameTime]:
    return [FrameTime(i / rate, 1 / rate, i) for i in range(round(seconds * rate))]


def test_clips_of_consecutive_frames_begin_each_second() -> None:
    calls = trace(flow(clip_node(16, 0.0, 1.0)), film(7, 24))
    assert [call.inputs["clip"] for call in calls] == [tuple(range(24 * k, 24 * k + 16)) for k in range(7)]
    assert all(call.complete for call in calls)


def test_clips_that_overlap_begin_at_every_tick() -> None:
    calls = trace(flow(clip_node(16, 0.0, 0.5)), film(3, 10))
    assert [call.inputs["clip"] for call in calls] == [tuple(range(5 * k, 5 * k + 16)) for k in range(3)]


@pytest.mark.parametrize("rate", [15, 24, 30, 60])
def test_forty_five_frames_at_fifteen_a_second_are_the_nearest_to_their_ticks(rate: int) -> None:
    calls = trace(flow(clip_node(45, 1 / 15, 3.0)), film(6, rate))
    assert len(calls) == 2
    for number, call in enumerate(calls):
        wanted = tuple(round((number * 3 + Fraction(j, 15)) * rate) for j in range(45))
        assert call.inputs["clip"] == wanted
        assert call.frame == wanted[-1]


def test_windows_that_end_at_a_tick_are_padded_at_first() -> None:
    calls = trace(flow(clip_node(4, 2.0, 2.0, "end")), film(8, 4))
    assert [call.inputs["clip"] for call in calls] == [(0, 0, 0, 0), (0, 0, 0, 8), (0, 0, 8, 16), (0, 8, 16, 24)]
    assert [call.complete for call in calls] == [False, False, False, True]


def test_a_node_behind_another_refers_to_its_calls() -> None:
    item = NodeInput(name="frames", source="source", preprocess=msgspec.structs.replace(RGB, layout="nchw"))
    frames = Node(name="frames", kind="graph", inputs=(item,), outputs=SCORE, period_s=2.0)
    window = NodeInput(name="scores", source="frames.score", last=4, stride_s=2.0)
    head = Node(name="head", kind="graph", inputs=(window,), outputs=SCORE, period_s=2.0)
    manifest = flow(frames, head)
    calls = trace(manifest, film(7, 24))
    assert [call.frame for call in calls if call.node == "frames"] == [0, 48, 96, 144]
    last = calls[-1]
    assert last.node == "head"
    assert last.complete
    assert [calls[number].frame for number in last.inputs["scores"]] == [0, 48, 96, 144]
    needed = behind(calls, manifest, [last.number])
    assert [call.node for call in needed] == ["frames"] * 4 + ["head"]
    assert all(isinstance(call, Call) for call in needed)


def test_a_node_follows_the_one_that_it_names() -> None:
    item = NodeInput(name="frames", source="source", preprocess=msgspec.structs.replace(RGB, layout="nchw"))
    frames = Node(name="frames", kind="graph", inputs=(item,), outputs=SCORE, period_s=0.5)
    both = (NodeInput(name="one", source="frames.score"), NodeInput(name="two", source="clip.score"))
    head = Node(name="head", kind="graph", inputs=both, outputs=SCORE, after="clip")
    calls = trace(flow(frames, clip_node(45, 1 / 15, 3.0), head), film(6, 15))
    assert [call.frame for call in calls if call.node == "head"] == [44, 89]
    missing = msgspec.structs.replace(head, after="nobody", inputs=both[:1], files={"fp32": FILE})
    with pytest.raises(BundleError, match="after 'nobody'"):
        check(flow(msgspec.structs.replace(frames, files={"fp32": FILE}), missing))


def test_ticks_that_fill_survive_save_and_restore() -> None:
    manifest = flow(clip_node(16, 0.0, 1.0))
    first, second = StreamState(manifest, {}), StreamState(manifest, {})
    times = film(4, 24)

    def due(state: StreamState, part: list[FrameTime]) -> list[int]:
        found = [(t.index, state.schedule.take(t.pts_s, t.duration_s, t.index)) for t in part]
        return [index for index, one in found if one.nodes]

    assert due(first, times[:30]) == [15]
    second.load(first.save("hash"), "hash")
    assert due(first, times[30:]) == due(second, times[30:]) == [39, 63, 87]


def test_caller_values_have_their_shape() -> None:
    tokens = NodeInput(name="tokens", source="caller", default=[0.0], shape=(3, 2))
    node = Node(name="n", kind="graph", inputs=(*clip_node(2, 0.0, 1.0).inputs, tokens), outputs=SCORE, period_s=1.0)
    state = StreamState(flow(node), {})
    assert state.caller_value(node, tokens).shape == (3, 2)
    with pytest.raises(ExecutorError, match=r"shape \[4\]; expected \[3, 2\]"):
        state.set_caller({"tokens": [0.0] * 4})


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (clip_node(16, 0.0, 0.0), "anchor start needs period_s > 0"),
        (clip_node(1, 0.0, 1.0), "2 or more long"),
    ],
)
def test_an_anchor_that_cannot_be_is_refused(node: Node, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        check(flow(msgspec.structs.replace(node, files={"fp32": None})))  # type: ignore[dict-item]
