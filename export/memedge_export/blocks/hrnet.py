"""Block B5: HRNetV2-W48, parallel branches at strides 4 to 32 that exchange what they see (K. Sun et al., 2019).

The encoder of CSAIL's scene parser: maps are brought up by bilinear interpolation with half-pixel centres. The network
of that name in timm is the ImageNet classifier, which repeats pixels instead: other features from the same weights.
Key names are CSAIL's. Golden: 65,325,120 parameters, 21.18 GMAC at 256 x 256.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .resnet2d import BasicBlock, Bottleneck


class Exchange(nn.Module):
    """One module of a stage: basic blocks in each branch, then every branch takes the sum of all.

    Args:
        widths: channels of the branches; each has half the height and width of the one before.
        blocks: in each branch.
    """

    def __init__(self, widths: Sequence[int], blocks: int = 4) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleDict(
                {str(source): _fuse(widths, source, target) for source in range(len(widths)) if source != target}
            )
            for target in range(len(widths))
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map ``[B, width, h, w]`` a branch to one of the same shape a branch."""
        seen = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, layers in enumerate(self.fuse_layers):
            assert isinstance(layers, nn.ModuleDict)
            total = seen[target]
            for source, x in enumerate(seen):
                if source != target:
                    y = layers[str(source)](x)
                    total = total + (upsample(y, total.shape[-2:]) if source > target else y)
            fused.append(torch.relu(total))
        return fused


class HrnetV2(nn.Module):
    """float32 ``[B,3,H,W]`` to the pooled features ``[B, features]``, 720 for W48.

    Args:
        width: channels of the branch at stride 4; the others have 2, 4 and 8 times as many.
        stem: channels before the branches; the first stage's bottlenecks give four times as many.
        modules: of stages 2, 3 and 4, which have 2, 3 and 4 branches. blocks: in the first stage and in each branch.
    """

    def __init__(self, width: int = 48, stem: int = 64, modules: Sequence[int] = (1, 4, 3), blocks: int = 4) -> None:
        super().__init__()
        widths = [width * 2**branch for branch in range(4)]
        self.features = sum(widths)
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        wide = stem * Bottleneck.expansion
        self.layer1 = nn.Sequential(Bottleneck(stem, stem), *(Bottleneck(wide, stem) for _ in range(blocks - 1)))
        # Each further branch comes from the lowest one before it.
        self.transition1 = nn.ModuleList(
            [nn.Sequential(*_unit(wide, widths[0], 1, True)), nn.Sequential(_down(wide, widths[1]))]
        )
        self.transition2 = nn.ModuleDict({"2": nn.Sequential(_down(widths[1], widths[2]))})
        self.transition3 = nn.ModuleDict({"3": nn.Sequential(_down(widths[2], widths[3]))})
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(Exchange(widths[: branches + 2], blocks) for _ in range(count)))
            for branches, count in enumerate(modules)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_map(self, x: Tensor) -> Tensor:
        """All four maps at stride 4, joined: ``[B, features, H/4, W/4]``."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self.stage2([transition(x) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2["2"](maps[-1])])
        maps = self.stage4([*maps, self.transition3["3"](maps[-1])])
        return torch.cat([maps[0], *(upsample(x, maps[0].shape[-2:]) for x in maps[1:])], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features, ``[B, features]``."""
        return self.forward_map(x).mean((2, 3))

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        """Batch-norms that fold into the convolution before them, outside the residual blocks: (owner, convolution,
        batch-norm)."""
        found: list[tuple[nn.Module, str, str]] = [(self, "conv1", "bn1"), (self, "conv2", "bn2")]
        roots = [self.transition1, self.transition2, self.transition3]
        roots += [module.fuse_layers for module in self.modules() if isinstance(module, Exchange)]
        for root in roots:
            found += [(owner, "0", "1") for owner in root.modules() if _is_unit(owner)]
        return found


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear interpolation with half-pixel centres to (height, width) ``size``.

    By a constant factor where there is one (sides that are multiples of 32 have it everywhere): then the ONNX graph
    holds a Resize with constant scales, and no shape operators.
    """
    factors = [whole // part for whole, part in zip(size, x.shape[-2:], strict=True)]
    if [factor * part for factor, part in zip(factors, x.shape[-2:], strict=True)] == list(size):
        return functional.interpolate(x, scale_factor=factors, mode="bilinear", align_corners=False)
    return functional.interpolate(x, size=list(size), mode="bilinear", align_corners=False)


def _unit(inside: int, out: int, stride: int, relu: bool, kernel: int = 3) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(inside, out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


def _down(inside: int, out: int, relu: bool = True) -> nn.Sequential:
    return nn.Sequential(*_unit(inside, out, 2, relu))


def _fuse(widths: Sequence[int], source: int, target: int) -> nn.Sequential:
    """From one branch to another: a 1x1 convolution upwards (interpolated afterwards), a 3x3/2 for each step down."""
    if source > target:
        return nn.Sequential(*_unit(widths[source], widths[target], 1, False, kernel=1))
    steps = target - source
    return nn.Sequential(
        *(
            _down(widths[source], widths[target] if step == steps - 1 else widths[source], relu=step < steps - 1)
            for step in range(steps)
        )
    )


def _is_unit(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d)
