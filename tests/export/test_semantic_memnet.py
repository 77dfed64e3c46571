"""semantic-memnet: golden counts, when its nodes run and on what, the mean of its streams, flow, imports."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memedge.errors import UsageError
from memedge_engines.trace import FrameTime, trace
from memedge_export.key_maps import i3d
from memedge_export.models import count
from memedge_export.models.semantic_memnet import ClipStream, FrameStream, StreamMean
from memedge_export.models.system import build_system, system_entry

ENTRY = system_entry("semantic-memnet")


def test_golden_counts() -> None:
    assert ENTRY is not None
    with torch.device("meta"):
        frames, video, flow = FrameStream(1.0), ClipStream(3, 224, 1.0, 0.3), ClipStream(2, 224, 1.0, 0.5)
        found = [count.parameters(part) for part in (frames, video, flow)]
        assert found == [6_954_881, 12_289_314, 12_267_362]
        clips = [
            count.macs_of(video, torch.empty(1, 3, 45, 224, 224)),
            count.macs_of(flow, torch.empty(1, 2, 45, 224, 224)),
        ]
    assert [round(one / 1e9, 1) for one in clips] == [80.5, 74.2]


def small(streams: str = "frames,video,flow"):  # type: ignore[no-untyped-def]
    assert ENTRY is not None
    return build_system(ENTRY, width=0.125, options={"streams": streams, "size": 64})


@pytest.mark.parametrize("rate", [15, 24, 30])
def test_a_clip_of_three_seconds_is_scored_once_on_its_frames(rate: int) -> None:
    network = small()
    calls = trace(network.dataflow, [FrameTime(i / rate, 1 / rate, i) for i in range(6 * rate)])
    score = [call for call in calls if call.node == "streams"]
    assert len(score) == 2
    assert all(call.complete for call in score)
    for clip, call in enumerate(score):
        begin = clip * 3
        seven = [calls[number].frame for number in call.inputs["frames"]]
        assert seven == [round((begin + k * 3 / 7) * rate) for k in range(7)]
        for name in ("video", "flow"):
            stream = calls[call.inputs[f"{name}_score"][0]]
            if name == "flow":
                stream = calls[stream.inputs["flow"][0]]
            assert stream.inputs["clip"] == tuple(round((begin + j / 15) * rate) for j in range(45))


def test_streams_are_averaged() -> None:
    frames = torch.tensor([[[0.1], [0.3]]])
    score, slope = StreamMean(True)(frames, *(torch.tensor([[v]]) for v in (0.5, -0.1, 0.8, -0.3)))
    assert score.item() == pytest.approx((0.2 + 0.5 + 0.8) / 3)
    assert slope.item() == pytest.approx(-0.2)
    assert [output.name for output in small("frames").nodes[-1].outputs] == ["score"]


def test_a_clip_stream_in_the_words_of_its_card() -> None:
    """Average pool 2 x 7 x 7 at stride 1, 1x1x1 convolution to two, mean of the steps, tanh."""
    torch.manual_seed(0)
    stream = ClipStream(2, 64, 0.125, 0.5).eval()
    clip = torch.rand(2, 2, 44, 64, 64) * 2 - 1
    with torch.no_grad():
        maps = stream.trunk(clip)
        assert maps.shape[2:] == (6, 2, 2)
        steps = [(maps[:, :, t] + maps[:, :, t + 1]).mean((2, 3)) / 2 for t in range(5)]
        weight, bias = stream.head.weight[:, :, 0, 0, 0], stream.head.bias
        expected = torch.tanh(torch.stack([step @ weight.T + bias for step in steps]).mean(0))
        score, slope = stream(clip)
    torch.testing.assert_close(torch.cat([score, slope], 1), expected, rtol=0, atol=1e-5)


def test_flow_of_a_clip_is_that_of_its_pairs() -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv is absent", exc_type=ImportError)
    from memedge_engines import extractors

    rng = np.random.default_rng(0)
    big = cv2.GaussianBlur(rng.integers(0, 255, (90, 90), np.uint8), (0, 0), 3)
    frames = [np.ascontiguousarray(big[k : k + 73, k : k + 73]) for k in range(4)]
    node = small().node("fields")
    found = extractors.find(node)({"clip": [frame[..., None] for frame in frames]}, node)["flow"]
    assert found.shape == (2, 3, 64, 64)
    cut = slice(round(4.5), round(4.5) + 64)
    for k in range(3):
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(frames[k], frames[k + 1], None)
        expected = np.clip(dis[cut, cut].transpose(2, 0, 1), -20, 20) / 20
        np.testing.assert_allclose(found[:, k], expected, atol=1e-6)
    # Everything moves by one pixel up and to the left.
    assert np.median(found) == pytest.approx(-1 / 20, abs=0.01)


def test_public_files_find_their_stream() -> None:
    assert ENTRY is not None
    network = small()
    for channels, part in ((3, "video.trunk"), (2, "flow.trunk")):
        state = network.get_submodule(part).state_dict()
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        state["logits.conv3d.weight"] = torch.zeros(400, 8, 1, 1, 1)
        fitting = [p.part for p in ENTRY.imports if p.detect(state)]
        assert fitting == [part]
        assert i3d.channels(state) == channels
    wrong = {"anything": torch.zeros(1)}
    assert not any(p.detect(wrong) for p in ENTRY.imports)


@pytest.mark.parametrize("streams", ["", "video,video", "sound"])
def test_streams_that_are_not_there(streams: str) -> None:
    with pytest.raises(UsageError, match="expected some of frames,video,flow"):
        small(streams)
