"""M3-S: counts, the dataflow, fitted parts, released heads; a small one as a bundle, streamed as torch scores it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import helpers_m3s
import memedge
from helpers_offline import decode
from memedge.errors import UsageError
from memedge.models import card
from memedge_engines.bundle import Bundle
from memedge_engines.trace import FrameTime, trace
from memedge_export.blocks.distance_measures import Distinctiveness
from memedge_export.blocks.m3s_head import M3sHead
from memedge_export.models import count, m3s
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.system_weights import load_system
from memedge_export.train.fitting import Rows
from memedge_export.train.recipes import default_of, recipe_for


def _entry(name: str) -> SystemEntry:
    found = system_entry(name)
    assert found is not None
    return found


def _slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", ["m3s", "m3s-low", *_slow(*sorted(m3s.COMBINATIONS.keys() - {"m3s", "m3s-low"}))])
def test_counts_agree_with_the_card_and_names_with_the_recipe(name: str) -> None:
    with torch.device("meta"):
        network = _entry(name).build()
    assert count.parameters(network) == card(name).parameters
    names = [parameter for parameter, _ in network.named_parameters()]
    recipe = recipe_for(name)
    assert default_of(name).startswith("m3s-")
    for phase in recipe.phases:
        for prefix in phase.rates:
            assert any(parameter.startswith(f"{prefix}.") for parameter in names), (prefix, name)


@pytest.mark.parametrize(
    ("slots", "inside", "parameters"), [((434, 418), 3635, 1_894_529), ((376, 323), 3482, 1_816_193)]
)
def test_golden_counts_of_the_head(slots: tuple[int, int], inside: int, parameters: int) -> None:
    with torch.device("meta"):
        sims = {"mid": Distinctiveness(720, slots[0]), "high": Distinctiveness(2048, slots[1])}
        head = M3sHead("lmhs", {"mid": 720, "high": 2048}, sims)
    assert (head.mlp[0].in_features, count.parameters(head)) == (inside, parameters)


def test_the_cards_multiply_adds_are_those_of_hrnet_csn_and_the_head_for_each_module() -> None:
    hrnet, csn_152, head = 21_180_383_232, 158_235_820_032, 3635 * 512 + 512 * 64 + 64
    assert card("m3s").macs == hrnet + csn_152 + 5 * head
    assert card("m3s-mid").macs == hrnet + 2 * (720 * 512 + 512 * 64 + 64)


def test_every_combination_is_there_once() -> None:
    assert len(m3s.COMBINATIONS) == len(set(m3s.COMBINATIONS.values())) == 15
    assert {"m3s", "m3s-low", "m3s-mid", "m3s-high", "m3s-sim", "m3s-lmh"} <= set(m3s.COMBINATIONS)
    with pytest.raises(UsageError, match="m3s: option measure=clusters2; expected one of clusters"):
        build_system(_entry("m3s"), width=0.01, options={"measure": "clusters2"})
    with pytest.raises(UsageError, match="low_hz=4; expected one of 15, 5, 3"):
        build_system(_entry("m3s-low"), options={"low_hz": "4"})


def _film(seconds: float, fps: int) -> list[FrameTime]:
    return [FrameTime(i / fps, 1 / fps, i) for i in range(round(seconds * fps))]


@pytest.mark.parametrize("fps", [15, 24, 30])
def test_the_head_sees_one_clip_and_nothing_else(fps: int) -> None:
    network = helpers_m3s.network(clip=m3s.CLIPS["45x256"], low_hz=15)
    calls = trace(network.dataflow, _film(7, fps))
    heads = [call for call in calls if call.node == "head"]
    assert [call.complete for call in heads] == [True, True]
    for number, head in enumerate(heads):
        begin = 3 * fps * number
        expected = [begin + round(k * fps / 15) for k in range(45)]
        seen = {name: calls[refs[0]] for name, refs in head.inputs.items() if refs}
        assert np.abs(np.array(seen["high"].inputs["clip"]) - expected).max() <= (fps == 24)
        assert seen["mid"].inputs["frames"] == (begin,)
        levels = [calls[ref].inputs["frames"][0] for ref in seen["brightness"].inputs["values"]]
        assert tuple(levels) == seen["high"].inputs["clip"]
        components = [calls[calls[ref].inputs["hog"][0]].inputs["frames"][0] for ref in seen["hog"].inputs["values"]]
        assert components == levels
        pairs = [calls[ref].inputs["frames"] for ref in seen["motion"].inputs["values"]]
        assert pairs == list(itertools.pairwise(levels))


@pytest.mark.parametrize(("name", "low_hz", "count"), [("45x256", 5, 15), ("45x256", 3, 9), ("16x112", 15, 43)])
def test_cheaper_clips_are_seen_whole(name: str, low_hz: int, count: int) -> None:
    clip = m3s.CLIPS[name]
    calls = trace(helpers_m3s.network(clip=clip, low_hz=low_hz, mid_frames=5).dataflow, _film(3, 30))
    (head,) = [call for call in calls if call.node == "head"]
    assert head.complete
    assert len(calls[head.inputs["brightness"][0]].inputs["values"]) == count == clip.low_frames(low_hz)
    mids = [calls[ref].inputs["frames"][0] for ref in calls[head.inputs["mid"][0]].inputs["values"]]
    assert mids == [0, 18, 36, 54, 72]
    shown = calls[head.inputs["high"][0]].inputs["clip"]
    assert (len(shown), shown[0]) == (clip.frames, 0)


@pytest.mark.parametrize("letters", ["l", "lm", "m"])
def test_without_csn_the_head_follows_what_there_is(letters: str) -> None:
    mid = m3s.Mid(4, 8, (1, 1, 1), 1) if "m" in letters else None
    network = m3s.system(m3s.Parts(letters, mid, None, {}), "short_term")
    heads = [call for call in trace(network.dataflow, _film(7, 15)) if call.node == "head"]
    if letters == "m":
        assert [call.frame for call in heads] == [0, 45, 90]
        assert network.system_targets[0].sampling == "F1"
    else:
        assert [call.frame for call in heads] == list(range(1, 105))
        assert next(call.frame for call in heads if call.complete) == 44


class _Data:
    """Rows that enter the parts, by name."""

    seed = 0

    def __init__(self, **rows: torch.Tensor) -> None:
        self._rows = {name.replace("__", "."): values for name, values in rows.items()}
        self.asked: list[tuple[str, int]] = []

    def entering(self, part: str, most: int = 20_000) -> Rows:
        self.asked.append((part, most))
        return Rows(self._rows[part], torch.zeros(len(self._rows[part]), 1))


def test_fitted_parts() -> None:
    torch.manual_seed(0)
    network = helpers_m3s.network("lmh")
    assert [part.part for part in network.fitted] == ["pca", "head.standard"]
    raw = torch.randn(40, 15) * 3 + 5
    raw[:, 14] = 12 + torch.rand(40)
    raw[10:, 14] = 0  # size unknown
    hogs = torch.rand(24, 34_596)
    data = _Data(pca=hogs, head__standard=raw)
    for part in network.fitted:
        part.fit(network, data)
    standard = network.get_submodule("head.standard")
    assert torch.allclose(standard.mean[:14], raw[:, :14].mean(0), atol=1e-4)
    assert float(standard.mean[14]) == pytest.approx(float(raw[:10, 14].mean()), abs=1e-4)
    assert float(standard.std[14]) == pytest.approx(float(raw[:10, 14].std(correction=0)), abs=1e-4)
    (found,) = network.graphs["pca"].module(hogs)
    assert torch.allclose(found.std(0), torch.ones(10), atol=1e-2)
    assert data.asked[0] == ("pca", 4000)
    both = [part.part for part in helpers_m3s.network().fitted]
    assert both == ["pca", "head.sims.mid", "head.sims.high", "head.standard"]


def test_contributions_are_the_scores_that_modules_add() -> None:
    torch.manual_seed(1)
    network = helpers_m3s.network()
    head = network.graphs["head"].module.eval()
    sizes = (10, 1, 1, 1, 1, 1, 16, 16)
    inputs = [torch.rand(3, size) for size in sizes]
    inputs[5] = torch.tensor([[0.0], [1.0], [5e4]])
    with torch.no_grad():
        score, joined, *contributions = head(*inputs)
        assert joined.shape == (3, 15 + 16 + 16 + 6 + 5)
        parts = {"low": (0, 15), "mid": (15, 31), "high": (31, 47), "sim": (47, 58)}
        assert [f"contribution_{name}" for name in parts] == head.contributions
        for (begin, end), found in zip(parts.values(), contributions, strict=True):
            without = joined.clone()
            without[:, begin:end] = 0
            assert torch.allclose(found, score - head.mlp(without), atol=1e-6)
        # An unknown size is the training mean: 0 after standardising.
        head.standard.mean[14], head.standard.std[14] = 9.0, 2.0
        sizes_seen = head(*inputs)[1][:, 14]
    assert torch.allclose(sizes_seen, torch.tensor([0.0, (0 - 9) / 2, (float(np.log(5e4)) - 9) / 2]), atol=1e-5)


@pytest.mark.parametrize(("inside", "slots"), [(3635, (434, 418)), (3482, (376, 323))])
def test_released_heads(tmp_path: Path, inside: int, slots: tuple[int, int]) -> None:
    torch.manual_seed(2)
    shapes = [(512, inside), (64, 512), (1, 64)]
    public = {f"mlp.linear_{i}.0.weight": torch.randn(*shape) for i, shape in enumerate(shapes)}
    public |= {f"mlp.linear_{i}.0.bias": torch.randn(shape[0]) for i, shape in enumerate(shapes)}
    torch.save(public, tmp_path / "head.pth")
    entry = _entry("m3s")

    def build(by: float = 1.0, **given: Any) -> System:
        sims = {
            kind: Distinctiveness(size, given[f"{kind}_slots"] + given["noise_quirk"], noise_quirk=given["noise_quirk"])
            for kind, size in (("mid", 720), ("high", 2048))
        }
        mid, high = m3s.Mid(4, 8, (1, 1, 1), 1), m3s.High(0.125, (1, 1, 1, 1))
        mid.features, high.features = 720, 2048
        return m3s.system(m3s.Parts("lmhs", mid, high, sims), "short_term")

    loaded = load_system(dataclasses.replace(entry, build=build), [str(tmp_path / "head.pth")])
    assert (loaded.options["mid_slots"], loaded.options["high_slots"]) == slots
    head = loaded.network.get_submodule("head")
    assert torch.equal(head.mlp[0].weight, public["mlp.linear_0.0.weight"])
    assert loaded.untrained


@pytest.fixture(scope="module", params=[pytest.param(deep, marks=pytest.mark.slow) for deep in (False, True)])
def small(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[System, Bundle]:
    """A small system whose scores depend on every module, and its bundle."""
    torch.manual_seed(3)
    network = helpers_m3s.lively(helpers_m3s.network(own=request.param).eval())
    return network, helpers_m3s.bundle_of(network, tmp_path_factory.mktemp("m3s"), own=request.param)


@pytest.mark.usefixtures("opencv")
def test_the_bundle_is_a_dataflow_of_plain_graphs(small: tuple[System, Bundle]) -> None:
    _, bundle = small
    nodes = {node.name: node for node in bundle.manifest.nodes}
    assert [name for name, node in nodes.items() if node.kind == "graph"] == ["pca", "mid", "high", "head"]
    assert (nodes["high"].anchor, nodes["high"].period_s, nodes["head"].after) == ("start", 3.0, "high")
    for name in ("pca", "mid", "high", "head"):
        model = onnx.load(bundle.path / f"{name}.onnx")
        kinds = {node.op_type for node in model.graph.node}
        assert not kinds & {"Loop", "If", "Scan", "LSTM", "OneHot", "NonZero", "Shape", "BatchNormalization"}
    names = ("hog", "brightness", "contrast", "flow-magnitude", "blurriness")
    assert bundle.manifest.provenance.extractors == dict.fromkeys(names, "1")


@pytest.mark.usefixtures("opencv")
@pytest.mark.parametrize("bytes_per_s", [0.0, 250_000.0])
def test_streamed_as_torch_scores_offline(small: tuple[System, Bundle], tmp_path: Path, bytes_per_s: float) -> None:
    network, bundle = small
    clip = helpers_m3s.write_film(tmp_path / "clip.mp4")
    frames = decode(clip)
    caller = {"bytes_per_s": [bytes_per_s]} if bytes_per_s else {}
    with memedge.load(bundle.path, engine="onnxruntime") as scorer:
        with memedge.stream(str(clip), scorer, caller=caller) as stream:
            readings = list(stream)
        video = stream.summary.video_score["short_term"]
    scored = [reading for reading in readings if reading.score is not None]
    assert [reading.frame_index for reading in scored] == [36, 81]
    expected = [helpers_m3s.offline(network, frames, begin, bytes_per_s) for begin in (0, 45)]
    scores = [float(one[0][0]) for one in expected]
    assert abs(scores[0] - scores[1]) > 0.01, "scores that never change would prove nothing"
    assert [reading.score for reading in scored] == pytest.approx(scores, abs=1e-3)
    assert [reading.rolling for reading in scored] == pytest.approx(scores, abs=1e-3)
    assert video == pytest.approx(scores[-1], abs=1e-3)
    for reading, one in zip(scored, expected, strict=True):
        found = [reading.outputs[f"head.contribution_{name}"][0] for name in ("low", "mid", "high", "sim")]
        assert found == pytest.approx([float(value[0]) for value in one[2:]], abs=1e-3)


@pytest.fixture
def opencv() -> None:
    pytest.importorskip("cv2", reason="optical flow needs OpenCV (pip install 'memedge[opencv]')")


@pytest.mark.parametrize(("name", "lowest"), [("m3s", "int8"), ("m3s-mid", "int8"), ("m3s-ms", "int8"),
                                               ("m3s-sim", "fp16"), ("m3s-ls", "fp16")])  # fmt: skip
def test_features_read_through_their_nearest_cluster_alone_stay_half(name: str, lowest: str) -> None:
    entry = system_entry(name)
    assert entry is not None
    with torch.device("meta"):
        assert entry.build(0.0625).graphs["mid"].lowest == lowest
