"""Untrained systems: what a deep plain network gives still tells pictures apart after small disturbances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from memedge.pictures import generate
from memedge_export import system_untrained
from memedge_export.models.system import System, system_entry
from memedge_export.system_clips import Fitter, Timeline, run_calls
from memedge_export.system_graphs import run_module


def thin(name: str) -> System:
    entry = system_entry(name)
    assert entry is not None
    torch.manual_seed(3)
    return entry.build(width=0.0625)


def arriving(network: System, count: int = 8) -> torch.Tensor:
    """What arrives at the node ``model`` for generated pictures, ``[count,3,H,W]``."""
    timeline = Timeline.of(network.dataflow)
    fitter = Fitter(timeline)
    seen: list[np.ndarray] = []

    def run(node: Any, inputs: dict[str, Any]) -> Any:
        seen.extend(inputs.values())
        return run_module(network.graphs["model"].module, node, inputs)

    run_calls(timeline, [fitter.still(picture, n) for n, picture in enumerate(generate(count, 5))], run)
    return torch.from_numpy(np.array(seen[0], np.float32))


@pytest.fixture(scope="module", autouse=True)
def _few_pictures() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_untrained, "PICTURES", 8)
        yield


def test_relus_of_a_plain_network_read_values_of_mean_and_deviation_one() -> None:
    """VGG without batch-norm, on pictures that were not shown to it."""
    network = thin("vgg16-mlp")
    system_untrained.initialise(network)
    frames = arriving(network)
    found: list[tuple[float, float]] = []
    body = network.get_submodule("trunk.body")
    for layer in body:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, given: found.append((float(given.mean()), float(given.std()))))
    with torch.no_grad():
        network.graphs["model"].module(frames)
    assert len(found) == 13
    np.testing.assert_allclose(found, 1.0, atol=0.35)


def test_what_a_file_gave_is_left_alone() -> None:
    network = thin("vgg16-mlp")
    given = {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith("trunk.body.0.")}
    assert len(given) == 2
    system_untrained.initialise(network, set(network.state_dict()) - set(given))
    after = network.state_dict()
    for name, tensor in given.items():
        assert torch.equal(after[name], tensor)


def test_small_disturbances_do_not_grow_in_a_deep_plain_network() -> None:
    """Inception-v3, disturbed at its input by a hundredth of what pictures differ by."""
    network = thin("inceptionv3-mlp")
    torch.manual_seed(0)
    frames = arriving(network)
    noise = torch.randn_like(frames)

    def growth() -> float:
        trunk = network.get_submodule("trunk")
        with torch.no_grad():
            plain, disturbed = trunk(frames), trunk(frames + 0.01 * frames.std() * noise)
        return float((disturbed - plain).norm() / (plain - plain.mean(0)).norm())

    system_untrained.initialise(network)
    tame = growth()
    for module in network.modules():  # as they would be drawn
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
    system_untrained._reestimate(
        network.graphs["model"].module,
        [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)],
        [[frames]],
    )
    assert tame < 0.15
    assert growth() > 2 * tame
