"""The hidden fully connected layers of AlexNet and VGG: linear, ReLU, dropout of one half."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_DROPOUT = 0.5


class HiddenLinear(nn.Linear):
    """float32 ``[B, in]`` to ``[B, out]``, never negative. Values drop out only while the layer itself is trained: a
    frozen one gives a fixed feature, in training mode too."""

    def reset_parameters(self) -> None:
        """Weights that keep the size of what passes (He et al., ICCV 2015); biases 0."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """The layer's values after its ReLU."""
        return F.dropout(F.relu(super().forward(input)), _DROPOUT, self.training and self.weight.requires_grad)
