"""Support vector regression on fixed features: counts, fitting, a fitted SVR from a file, streamed as torch scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from helpers_offline import check_streamed, still, tensor
from memedge.errors import UsageError
from memedge.models import card
from memedge_export import system_bundle
from memedge_export.errors import WeightsError
from memedge_export.models import count
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.system_weights import load_system
from memedge_export.train import losses
from memedge_export.train.fitting import Rows
from memedge_export.train.recipes import recipe_for

WIDTHS = {"memnet-svr": 0.0625, "vgg16-svr": 0.02, "ic-svr": 0.04}
PARTS = {"memnet-svr": "trunk", "vgg16-svr": "trunk", "ic-svr": "ic"}


def entry(name: str, width: float | None = None) -> SystemEntry:
    """The system, narrower."""
    found = system_entry(name)
    assert found is not None

    def build(by: float = 1.0, **given: Any) -> System:
        return found.build((WIDTHS[name] if width is None else width) * by, **given)

    return dataclasses.replace(found, build=build)


@pytest.mark.parametrize(
    ("name", "parameters"), [("memnet-svr", 56_868_224), ("vgg16-svr", 134_260_544), ("ic-svr", 143_765_568)]
)
def test_counts_are_the_features_and_1025_numbers(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = entry(name, 1.0).build()
        linear = entry(name, 1.0).build(kind="linear")
    size = 1024 if name == "ic-svr" else 4096
    assert count.parameters(network) == card(name).parameters == parameters + 1025
    side = 227 if name == "memnet-svr" else 224
    macs = count.macs_of(network.graphs["model"].module, torch.empty(1, 3, side, side, device="meta"))
    assert macs == card(name).macs
    assert count.parameters(linear) == parameters + size + 1
    assert network.state_dict()["head.vectors"].shape == (1024, size)
    recipe = recipe_for(name)
    assert list(recipe.phases[0].rates) == ["head"]
    assert recipe.phases[0].loss == losses.EpsilonInsensitive(epsilon=0.02)


class _Data:
    """Training features and scores."""

    def __init__(self, rows: torch.Tensor, scores: torch.Tensor) -> None:
        self.seed, self.rows, self.scores = 3, rows, scores
        self.statistics = losses.ScoreStatistics(float(scores.mean()), float(scores.std()))

    def entering(self, part: str, most: int = 0) -> Rows:
        assert part == "head"
        return Rows(self.rows, self.scores)


def _fitted(name: str, **options: Any) -> System:
    """The system fitted to the features of some pictures, with scores that follow them."""
    network = build_system(entry(name), options=options)
    (item,) = network.nodes[0].inputs
    assert item.preprocess is not None
    frames = torch.cat([tensor(still(second), item.preprocess) for second in range(12)])
    with torch.no_grad():
        rows = network.get_submodule(PARTS[name])(frames)
    scores = torch.linspace(0.4, 0.9, 12)[:, None]
    (part,) = network.fitted
    part.fit(network, _Data(rows, scores))
    return network


def test_fitting_and_a_few_steps_of_the_recipe() -> None:
    network = _fitted("memnet-svr").train()
    head = network.get_submodule("head")
    x = head.vectors[:12] * head.standardise.std + head.standardise.mean
    wanted = torch.linspace(0.4, 0.9, 12)[:, None]
    loss = losses.build(recipe_for("memnet-svr").phases[0].loss, losses.ScoreStatistics(0.65, 0.16))
    frozen = {name: tensor.clone() for name, tensor in network.state_dict().items() if not name.startswith("head.out")}
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    errors = []
    for _ in range(20):
        error = loss({"score": head(x)}, losses.Batch(wanted))
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.7 * errors[0]
    for name, kept in frozen.items():
        assert torch.equal(network.state_dict()[name], kept), name


def test_an_svr_of_scikit_learn_on_the_networks_features(tmp_path: Path) -> None:
    """Its decision function in float64, next to the network that read its arrays from a file."""
    network = build_system(entry("vgg16-svr", 0.02))
    size = network.get_submodule("trunk").features
    rng = np.random.default_rng(0)
    frames = torch.randn(4, 3, 224, 224)
    with torch.no_grad():
        features = network.get_submodule("trunk")(frames).numpy().astype(np.float64)
    mean, scale = features.mean(0), features.std(0) + 0.1
    arrays = {
        "support_vectors": rng.normal(size=(20, size)),
        "dual_coef": rng.normal(size=(1, 20)),
        "intercept": np.array([0.7]),
        "gamma": np.float64(1 / size),
        "mean": mean,
        "scale": scale,
    }
    np.savez(tmp_path / "svr.npz", **arrays)
    save_file(dict(network.get_submodule("trunk").state_dict()), tmp_path / "trunk.safetensors")
    wide = dataclasses.replace(entry("vgg16-svr"), build=_with_all_vectors)
    loaded = load_system(wide, [f"trunk={tmp_path / 'trunk.safetensors'}", str(tmp_path / "svr.npz")])
    assert not loaded.untrained
    x = (features - mean) / scale
    distances = ((x[:, None] - arrays["support_vectors"][None]) ** 2).sum(2)
    expected = np.exp(-arrays["gamma"] * distances) @ arrays["dual_coef"][0] + 0.7
    with torch.no_grad():
        found = loaded.network.graphs["model"].module(frames)[0][:, 0].numpy()
    assert np.allclose(found, expected, atol=1e-4)
    with pytest.raises(WeightsError, match=r"head\.vectors \[20, \d+\], expected \[5, \d+\]"):
        load_system(wide, [str(tmp_path / "svr.npz")], options={"vectors": "5"})
    del arrays["gamma"]
    np.savez(tmp_path / "svr.npz", **arrays)
    with pytest.raises(WeightsError, match=r"no whole file of an SVR of scikit-learn.*gamma"):
        load_system(wide, [str(tmp_path / "svr.npz")])


def _with_all_vectors(width: float = 1.0, **given: Any) -> System:
    """A narrow trunk and as many stored vectors as asked for."""
    found = system_entry("vgg16-svr")
    assert found is not None
    return found.build(0.02 * width, **{**given, "vectors": 50 * given.get("vectors", 1024)})


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="kind=poly; expected one of rbf, linear, neighbours"):
        build_system(entry("ic-svr"), options={"kind": "poly"})
    with pytest.raises(UsageError, match="ic-svr has no option 'colors'"):
        build_system(entry("ic-svr"), options={"colors": "caffe"})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("memnet-svr", "rbf", marks=pytest.mark.slow),
        pytest.param("memnet-svr", "neighbours", marks=pytest.mark.slow),
        pytest.param("vgg16-svr", "linear", marks=pytest.mark.slow),
        pytest.param("vgg16-svr", "rbf", marks=pytest.mark.slow),
        pytest.param("ic-svr", "rbf", marks=pytest.mark.slow),
        pytest.param("ic-svr", "neighbours", marks=pytest.mark.slow),
    ],
)
def test_streamed_as_torch_scores_offline(tmp_path: Path, name: str, kind: str) -> None:
    options = {"kind": kind, "neighbours": 3}
    network = _fitted(name, **options)
    with torch.no_grad():
        out = network.get_submodule("head").out
        if kind == "rbf":
            out.weight[:, :12] = torch.linspace(-0.015, 0.015, 12)
        elif kind == "linear":
            out.weight.normal_(0, 0.01 / out.in_features**0.5)
        else:
            out.weight[:, :12] = torch.linspace(0.49, 0.51, 12)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "weights.safetensors")
    weights = [str(tmp_path / "weights.safetensors")]
    bundle = system_bundle.export_system(entry(name), weights, tmp_path / "bundle", options=options)
    kinds = [node.op_type for node in onnx.load(bundle.path / "model.onnx").graph.node]
    assert (kinds.count("Exp"), kinds.count("TopK")) == (int(kind == "rbf"), int(kind == "neighbours"))
    check_streamed(network, bundle, tmp_path)
