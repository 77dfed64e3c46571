"""Block B12: LSTM and ConvLSTM cells of plain operators, run over windows of constant length.

A Python loop of constant length traces to a static unroll: no LSTM, Loop or Scan node reaches the ONNX graph. Every
window starts from the zero state, as the published networks were trained; what that zero would be multiplied with is
left out. Gates stand in the order input, forget, cell, output, torch's and Keras's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, Tensor]


class LstmCell(nn.Module):
    """One LSTM step, ``[B, inputs]`` to hidden and cell state ``[B, hidden]`` each.

    One bias for each gate: the second one of torch's LSTM adds nothing to it (Keras has one, too).
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> State:
        """The new hidden and cell state; without ``state`` they start from zero."""
        gates = self.input(x) if state is None else self.input(x) + self.recurrent(state[0])
        i, f, g, o = gates.chunk(4, 1)
        return _advance(torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o), state)


class Lstm(nn.Module):
    """An LSTM layer over a window, all steps out: a list of T ``[B, inputs]`` to one of T ``[B, hidden]``."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = LstmCell(inputs, hidden)
        initialise_as_keras(self.cell.input, self.cell.recurrent.weight)

    def forward(self, steps: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states, oldest first."""
        return _unroll(self.cell, steps)


class _Gates(nn.Conv2d):
    """A convolution of an input and a hidden state side by side, or of the input alone where the state is zero."""

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        if hidden is None:
            return F.conv2d(x, self.weight[:, : x.shape[1]], self.bias, padding=1)
        return super().forward(torch.cat((x, hidden), 1))


class ConvLstmCell(nn.Module):
    """One ConvLSTM step with 3 x 3 kernels and same padding, ``[B, inputs, H, W]`` to ``[B, hidden, H, W]`` twice.

    One convolution of the input and the hidden state side by side gives all gates; they are hard sigmoids
    clip(0.2 x + 0.5, 0, 1), Keras's default, and the cell's activation is tanh.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = _Gates(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x: Tensor, state: State | None = None) -> State:
        """The new hidden and cell state; without ``state`` they start from zero."""
        i, f, g, o = self.gates(x, None if state is None else state[0]).chunk(4, 1)
        return _advance(hard_sigmoid(i), hard_sigmoid(f), torch.tanh(g), hard_sigmoid(o), state)


class ConvLstm(nn.Module):
    """A ConvLSTM layer over a window, all steps out: a list of T ``[B, inputs, H, W]`` to T ``[B, hidden, H, W]``."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = ConvLstmCell(inputs, hidden)
        weight = self.cell.gates.weight
        initialise_as_keras(self.cell.gates, weight[:, inputs:])
        # The recurrent part is no part of the input kernel's fan-in.
        bound = math.sqrt(6 / (9 * (inputs + 4 * hidden)))
        with torch.no_grad():
            weight[:, :inputs].uniform_(-bound, bound)

    def forward(self, steps: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states, oldest first."""
        return _unroll(self.cell, steps)


def hard_sigmoid(x: Tensor) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1): Keras's and ONNX's; torch's own has a slope of 1/6."""
    return (0.2 * x + 0.5).clamp(0, 1)


def initialise_as_keras(layer: nn.Linear | nn.Conv2d, recurrent: Tensor) -> None:
    """Keras's defaults: Glorot kernel, orthogonal recurrent kernel ``[4 * hidden, ...]``, zero bias, forget gate 1."""
    assert layer.bias is not None
    hidden = layer.bias.numel() // 4
    nn.init.xavier_uniform_(layer.weight)
    with torch.no_grad():
        square = torch.empty(4 * hidden, recurrent[0].numel(), device=recurrent.device)
        recurrent.copy_(nn.init.orthogonal_(square).reshape(recurrent.shape))
        layer.bias.zero_()
        layer.bias[hidden : 2 * hidden] = 1


def _advance(i: Tensor, f: Tensor, g: Tensor, o: Tensor, state: State | None) -> State:
    cell = i * g if state is None else f * state[1] + i * g
    return o * torch.tanh(cell), cell


def _unroll(cell: LstmCell | ConvLstmCell, steps: Sequence[Tensor]) -> list[Tensor]:
    state: State | None = None
    hidden: list[Tensor] = []
    for x in steps:
        state = cell(x, state)
        hidden.append(state[0])
    return hidden
