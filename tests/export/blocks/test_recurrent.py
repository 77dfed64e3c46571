from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import helpers_keras
from helpers_blocks import export_block, largest_difference
from memedge_export.blocks.linear_chain import LinearChain, collapsed
from memedge_export.blocks.recurrent import ConvLstm, Lstm, LstmCell


class Unrolled(nn.Module):
    def __init__(self, layer: Lstm | ConvLstm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return torch.stack(self.layer(steps.unbind(1)), 1)


def test_lstm_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = Unrolled(Lstm(3, 5)), nn.LSTM(3, 5, batch_first=True)
    cell = ours.layer.cell
    with torch.no_grad():
        cell.input.weight.copy_(theirs.weight_ih_l0)
        cell.recurrent.weight.copy_(theirs.weight_hh_l0)
        cell.input.bias.copy_(theirs.bias_ih_l0 + theirs.bias_hh_l0)
    steps = torch.randn(2, 4, 3)
    assert torch.allclose(ours(steps), theirs(steps)[0], atol=1e-6)
    state = torch.randn(2, 5), torch.randn(2, 5)
    h, c = cell(steps[:, 0], state)
    expected = theirs(steps[:, :1], (state[0][None], state[1][None]))[1]
    assert torch.allclose(torch.stack((h, c)), torch.cat(expected), atol=1e-6)


def test_conv_lstm_is_keras_step_by_step() -> None:
    torch.manual_seed(0)
    layer = ConvLstm(2, 3)
    weight = layer.cell.gates.weight.detach().permute(2, 3, 1, 0).double().numpy()
    reference = {
        "kernel": weight[:, :, :2],
        "recurrent_kernel": weight[:, :, 2:],
        "bias": layer.cell.gates.bias.detach().double().numpy(),
    }
    steps = np.random.default_rng(0).normal(size=(4, 6, 5, 2)) * 3
    expected = helpers_keras.conv_lstm(steps, reference)
    with torch.no_grad():
        found = Unrolled(layer)(torch.tensor(steps.transpose(0, 3, 1, 2)[None], dtype=torch.float32))
    assert np.allclose(found[0].permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_initialisation_is_keras_defaults() -> None:
    torch.manual_seed(0)
    cell = Lstm(7, 6).cell
    assert torch.equal(cell.input.bias, torch.tensor([0.0] * 6 + [1.0] * 6 + [0.0] * 12))
    product = cell.recurrent.weight.T @ cell.recurrent.weight
    assert torch.allclose(product, torch.eye(6), atol=1e-5)
    gates = ConvLstm(2, 3).cell.gates.weight
    recurrent = gates[:, 2:].flatten(1)
    assert torch.allclose(recurrent @ recurrent.T, torch.eye(12), atol=1e-5)
    assert gates[:, :2].abs().max() <= (6 / (9 * 14)) ** 0.5


def test_a_window_is_exported_unrolled() -> None:
    layer, steps = Unrolled(ConvLstm(2, 3)), torch.randn(2, 2, 2, 6, 5)
    graph = export_block(layer, steps)  # refuses LSTM, Loop and Scan
    assert largest_difference(layer, graph, steps) < 1e-6
    inputs = {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer}
    kernels = [inputs[node.input[1]] for node in graph.graph.node if node.op_type == "Conv"]
    assert kernels == [[12, 2, 3, 3], [12, 5, 3, 3]], "at the zero state nothing is multiplied with it"


def test_a_cell_has_one_bias() -> None:
    assert sum(p.numel() for p in LstmCell(1024, 1024).parameters()) == 8_392_704


def _chain() -> LinearChain:
    chain = LinearChain(nn.Linear(6, 9), nn.BatchNorm1d(9, eps=1e-3), nn.Dropout(0.5), nn.Linear(9, 2, bias=False))
    norm = chain[1]
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.1, 4)
    return chain.eval()


def test_a_chain_is_one_layer_when_exported() -> None:
    torch.manual_seed(0)
    holder = nn.Sequential(_chain(), nn.Sigmoid()).eval()
    x = torch.randn(3, 6)
    with torch.no_grad():
        expected = holder(x)
        assert torch.allclose(collapsed(holder)(x), expected, atol=1e-6)
    assert [node.op_type for node in export_block(holder, x).graph.node] == ["Gemm", "Sigmoid"]


def test_a_chain_has_no_activation() -> None:
    with pytest.raises(TypeError, match="holds a ReLU"):
        LinearChain(nn.Linear(2, 2), nn.ReLU()).collapsed()
