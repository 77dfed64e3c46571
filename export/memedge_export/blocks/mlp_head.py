"""Block B8: the fully connected layers that end most systems, and the Mish activation of M3-S."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["relu", "tanh", "mish"]
OutputActivation = Literal["linear", "sigmoid", "relu", "tanh", "mish"]


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)) (D. Misra, BMVC 2020); in an ONNX graph Softplus, Tanh and Mul."""
    if torch.onnx.is_in_onnx_export():
        # The exporter writes torch's own softplus with a Greater and a Where, for a threshold that floats do not need.
        softplus = torch.onnx.ops.symbolic("Softplus", (x,), dtype=x.dtype, shape=x.shape, version=1)
    else:
        softplus = F.softplus(x)
    return x * torch.tanh(softplus)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "mish": mish,
}


class MlpHead(nn.ModuleList):
    """float32 ``[B, dims[0]]`` to ``[B, dims[-1]]`` through linear layers; their keys are ``0``, ``1``, ...

    Args:
        dims: numbers of inputs, of hidden units and of outputs.
        act: after each hidden layer, then dropout. out_act: after the last layer.
        dropout: share of hidden values set to zero in training.
        drop_out: dropout after the last layer too: a branch whose outputs are themselves a hidden layer.
    """

    def __init__(
        self,
        dims: Sequence[int],
        *,
        act: Activation = "relu",
        dropout: float = 0.0,
        out_act: OutputActivation = "linear",
        drop_out: bool = False,
    ) -> None:
        if len(dims) < 2 or min(dims) < 1:
            raise ValueError(f"dims {list(dims)}; expected two or more positive numbers")
        super().__init__(nn.Linear(dims[i], dims[i + 1]) for i in range(len(dims) - 1))
        self.act: Activation = act
        self.out_act: OutputActivation = out_act
        self.dropout = dropout
        self.drop_out = drop_out

    @property
    def linear(self) -> nn.Linear:
        """The last layer."""
        layer = self[len(self) - 1]
        assert isinstance(layer, nn.Linear)
        return layer

    def logits(self, x: Tensor) -> Tensor:
        """The last layer's values before ``out_act``, ``[B, dims[-1]]``."""
        for number, layer in enumerate(self):
            x = layer(x)
            if number < len(self) - 1:
                x = F.dropout(_ACTIVATIONS[self.act](x), self.dropout, self.training)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's values."""
        x = _ACTIVATIONS[self.out_act](self.logits(x))
        return F.dropout(x, self.dropout, self.training) if self.drop_out else x
