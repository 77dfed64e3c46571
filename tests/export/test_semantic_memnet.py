"""semantic-memnet: golden counts, when its nodes run and on what, the mean of its streams, flow, imports."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers_offline import decode, readings, tensor
from helpers_video import write_video
from memedge.errors import UsageError
from memedge.pictures import picture
from memedge_engines.trace import FrameTime, trace
from memedge_export.data import open_data
from memedge_export.key_maps import i3d
from memedge_export.models import count, system
from memedge_export.models.semantic_memnet import ClipStream, FrameStream, StreamMean
from memedge_export.models.system import System, build_system, system_entry
from memedge_export.system_bundle import export_system
from memedge_export.train import state
from memedge_export.train.loop import Job, train
from memedge_export.train.recipes import recipe_for

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


def film(folder: Path) -> Path:
    """Two clips of 3 s at 15 frames a second, of other pictures, which move within them."""
    frames = []
    for clip in range(2):
        still = picture(300 + clip)[:96, :128] * (0.6 + 0.4 * clip)
        frames += [np.roll(still.astype(np.uint8), 2 * step * (1 + clip), 1) for step in range(45)]
    return write_video(folder / "film.mp4", frames, rate=15)


@torch.no_grad()
def by_hand(network: System, frames: list[np.ndarray]) -> dict[str, float]:
    """One clip of 45 frames as the card says: seven frames, all frames, the flow between them, the mean."""
    cv2 = pytest.importorskip("cv2", reason="opencv is absent", exc_type=ImportError)
    parts = network.graphs
    contracts = {node.name: node.inputs[0].preprocess for node in network.nodes}
    assert contracts["frames"] is not None
    assert contracts["video"] is not None
    assert contracts["fields"] is not None
    seven = torch.cat([tensor(frames[round(k * 45 / 7)], contracts["frames"]) for k in range(7)])
    score = float(parts["frames"].module(seven)[0].mean())
    clip = torch.cat([tensor(frame, contracts["video"]) for frame in frames]).transpose(0, 1)[None]
    video = [float(one) for one in parts["video"].module(clip)]
    grey = [tensor(frame, contracts["fields"])[0, 0].numpy().astype(np.uint8) for frame in frames]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    cut = slice((73 - 64) // 2, (73 - 64) // 2 + 64)
    fields = [np.clip(dis.calc(a, b, None), -20, 20).transpose(2, 0, 1) / 20 for a, b in pairwise(grey)]
    stacked = torch.from_numpy(np.stack(fields, 1)[:, :, cut, cut].astype(np.float32))[None]
    flow = [float(one) for one in parts["flow"].module(stacked)]
    return {"score": (score + video[0] + flow[0]) / 3, "alpha": (video[1] + flow[1]) / 2}


@pytest.mark.slow
def test_streamed_as_torch_scores_offline(tmp_path: Path) -> None:
    assert ENTRY is not None
    options = {"streams": "frames,video,flow", "size": 64}
    thin = dataclasses.replace(ENTRY, build=lambda width=1.0, **given: ENTRY.build(0.125, **given))
    network = build_system(thin, options=options)
    with torch.no_grad():
        for stream in ("frames", "video", "flow"):
            head = network.get_submodule(f"{stream}.head")
            head.weight *= 0.05  # type: ignore[operator]
            head.bias.fill_(0.5)  # type: ignore[operator, union-attr]
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "w.safetensors")
    bundle = export_system(thin, [str(tmp_path / "w.safetensors")], tmp_path / "bundle", options=options)
    every = readings(bundle, film(tmp_path))
    frames = decode(tmp_path / "film.mp4")
    scored = [reading for reading in every if reading.score is not None]
    assert [reading.frame_index for reading in scored] == [44, 89]
    for clip, reading in enumerate(scored):
        expected = by_hand(network, frames[clip * 45 : clip * 45 + 45])
        assert reading.score == pytest.approx(expected["score"], abs=1e-3)
        assert float(np.ravel(reading.outputs["streams.alpha"])[0]) == pytest.approx(expected["alpha"], abs=1e-3)


@pytest.mark.slow
def test_a_few_steps_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The video stream alone: the head first, then everything; the loss of decay falls."""
    assert ENTRY is not None
    torch.set_num_threads(1)
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)
    thin = dataclasses.replace(ENTRY, build=lambda width=1.0, **given: ENTRY.build(0.125, **given))
    monkeypatch.setitem(system._systems, "semantic-memnet", thin)
    rows = ["file,score,split,alpha"]
    for number in range(8):
        level = 40 + 25 * number
        frames = [np.full((64, 64, 3), level, np.uint8) for _ in range(45)]
        write_video(tmp_path / f"{number}.mp4", frames, rate=15)
        rows.append(f"{number}.mp4,{0.5 + 0.05 * number},{'val' if number % 4 == 3 else 'train'},{-0.001 * number}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    data = open_data(f"folder:{tmp_path / 'list.csv'}")
    options = {"streams": "video", "size": "64"}
    found = {}
    for phases in (1, 2):
        recipe = recipe_for("semantic-memnet", recipe="semantic-memnet-video", overrides=["balance=0", "batch=2"])
        few = tuple(msgspec.structs.replace(phase, epochs=3) for phase in recipe.phases[:phases])
        job = Job(
            "semantic-memnet",
            [data],
            msgspec.structs.replace(recipe, phases=few, average=0.0),
            tmp_path / f"run{phases}",
            options=options,
        )
        runs: list[state.Run] = []
        train(job, after_epoch=runs.append)
        saved = torch.load(tmp_path / f"run{phases}" / state.STATE, weights_only=True)["model"]
        first = build_system(thin, seed=1, options=options)
        changed = {n for n, p in first.named_parameters() if not torch.equal(p, saved[n])}
        found[phases] = (changed, [float(row["loss"]) for row in runs[-1].history])
    assert found[1][0] == {"video.head.weight", "video.head.bias"}
    assert {name.partition(".")[0] for name in found[2][0]} == {"video"}
    assert any(name.startswith("video.trunk.") for name in found[2][0])
    assert min(found[2][1][3:]) < found[2][1][0]
