"""Layers on clips ``[B,C,T,H,W]`` that look at time or place and have their own form on folded clips (``as_2d``)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from .conv3d_as_2d import fold, pad_frames, unfold

Sizes = tuple[int, int, int]


def init_convolutions(network: nn.Module) -> None:
    """He initialisation of 3-D convolutions by what one output value reads, so that depthwise ones keep their scale."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def same_pads(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for each axis of TensorFlow's ``same`` padding: ``ceil(size / stride)`` results, and of an odd
    excess the larger part behind."""
    found = []
    for size, reach, step in zip(sizes, kernel, stride, strict=True):
        excess = max(0, (-(-size // step) - 1) * step + reach - size)
        found.append((excess // 2, excess - excess // 2))
    return found


class SamePad3d(nn.Module):
    """Zeros around a clip, so that an unpadded convolution or pooling behind it gives TensorFlow's ``same`` result. In
    front of a max-pool the clip must be non-negative, as after a ReLU: there zeros and TensorFlow's padding agree."""

    def __init__(self, kernel: Sizes, stride: Sizes) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,C,T,H,W]`` with zeros around it."""
        (first, last), (top, bottom), (left, right) = same_pads(clip.shape[2:], self.kernel, self.stride)
        return functional.pad(clip, (left, right, top, bottom, first, last))

    def folded(self, frames: int) -> nn.Module:
        """The same on ``[B*frames,C,H,W]``."""
        return _FoldedSamePad(self, frames)


class _FoldedSamePad(nn.Module):
    def __init__(self, pad: SamePad3d, frames: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.frames = pad.kernel, pad.stride, frames

    def forward(self, x: Tensor) -> Tensor:
        sizes = (self.frames, *x.shape[2:])
        (first, last), (top, bottom), (left, right) = same_pads(sizes, self.kernel, self.stride)
        if first or last:
            x = fold(pad_frames(unfold(x, self.frames), first, last))
        return functional.pad(x, (left, right, top, bottom)) if top or bottom or left or right else x


class ClipMean(nn.Module):
    """The mean over time and place: ``[B,C,T,H,W]`` to ``[B,C]``."""

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,C]``."""
        return clip.mean((2, 3, 4))

    def folded(self, frames: int) -> nn.Module:
        """The same on ``[B*frames,C,H,W]``."""
        return _FoldedMean(frames)


class _FoldedMean(nn.Module):
    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return unfold(x.mean((2, 3)), self.frames).mean(1)


class ClipFlatten(nn.Module):
    """All values of a clip in the order channel, time, height, width: ``[B,C,T,H,W]`` to ``[B,C*T*H*W]``."""

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,C*T*H*W]``."""
        return clip.flatten(1)

    def folded(self, frames: int) -> nn.Module:
        """The same on ``[B*frames,C,H,W]``."""
        return _FoldedFlatten(frames)


class _FoldedFlatten(nn.Module):
    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.frames == 1 else unfold(x, self.frames).transpose(1, 2).flatten(1)


class SubsampleShortcut(nn.Module):
    """Shortcut of type A: every ``stride``-th value of each axis, zeros in the channels that are missing."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = planes - inplanes, stride

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,inplanes,T,H,W]`` to ``[B,planes,T/stride,H/stride,W/stride]``, sizes rounded up."""
        s = self.stride
        return functional.pad(clip[:, :, ::s, ::s, ::s], (0, 0) * 3 + (0, self.more))

    def folded(self, frames: int) -> nn.Module:
        """The same on ``[B*frames,inplanes,H,W]``."""
        return _FoldedSubsample(self, frames)


class _FoldedSubsample(nn.Module):
    def __init__(self, shortcut: SubsampleShortcut, frames: int) -> None:
        super().__init__()
        self.more, self.stride, self.frames = shortcut.more, shortcut.stride, frames

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        clip = unfold(x, self.frames)[:, ::s, :, ::s, ::s]
        return fold(functional.pad(clip, (0, 0) * 2 + (0, self.more)))
