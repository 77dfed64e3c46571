from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.attn_render import AttnMapRender, cubic_matrix
from memedge_export.blocks.soft_attention import SoftAttentionLstm
from memedge_export.key_maps.amnet import is_amnet, rename


def _public(features: int, width: int) -> nn.ModuleDict:
    """The layers of AMNet's head under the names of its code."""
    return nn.ModuleDict(
        {
            "inconv": nn.Conv2d(features, width, 1),
            "bn1": nn.BatchNorm2d(width),
            "hs1": nn.Linear(width, width),
            "hc1": nn.Linear(width, width),
            "e1": nn.Linear(width, width, bias=False),
            "eh1": nn.Linear(width, 196),
            "eh3": nn.Linear(width, 1, bias=False),
            "rnn": nn.LSTM(width, width),
            "regnet1": nn.Linear(width, width // 2),
            "regnet4": nn.Linear(width // 2, 1),
        }
    ).eval()


def _as_described(net: nn.ModuleDict, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of the steps ``[B, 3]`` and attention ``[B, 3, 196]``, place by place as the paper describes them."""
    a = torch.relu(net["bn1"](net["inconv"](x))).flatten(2)  # [B, D, L]
    h = torch.tanh(net["hs1"](a.mean(2)))
    state = (h[None], torch.tanh(net["hc1"](a.mean(2)))[None])
    outputs, maps = [], []
    for _ in range(3):
        q = net["eh1"](h)
        energy = [
            net["eh3"](torch.relu(torch.relu(net["e1"](a[:, :, p])) + q[:, p : p + 1])) for p in range(a.shape[2])
        ]
        alpha = torch.softmax(torch.cat(energy, 1), 1)
        z = (a * alpha[:, None]).sum(2)
        out, state = net["rnn"](z[None], state)
        h = out[0]
        outputs.append(net["regnet4"](torch.relu(net["regnet1"](h))))
        maps.append(alpha)
    return torch.cat(outputs, 1), torch.stack(maps, 1)


def test_public_weights_give_the_described_outputs() -> None:
    torch.manual_seed(0)
    public = _public(6, 16)
    public["bn1"].running_var.uniform_(0.5, 2)
    public["bn1"].running_mean.normal_()
    state = {name: tensor for name, tensor in public.state_dict().items() if "num_batches" not in name}
    state |= {"core_cnn.core_cnn.conv1.weight": torch.zeros(1), "core_cnn.core_cnn.layer4.0.bn1.bias": torch.zeros(1)}
    state["core_cnn.core_cnn.fc.weight"] = torch.zeros(1)
    assert is_amnet(state)
    assert not is_amnet({"trunk.conv1.weight": torch.zeros(1)})
    renamed = rename(state)
    assert "trunk.conv1.weight" in renamed
    assert not [name for name in renamed if "layer4" in name or "fc" in name]
    head = SoftAttentionLstm(6, 16).eval()
    fitting = {name.removeprefix("head."): t for name, t in renamed.items() if name.startswith("head.")}
    missing = head.load_state_dict(fitting, strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], [])
    x = torch.randn(2, 6, 14, 14) * 3
    with torch.no_grad():
        outputs, maps = _as_described(public, x)
        score, attn, steps = head(x)
    assert torch.allclose(score[:, 0], outputs.mean(1) / 2 + 0.754, atol=1e-6)
    assert torch.allclose(attn.flatten(2), maps, atol=1e-6)
    assert torch.allclose(steps, outputs / 6 + 0.754 / 3, atol=1e-6)
    assert float(maps.std(2).mean()) > 1e-4, "weights that attend to nothing would prove nothing"


def test_another_data_sets_scale() -> None:
    torch.manual_seed(0)
    head = SoftAttentionLstm(4, 8).eval()
    x = torch.randn(2, 4, 14, 14)
    with torch.no_grad():
        before = head(x)[0]
        head.scale.center.fill_(0.859)
        head.scale.gain.fill_(4.0)
        assert torch.allclose(head(x)[0], (before - 0.754) * 2 / 4 + 0.859, atol=1e-6)


@pytest.mark.slow
def test_head_is_exported_unrolled() -> None:
    torch.manual_seed(0)
    head = SoftAttentionLstm(4, 16)
    x = torch.randn(2, 4, 14, 14)
    graph = export_block(head, x)
    assert largest_difference(head, graph, x) < 1e-5
    assert operators(graph).count("Softmax") == 3


@pytest.mark.parametrize(("source", "size"), [(14, 70), (5, 12), (8, 8)])
def test_enlargement_is_cubic_interpolation(source: int, size: int) -> None:
    torch.manual_seed(0)
    maps, matrix = torch.randn(2, 3, source, source), cubic_matrix(source, size)
    expected = F.interpolate(maps, size=(size, size), mode="bicubic")
    assert torch.allclose(matrix @ maps @ matrix.T, expected, atol=1e-5)


def test_rendered_maps() -> None:
    render = AttnMapRender()
    colours = render.jet(torch.tensor([[0.0, 0.5, 1.0]]))[:, 0].T
    assert torch.equal(colours, torch.tensor([[0, 0, 0.5], [0.5, 1, 0.5], [0.5, 0, 0]]))
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 14, 14) ** 4 / 20
    maps[1, 2] = 1 / 196
    found = render(maps)
    assert found.shape == (2, 9, 70, 70)
    unit = (maps - maps.amin((2, 3), True)) / (maps.amax((2, 3), True) - maps.amin((2, 3), True)).clamp(min=1e-6)
    large = F.interpolate(unit, size=(70, 70), mode="bicubic").clamp(0, 1).numpy()
    for channel, center in enumerate((3, 2, 1)):
        expected = np.clip(1.5 - np.abs(4 * large - center), 0, 1)
        assert np.allclose(found.numpy()[:, channel::3], expected, atol=1e-5)
    assert torch.equal(found[1, 6:, 3, 3], torch.tensor([0, 0, 0.5])), "a flat map is all cold"


def test_rendering_is_exported_without_resize() -> None:
    maps = torch.rand(2, 4, 3, 14, 14)
    graph = export_block(AttnMapRender(), maps)
    assert not {"Resize", "Upsample", "Where", "If"} & set(operators(graph))
    assert largest_difference(AttnMapRender(), graph, maps) < 1e-5
