"""Block B7: I3D, Inception-V1 inflated to 3-D convolutions (J. Carreira and A. Zisserman, CVPR 2017).

Batch-norm (eps 1e-3) and ReLU follow every convolution; padding is TensorFlow's ``same``. Key names are those of
piergiaj's PyTorch port. The Keras original's batch-norm has no scale; it counts as ones here. Golden without a head:
12,287,264 parameters and 80.5 GMAC for 45 frames of 224 x 224; 12,265,312 and 74.2 GMAC for optical flow, two channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .clip_layers import SamePad3d, Sizes, init_convolutions
from .widths import scaled

# (1x1x1; 1x1x1, 3x3x3; 1x1x1, 3x3x3; behind the pool) of each module, the pools between them, in order.
_MODULES: dict[str, tuple[int, int, int, int, int, int]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
_POOLED_BEFORE = {"4b": "pool_4a", "5b": "pool_5a"}


class Unit3d(nn.Module):
    """``same``-padded convolution, batch-norm, ReLU."""

    def __init__(self, inplanes: int, planes: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        # At stride 1 an odd kernel pads both sides alike, whatever the size.
        self.pad: nn.Module = nn.Identity() if stride == 1 else SamePad3d((kernel,) * 3, (stride,) * 3)
        self.conv3d = nn.Conv3d(inplanes, planes, kernel, stride, kernel // 2 if stride == 1 else 0, bias=False)
        self.bn = nn.BatchNorm3d(planes, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inplanes,T,H,W]`` to ``[B,planes,ceil(T/stride),ceil(H/stride),ceil(W/stride)]``."""
        return torch.relu(self.bn(self.conv3d(self.pad(x))))

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        """Batch-norms that fold into the convolution before them: (owner, convolution, batch-norm)."""
        return [(self, "conv3d", "bn")]


class InceptionModule(nn.Module):
    """Four branches, joined: 1x1x1; 1x1x1 and 3x3x3, twice; 3x3x3 max-pool and 1x1x1."""

    def __init__(self, inplanes: int, planes: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce1, three1, reduce2, three2, pooled = planes
        self.b0 = Unit3d(inplanes, one)
        self.b1a, self.b1b = Unit3d(inplanes, reduce1), Unit3d(reduce1, three1, 3)
        self.b2a, self.b2b = Unit3d(inplanes, reduce2), Unit3d(reduce2, three2, 3)
        self.pool = nn.MaxPool3d(3, 1, 1)
        self.b3b = Unit3d(inplanes, pooled)
        self.planes = one + three1 + three2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inplanes,T,H,W]`` to ``[B,planes,T,H,W]``."""
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.pool(x))]
        return torch.cat(branches, 1)


def _pool(kernel: Sizes, stride: Sizes) -> nn.Sequential:
    return nn.Sequential(SamePad3d(kernel, stride), nn.MaxPool3d(kernel, stride))


class I3dNet(nn.Module):
    """Trunk: a clip ``[B,channels,T,H,W]`` in -1..1 to a map ``[B,features,ceil(T/8),ceil(H/32),ceil(W/32)]``, 1024
    features.

    Args:
        channels: 3, or 2 for optical flow.
        width: multiplies the channels.
        modules: names of the Inception modules to build, the first few for tests.
    """

    def __init__(self, channels: int = 3, width: float = 1.0, modules: tuple[str, ...] = tuple(_MODULES)) -> None:
        super().__init__()
        narrow, wide = scaled(64, width), scaled(192, width)
        self.Conv3d_1a_7x7 = Unit3d(channels, narrow, 7, 2)
        self.pool_2a = _pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3d(narrow, narrow)
        self.Conv3d_2c_3x3 = Unit3d(narrow, wide, 3)
        self.pool_3a = _pool((1, 3, 3), (1, 2, 2))
        self.pool_4a = _pool((3, 3, 3), (2, 2, 2))
        self.pool_5a = _pool((2, 2, 2), (2, 2, 2))
        self.modules_used = tuple(modules)
        inplanes = wide
        for name in modules:
            module = InceptionModule(inplanes, tuple(scaled(planes, width) for planes in _MODULES[name]))
            setattr(self, f"Mixed_{name}", module)
            inplanes = module.planes
        self.features = inplanes
        init_convolutions(self)

    def forward(self, clip: Tensor) -> Tensor:
        """The last module's map."""
        x = self.Conv3d_2b_1x1(self.pool_2a(self.Conv3d_1a_7x7(clip)))
        x = self.pool_3a(self.Conv3d_2c_3x3(x))
        for name in self.modules_used:
            if name in _POOLED_BEFORE:
                x = getattr(self, _POOLED_BEFORE[name])(x)
            x = getattr(self, f"Mixed_{name}")(x)
        return x  # type: ignore[no-any-return]
