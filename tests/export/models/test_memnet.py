"""MemNet: counts, public files, its options, bundles equal to torch, streamed as torch scores offline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from helpers_offline import check_streamed, lively
from memedge.errors import UsageError
from memedge.models import card
from memedge_export import system_bundle
from memedge_export.errors import WeightsError
from memedge_export.models import count, memnet
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.system_weights import load_system
from memedge_export.train import losses
from memedge_export.train.fitting import Rows
from memedge_export.train.recipes import recipe_for

WIDTH = 0.0625


def entry(width: float = WIDTH) -> SystemEntry:
    """The system, narrower."""
    found = system_entry("memnet")
    assert found is not None

    def build(by: float = 1.0, **given: Any) -> System:
        return found.build(width * by, **given)

    return dataclasses.replace(found, build=build)


def test_golden_counts_and_the_recipes_names() -> None:
    with torch.device("meta"):
        network = entry(1.0).build()
    macs = count.macs_of(network.graphs["model"].module, torch.empty(1, 3, 227, 227, device="meta"))
    assert count.parameters(network) == card("memnet").parameters == 56_872_321
    assert macs == card("memnet").macs
    assert round(macs / 1e9, 3) == 0.720
    names = [name for name, _ in network.named_parameters()]
    for prefix in recipe_for("memnet").phases[0].rates:
        assert any(name.startswith(f"{prefix}.") for name in names)


def _public(last: str) -> tuple[memnet.MemNet, dict[str, torch.Tensor]]:
    """A narrow network and its weights under the public names."""
    torch.manual_seed(0)
    network = memnet.MemNet(WIDTH).eval()
    state = network.state_dict()
    public = {name.removeprefix("trunk."): tensor for name, tensor in state.items() if name.startswith("trunk.")}
    return network, public | {f"{last}.{leaf}": state[f"head.0.{leaf}"] for leaf in ("weight", "bias")}


@pytest.mark.parametrize("last", ["fc8", "fc8-euclidean"])
def test_public_files(tmp_path: Path, last: str) -> None:
    network, public = _public(last)
    torch.save({f"module.{name}": tensor for name, tensor in public.items()}, tmp_path / "memnet.pth")
    loaded = load_system(entry(), [str(tmp_path / "memnet.pth")])
    assert not loaded.untrained
    (item,) = loaded.network.nodes[0].inputs
    assert item.preprocess is not None
    assert item.preprocess.color == ("bgr" if last == "fc8-euclidean" else "rgb")
    frames = torch.randn(2, 3, 227, 227)
    with torch.no_grad():
        expected = network.head(network.trunk(frames))
        assert torch.allclose(loaded.network.graphs["model"].module(frames)[0], expected, atol=1e-6)
        spread = load_system(entry(), [str(tmp_path / "memnet.pth")], options={"port_scores": "yes"})
        # What the port's own code does before it clips.
        wanted = (expected - 0.7626) * 2 + 0.65
        assert torch.allclose(spread.network.graphs["model"].module(frames)[0], wanted, atol=1e-6)


def test_a_network_of_classes_gives_the_trunk_alone(tmp_path: Path) -> None:
    _, public = _public("fc8")
    public |= {"fc8.weight": torch.zeros(1183, 256), "fc8.bias": torch.zeros(1183)}
    torch.save(public, tmp_path / "hybrid.pth")
    loaded = load_system(entry(), [str(tmp_path / "hybrid.pth")])
    assert loaded.untrained
    assert loaded.fresh == {"head.0.weight", "head.0.bias", "scale.mean", "scale.std"}


def test_a_wrong_file_is_told_by_its_keys(tmp_path: Path) -> None:
    _, public = _public("fc8")
    del public["conv4.bias"]
    public["conv2.weight"] = torch.zeros(3, 3)
    torch.save(public, tmp_path / "cut.pth")
    with pytest.raises(WeightsError, match=r"trunk\.conv4\.bias.*trunk\.conv2\.weight \[3, 3\], expected"):
        load_system(entry(), [str(tmp_path / "cut.pth")])


class _Data:
    """Training data of known statistics."""

    seed = 0
    statistics = losses.ScoreStatistics(mean=0.75, deviation=0.12)

    def entering(self, part: str, most: int = 0) -> Rows:
        raise AssertionError(part)


def test_the_scale_is_fitted_and_the_scores_stay() -> None:
    network = build_system(entry())
    frames = torch.randn(3, 3, 227, 227)
    module = network.graphs["model"].module
    with torch.no_grad():
        before = module(frames)[0]
        for _ in range(2):
            (part,) = network.fitted
            part.fit(network, _Data())
            assert torch.allclose(module(frames)[0], before, atol=1e-5)
    assert (float(module.scale.mean), float(module.scale.std)) == pytest.approx((0.75, 0.12))


def test_loss_is_that_of_standardised_scores() -> None:
    spec = recipe_for("memnet").phases[0].loss
    scores, wanted = torch.rand(8, 1), torch.rand(8, 1)
    found = losses.build(spec, _Data.statistics)({"score": scores}, losses.Batch(wanted))
    expected = (((scores - 0.75) / 0.12 - (wanted - 0.75) / 0.12) ** 2).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_ten_crops_are_those_of_the_caffe_scripts() -> None:
    torch.manual_seed(0)
    network = build_system(entry(), options={"view": "ten-crop"})
    frames = torch.randn(2, 3, 256, 256)
    module = network.graphs["model"].module
    with torch.no_grad():
        (found,) = module(frames)
        scores = []
        for top, left in [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]:
            crop = frames[:, :, top : top + 227, left : left + 227]
            scores += [module.head(module.trunk(view)) for view in (crop, torch.flip(crop, (3,)))]
    assert torch.allclose(found, torch.stack(scores).mean(0), atol=1e-6)


def test_memory_map_is_the_network_at_every_place() -> None:
    network = build_system(entry(), options={"view": "map"})
    module = network.graphs["model"].module
    frames = torch.randn(1, 3, 451, 451)
    with torch.no_grad():
        score, places = module(frames)
        assert places.shape == (1, 1, 8, 8)
        assert torch.allclose(score, places.mean((2, 3)))
    maps = module.trunk.maps(frames)
    fc6 = torch.stack(
        [module.trunk.fc6(maps[:, :, y : y + 6, x : x + 6].flatten(1)) for y in range(8) for x in range(8)]
    )
    expected = module.head(module.trunk.fc7(fc6)).reshape(8, 8)
    assert torch.allclose(places[0, 0], expected, atol=1e-5)


def test_options_that_cannot_be_meant() -> None:
    for options, message in (
        ({"view": "five"}, "view=five; expected one of single"),
        ({"colors": "bgr"}, "port, caffe"),
    ):
        with pytest.raises(UsageError, match=message):
            build_system(entry(), options=options)
    with pytest.raises(UsageError, match="predicts one target"):
        build_system(entry(), targets=("short_term", "long_term"))
    with pytest.raises(UsageError, match="regresses its score"):
        build_system(entry(), cuts=(0.7,))


_CAFFE: tuple[dict[str, str], set[str], set[str]] = ({"colors": "caffe"}, {"LRN"}, {"Pow"})
_MAP = ({"view": "map", "lrn_as_convolution": "yes", "dense_groups": "yes"}, {"Pow"}, {"LRN"})
_CROPS = ({"view": "ten-crop"}, {"Slice", "LRN"}, {"Pow"})


@pytest.mark.parametrize(
    ("options", "has", "lacks"),
    [_CAFFE, pytest.param(*_MAP, marks=pytest.mark.slow), pytest.param(*_CROPS, marks=pytest.mark.slow)],
)
def test_streamed_as_torch_scores_offline(
    tmp_path: Path, options: dict[str, str], has: set[str], lacks: set[str]
) -> None:
    network = build_system(entry(), options=options)
    weights = lively(network, "head.0", tmp_path / "weights.safetensors")
    bundle = system_bundle.export_system(entry(), [weights], tmp_path / "bundle", options=options)
    model = onnx.load(bundle.path / "model.onnx")
    kinds = {node.op_type for node in model.graph.node}
    assert has <= kinds
    assert not kinds & (lacks | {"Loop", "If", "Scan", "Resize"})
    if "dense_groups" in options:
        assert all(a.i == 1 for node in model.graph.node for a in node.attribute if a.name == "group")
    scores, found = check_streamed(network, bundle, tmp_path)
    if "map" in scores:
        shown = np.array([reading.outputs["model.map"] for reading in found]).reshape(scores["map"].shape)
        assert np.allclose(shown, scores["map"], atol=5e-3)  # each place rounds pixels its own way
