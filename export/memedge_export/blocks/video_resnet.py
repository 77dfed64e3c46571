"""Block B6: residual networks of 3-D convolutions: the dense ``r3d34``, and channel-separated CSN-152.

``r3d34`` (K. Hara et al., CVPR 2018) has the key names of its authors' 3D-ResNets-PyTorch. Golden with one output:
63,514,049 parameters and 12.70 GMAC with shortcuts of type B, 63,340,225 and 12.68 with type A, for 16 frames of
112 x 112. ``ip_csn_152`` and ``ir_csn_152`` (D. Tran et al., ICCV 2019): golden 32,196,992 parameters, 158.24 GMAC for
45 frames of 256 x 256 (ip, features only); 29,703,568 with 400 classes, 74.05 GMAC for 32 frames of 224 x 224 (ir).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .clip_layers import ClipMean, SubsampleShortcut, init_convolutions
from .widths import scaled

Pairs = list[tuple[nn.Module, str, str]]
Depths = tuple[int, int, int, int]
Shortcut = Literal["A", "B"]
_WIDTHS = (64, 128, 256, 512)


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels)


def _caffe2_norm(channels: int) -> nn.BatchNorm3d:
    """With the settings that CSN's public weights were made with; torch's momentum is the new batch's share."""
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=0.9)


class _Block(nn.Module):
    """What residual blocks share: a shortcut that is the identity, a module, or convolution and batch-norm."""

    downsample: nn.Module | None

    def _join(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    def conv_norm_pairs(self) -> Pairs:
        """Batch-norms that fold into the convolution before them: (owner, convolution, batch-norm)."""
        found: Pairs = [(self, f"conv{i}", f"bn{i}") for i in (1, 2, 3) if hasattr(self, f"conv{i}")]
        if hasattr(self, "mix"):
            found.append((self, "mix", "mix_bn"))
        if isinstance(self.downsample, nn.Sequential):
            found.append((self.downsample, "0", "1"))
        return found


class BasicBlock3d(_Block):
    """Two 3x3x3 convolutions and a shortcut.

    Args:
        stride: in time, height and width.
        shortcut: ``B``: 1x1x1 convolution and batch-norm where the shape changes; ``A``: subsampling, zeros in the new
            channels, no parameters.
    """

    def __init__(self, inplanes: int, planes: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = _norm(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = _norm(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            if shortcut == "A":
                self.downsample = SubsampleShortcut(inplanes, planes, stride)
            else:
                self.downsample = _projection(inplanes, planes, stride, _norm)

    @property
    def last_bn(self) -> nn.BatchNorm3d:
        """The batch-norm that closes the residual branch."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inplanes,T,H,W]`` to ``[B,planes,T/stride,H/stride,W/stride]``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return self._join(x, self.bn2(self.conv2(y)))


class CsnBottleneck(_Block):
    """1x1x1, depthwise 3x3x3 (carries the stride), 1x1x1, and a shortcut; ``expansion`` 4.

    Args:
        interaction: ``preserved`` (ip): a 1x1x1 convolution and batch-norm stand before the depthwise one; ``reduced``
            (ir): none do.
    """

    expansion = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int, interaction: Literal["preserved", "reduced"] = "preserved"
    ) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = nn.Conv3d(inplanes, planes, 1, bias=False)
        self.bn1 = _caffe2_norm(planes)
        if interaction == "preserved":
            self.mix = nn.Conv3d(planes, planes, 1, bias=False)
            self.mix_bn = _caffe2_norm(planes)
        self.interaction = interaction
        self.conv2 = nn.Conv3d(planes, planes, 3, stride, 1, groups=planes, bias=False)
        self.bn2 = _caffe2_norm(planes)
        self.conv3 = nn.Conv3d(planes, outplanes, 1, bias=False)
        self.bn3 = _caffe2_norm(outplanes)
        self.downsample = None
        if stride != 1 or inplanes != outplanes:
            self.downsample = _projection(inplanes, outplanes, stride, _caffe2_norm)

    @property
    def last_bn(self) -> nn.BatchNorm3d:
        """The batch-norm that closes the residual branch."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inplanes,T,H,W]`` to ``[B,4*planes,T/stride,H/stride,W/stride]``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        if self.interaction == "preserved":
            y = self.mix_bn(self.mix(y))
        y = torch.relu(self.bn2(self.conv2(y)))
        return self._join(x, self.bn3(self.conv3(y)))


def _projection(inplanes: int, outplanes: int, stride: int, norm: Callable[[int], nn.BatchNorm3d]) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inplanes, outplanes, 1, stride, bias=False), norm(outplanes))


class VideoResNet(nn.Module):
    """Trunk: float32 ``[B,3,T,H,W]`` to pooled features ``[B,features]``.

    Args:
        block: makes a block out of (inplanes, planes, stride).
        expansion: channels that a block gives, in planes.
        depths: blocks per stage, four numbers; stages 2 to 4 halve time, height and width.
        stem: ``cube``: 7x7x7 and a 3x3x3 max-pool that halves time, too; ``flat``: 3x7x7 and a 1x3x3 max-pool.
        width: multiplies the channels.
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        expansion: int,
        depths: Sequence[int],
        stem: Literal["cube", "flat"],
        width: float = 1.0,
    ) -> None:
        super().__init__()
        widths = [scaled(planes, width) for planes in _WIDTHS]
        time = 7 if stem == "cube" else 3
        self.conv1 = nn.Conv3d(3, widths[0], (time, 7, 7), (1, 2, 2), (time // 2, 3, 3), bias=False)
        self.bn1 = _norm(widths[0]) if stem == "cube" else _caffe2_norm(widths[0])
        self.maxpool = nn.MaxPool3d(3, 2, 1) if stem == "cube" else nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inplanes = widths[0]
        for stage, (count, planes) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks: list[nn.Module] = []
            for i in range(count):
                blocks.append(block(inplanes, planes, 2 if stage > 1 and i == 0 else 1))
                inplanes = planes * expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.features = inplanes
        self.mean = ClipMean()
        init_convolutions(self)

    def forward(self, clip: Tensor) -> Tensor:
        """Pooled features, ``[B,features]``."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(clip))))
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.mean(x)  # type: ignore[no-any-return]

    def conv_norm_pairs(self) -> Pairs:
        """The stem's; blocks have their own."""
        return [(self, "conv1", "bn1")]


def r3d34(shortcut: Shortcut = "B", width: float = 1.0, depths: Depths = (3, 4, 6, 3)) -> VideoResNet:
    """34 layers of 3x3x3 convolutions; 512 features."""
    return VideoResNet(partial(BasicBlock3d, shortcut=shortcut), 1, depths, "cube", width)


def ip_csn_152(width: float = 1.0, depths: Depths = (3, 8, 36, 3)) -> VideoResNet:
    """Interaction-preserved channel-separated network of 152 layers; 2048 features."""
    return VideoResNet(CsnBottleneck, CsnBottleneck.expansion, depths, "flat", width)


def ir_csn_152(width: float = 1.0, depths: Depths = (3, 8, 36, 3)) -> VideoResNet:
    """Interaction-reduced channel-separated network: the cheaper sibling; 2048 features."""
    block = partial(CsnBottleneck, interaction="reduced")
    return VideoResNet(block, CsnBottleneck.expansion, depths, "flat", width)
