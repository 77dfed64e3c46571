"""Block B3: the network of MemNet, CaffeNet down to fc7 (A. Krizhevsky et al., NIPS 2012, pooled before normalising).

Golden at 227 x 227, with the last layer of one output: 56,872,321 parameters, 0.720 GMAC.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .hidden_linear import HiddenLinear
from .widths import scaled

_PLACES = 6 * 6


class ChannelNorm(nn.Module):
    """Local response normalisation over ``size`` neighbouring channels: x / (bias + alpha / size * sum x^2)^beta.

    In an ONNX graph it is LRN, which stays in float: no back end has an int8 kernel for it. With ``as_convolution`` it
    is the same arithmetic in plain operators, for accelerators without LRN: the sum is a 1x1 convolution of x^2 with a
    band matrix.
    """

    band: Tensor

    def __init__(
        self,
        channels: int,
        *,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 1.0,
        as_convolution: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias
        self.as_convolution = as_convolution
        if as_convolution:
            places = torch.arange(channels)
            near = (places[:, None] - places[None]).abs() <= size // 2
            self.register_buffer("band", near.float()[:, :, None, None] * (alpha / size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,H,W]`` to the same shape."""
        if self.as_convolution:
            return x * (F.conv2d(x * x, self.band) + self.bias).pow(-self.beta)
        if torch.onnx.is_in_onnx_export():
            attributes: dict[str, Any] = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
            return torch.onnx.ops.symbolic("LRN", (x,), attributes, dtype=x.dtype, shape=x.shape, version=13)
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.bias)


class AlexLrn(nn.Module):
    """float32 ``[B,3,227,227]`` to fc7 after its ReLU, ``[B, features]``; layers have Caffe's names.

    Args:
        lrn_as_convolution: see :class:`ChannelNorm`.
    """

    def __init__(self, width: float = 1.0, *, lrn_as_convolution: bool = False) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = (scaled(channels, width, 2) for channels in (96, 256, 384, 384, 256))
        self.conv1 = nn.Conv2d(3, c1, 11, 4)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1, groups=2)
        self.norm1 = ChannelNorm(c1, as_convolution=lrn_as_convolution)
        self.norm2 = ChannelNorm(c2, as_convolution=lrn_as_convolution)
        self.pool = nn.MaxPool2d(3, 2)
        self.features = scaled(4096, width)
        self.fc6 = HiddenLinear(c5 * _PLACES, self.features)
        self.fc7 = HiddenLinear(self.features, self.features)
        for conv in self.children():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, frames: Tensor) -> Tensor:
        """The last pool, ``[B,256,6,6]`` at full width; larger of larger frames."""
        x = self.norm1(self.pool(F.relu(self.conv1(frames))))
        x = self.norm2(self.pool(F.relu(self.conv2(x))))
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        pooled: Tensor = self.pool(F.relu(self.conv5(x)))
        return pooled

    def forward(self, frames: Tensor) -> Tensor:
        """The features."""
        features: Tensor = self.fc7(self.fc6(self.maps(frames).flatten(1)))
        return features


@torch.no_grad()
def without_groups(network: nn.Module) -> nn.Module:
    """The network itself with its grouped convolutions replaced by dense ones whose other weights are zero, the same
    function: some accelerators want one group, or as many as channels."""
    for owner in list(network.modules()):
        for name, conv in list(owner.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.groups > 1:
                setattr(owner, name, _dense(conv))
    return network


def _dense(conv: nn.Conv2d) -> nn.Conv2d:
    weight = conv.weight.new_zeros(conv.out_channels, conv.in_channels, *conv.weight.shape[2:])
    outs, ins = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    for group in range(conv.groups):
        rows = slice(group * outs, (group + 1) * outs)
        weight[rows, group * ins : (group + 1) * ins] = conv.weight[rows]
    dense = copy.copy(conv)
    dense._parameters = {**conv._parameters, "weight": nn.Parameter(weight)}
    dense.groups = 1
    return dense
