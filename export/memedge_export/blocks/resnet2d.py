"""Block B1: two-dimensional residual networks in torchvision's layout and key names.

ResNet-18 and ResNet-101 (He et al., CVPR 2016; stride on the 3x3 convolution of a bottleneck, as torchvision's
v1.5) and the small 3x3-stem form that ``resnet-s`` uses. Keys are torchvision's (``conv1``, ``bn1``,
``layer{1..4}.{i}.conv{1,2,3}``, ``.downsample.{0,1}``), so public state dicts load without renaming.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ``expansion`` 1."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inplanes, planes, stride)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The batch-norm that closes the residual branch."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inplanes,H,W]`` to ``[B,planes * expansion,H/stride,W/stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (carries the stride), 1x1 and a shortcut; ``expansion`` 4."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inplanes, planes * 4, stride)

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The batch-norm that closes the residual branch."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inplanes,H,W]`` to ``[B,planes * expansion,H/stride,W/stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


def _shortcut(inplanes: int, outplanes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inplanes == outplanes:
        return None
    return nn.Sequential(nn.Conv2d(inplanes, outplanes, 1, stride, bias=False), nn.BatchNorm2d(outplanes))


class ResNet2d(nn.Module):
    """Residual trunk: float32 ``[B,3,H,W]`` to pooled features ``[B, features]``.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        layers: blocks per stage, four numbers; with fewer the trunk ends earlier.
        widths: planes per stage (before the block's expansion); those of missing stages are not used.
        stem: ``"7x7"`` (stride 2, then 3x3/2 max-pool: torchvision) or ``"3x3"`` (stride 1, no pool).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: str = "7x7",
    ) -> None:
        super().__init__()
        big = stem == "7x7"
        self.conv1 = nn.Conv2d(3, widths[0], 7 if big else 3, 2 if big else 1, 3 if big else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1) if big else nn.Identity()
        inplanes = widths[0]
        for stage, (count, planes) in enumerate(zip(layers, widths[: len(layers)], strict=True), start=1):
            blocks: list[nn.Module] = []
            for i in range(count):
                blocks.append(block(inplanes, planes, 2 if stage > 1 and i == 0 else 1))
                inplanes = planes * block.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.stages = len(layers)
        self.features = inplanes
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_map(self, x: Tensor) -> Tensor:
        """The last stage's map, ``[B, features, h, w]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features, ``[B, features]``."""
        # A mean over (2, 3), not AdaptiveAvgPool: it leaves no shape operators in the ONNX graph.
        return self.forward_map(x).mean((2, 3))


def residual_blocks(trunk: nn.Module) -> list[BasicBlock | Bottleneck]:
    """All residual blocks of a trunk, in order."""
    return [m for m in trunk.modules() if isinstance(m, (BasicBlock, Bottleneck))]
