"""Block B16: 3-D convolutions and poolings as 2-D operators on a folded batch, exact in real arithmetic.

A clip ``[B,C,T,H,W]`` travels as ``[B*T,C,H,W]``, the frames of one clip behind each other. Temporal tap j of a 3-D
operator reads input frame ``stride * t + dilation * j - padding`` for output frame t; absent frames count as zeros in a
convolution and an average, and not at all in a maximum. 2-D operators have int8 kernels everywhere, 3-D ones hardly
anywhere. Whole networks are rewritten by ``as_2d``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ExportError

Steps = list[list[int]]


def fold(clip: Tensor) -> Tensor:
    """``[B,T,C,H,W]`` to ``[B*T,C,H,W]``."""
    return clip.reshape(-1, *clip.shape[2:])


def unfold(x: Tensor, frames: int) -> Tensor:
    """``[B*T,C,H,W]`` to ``[B,T,C,H,W]``."""
    return x.reshape(-1, frames, *x.shape[1:])


def pad_frames(clip: Tensor, before: int, after: int) -> Tensor:
    """``[B,T,C,H,W]`` with frames of zeros before and after."""
    return functional.pad(clip, (0, 0) * 3 + (before, after)) if before or after else clip


def every(clip: Tensor, first: int, count: int, stride: int) -> Tensor:
    """``count`` frames of ``[B,T,C,H,W]``: ``first``, ``first + stride``, ..."""
    return clip[:, first : first + stride * (count - 1) + 1 : stride]


class Conv3dAs2d(nn.Module):
    """A 3-D convolution on clips of ``frames`` frames: ``[B*frames,I,H,W]`` to ``[B*out_frames,O,H',W']``.

    Three forms, all of the same multiply-adds (but for absent frames, which some skip):

    - *taps* (dense, temporal stride 1): one convolution of K * O outputs on every frame; the K parts are added, each
      shifted by its tap. It reads what the layer before made, as int8 pairs want it.
    - *stack* (dense; temporal stride above 1, or K * I at most O, as in a stem): the K frames that an output frame
      needs are stacked to K * I channels, then one convolution.
    - *grouped*: one grouped (depthwise) convolution per tap, on the frames that this tap reads, added.

    Args:
        conv: the layer; zero padding (numbers or ``same``), any stride, dilation and groups.
        frames: T of its input.

    Attributes:
        out_frames: T of its output.
        form: ``taps``, ``stack`` or ``grouped``; ``plain`` where K is 1.

    Raises:
        ExportError: another padding mode, or a clip shorter than the kernel.
    """

    def __init__(self, conv: nn.Conv3d, frames: int) -> None:
        super().__init__()
        if conv.padding_mode != "zeros":
            raise ExportError(f"a 3-D convolution pads with '{conv.padding_mode}'; expected zeros to make it 2-D")
        pads = _pads(conv)
        (taps, *size), (self.stride, *stride) = conv.kernel_size, conv.stride
        self.frames, self.dilation = frames, conv.dilation[0]
        self.before, self.after = pads[0]
        self.out_frames = _length(frames + sum(pads[0]), self.dilation * (taps - 1) + 1, self.stride)
        offsets = [self.dilation * tap - self.before for tap in range(taps)]
        # The tap that reads a frame for every output frame carries the bias; without one, frames are stacked.
        whole = [n for n, o in enumerate(offsets) if o >= 0 and self.stride * (self.out_frames - 1) + o < frames]
        self.offsets = offsets
        self.base = whole[0] if whole else 0
        if taps == 1:
            self.form = "plain"
        elif conv.groups > 1:
            self.form = "grouped"
        elif self.stride > 1 or not whole or taps * conv.in_channels <= conv.out_channels:
            self.form = "stack"
        else:
            self.form = "taps"
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        out, into = weight.shape[:2]
        # Conv2d pads both sides alike; what one side has more is added before it.
        (top, bottom), (left, right) = pads[1:]
        self.margin = (0, 0, 0, 0) if (top, left) == (bottom, right) else (left, right, top, bottom)
        padding = (top, left) if not any(self.margin) else (0, 0)

        def layer(kernel: Tensor, offset: Tensor | None, groups: int = 1) -> nn.Conv2d:
            made = nn.Conv2d(
                kernel.shape[1] * groups,
                kernel.shape[0],
                (size[0], size[1]),
                (stride[0], stride[1]),
                padding,
                (conv.dilation[1], conv.dilation[2]),
                groups,
                bias=offset is not None,
                device="meta",
            )
            made.weight = nn.Parameter(kernel.contiguous())
            if offset is not None:
                made.bias = nn.Parameter(offset.clone())
            return made

        if self.form in ("plain", "grouped"):
            parts = [layer(weight[:, :, n], bias if n == self.base else None, conv.groups) for n in range(taps)]
        elif self.form == "stack":
            parts = [layer(weight.transpose(1, 2).reshape(out, taps * into, *size), bias)]
        else:
            spread = None if bias is None else torch.zeros(taps, out, dtype=bias.dtype, device=bias.device)
            if spread is not None and bias is not None:
                spread[self.base] = bias
            kernels = weight.permute(2, 0, 1, 3, 4).reshape(taps * out, into, *size)
            parts = [layer(kernels, None if spread is None else spread.reshape(-1))]
        self.convs = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """``[B*frames,I,H,W]`` to ``[B*out_frames,O,H',W']``."""
        if any(self.margin):
            x = functional.pad(x, self.margin)
        if self.form == "taps":
            return self._add_shifted(self.convs[0](x))
        whole = self.form == "plain" and self.stride == 1 and not (self.before or self.after)
        if whole:
            return self.convs[0](x)  # type: ignore[no-any-return]
        clip = pad_frames(unfold(x, self.frames), self.before, self.after)
        read = [every(clip, offset + self.before, self.out_frames, self.stride) for offset in self.offsets]
        if self.form == "stack":
            return self.convs[0](fold(torch.cat(read, 2)))  # type: ignore[no-any-return]
        first, *others = (conv(fold(part)) for conv, part in zip(self.convs, read, strict=True))
        for other in others:
            first = first + other
        return first  # type: ignore[no-any-return]

    def _add_shifted(self, x: Tensor) -> Tensor:
        """``[B*frames,K*O,H',W']`` to the sum of its K parts, each of which starts at its tap's offset."""
        clip = unfold(x, self.frames)
        parts = clip.chunk(len(self.offsets), 2)
        total = every(parts[self.base], self.offsets[self.base], self.out_frames, 1)
        for tap, (offset, part) in enumerate(zip(self.offsets, parts, strict=True)):
            first, last = max(0, -offset), min(self.out_frames, self.frames - offset)
            if tap != self.base and first < last:
                seen = part[:, first + offset : last + offset]
                total = total + pad_frames(seen, first, self.out_frames - last)
        return fold(total)


class MaxPool3dAs2d(nn.Module):
    """A 3-D max-pool on clips of ``frames`` frames: the maximum over time first, then a 2-D max-pool, so that a
    convolution behind it reads a pooling and no change of shape."""

    def __init__(self, pool: nn.MaxPool3d, frames: int) -> None:
        super().__init__()
        if pool.return_indices:
            raise ExportError("a 3-D max-pool that returns indices has no 2-D form")
        size, stride, padding = _triple(pool.kernel_size), _triple(pool.stride), _triple(pool.padding)
        dilation = _triple(pool.dilation)
        self.frames = frames
        steps = _steps(frames, size[0], stride[0], padding[0], dilation[0], pool.ceil_mode)
        self.out_frames = len(steps)
        self.keeps_time = steps == [[t] for t in range(frames)]
        # A frame that is in the window already stands in for an absent one.
        for step in steps:
            present = [t for t in step if 0 <= t < frames]
            step[:] = [t if 0 <= t < frames else present[0] for t in step]
        self.steps = steps
        self.pool: nn.Module = nn.Identity()
        if size[1:] != (1, 1) or stride[1:] != (1, 1):
            self.pool = nn.MaxPool2d(size[1:], stride[1:], padding[1:], dilation[1:], ceil_mode=pool.ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        """``[B*frames,C,H,W]`` to ``[B*out_frames,C,H',W']``."""
        if not self.keeps_time:
            clip = unfold(x, self.frames)
            first, *others = (_pick(clip, list(tap)) for tap in zip(*self.steps, strict=True))
            for other in others:
                first = torch.maximum(first, other)
            x = fold(first)
        return self.pool(x)  # type: ignore[no-any-return]


class AvgPool3dAs2d(nn.Module):
    """A 3-D average pool on clips of ``frames`` frames: a 2-D average pool, which leaves less to add, then the mean
    over time. torch's divisor is a product of one number per axis, so that this is exact with every padding and
    rounding."""

    def __init__(self, pool: nn.AvgPool3d, frames: int) -> None:
        super().__init__()
        if pool.divisor_override is not None:
            raise ExportError("a 3-D average pool with a divisor of its own has no 2-D form")
        size, stride, padding = _triple(pool.kernel_size), _triple(pool.stride), _triple(pool.padding)
        self.frames, self.taps, self.stride, self.before = frames, size[0], stride[0], padding[0]
        steps = _steps(frames, size[0], stride[0], padding[0], 1, pool.ceil_mode)
        self.out_frames = len(steps)
        self.after = max(0, steps[-1][-1] + 1 - frames)
        least, most = (-padding[0], frames + padding[0]) if pool.count_include_pad else (0, frames)
        self.counts = [float(sum(least <= t < most for t in step)) for step in steps]
        self.pool = nn.AvgPool2d(size[1:], stride[1:], padding[1:], pool.ceil_mode, pool.count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        """``[B*frames,C,H,W]`` to ``[B*out_frames,C,H',W']``."""
        x = self.pool(x)
        if self.taps == self.stride == 1 and not self.before:
            return x
        clip = pad_frames(unfold(x, self.frames), self.before, self.after)
        total = every(clip, 0, self.out_frames, self.stride)
        for tap in range(1, self.taps):
            total = total + every(clip, tap, self.out_frames, self.stride)
        if len(set(self.counts)) == 1:
            return fold(total / self.counts[0])
        return fold(total / total.new_tensor(self.counts).reshape(-1, 1, 1, 1))


def _pick(clip: Tensor, frames: list[int]) -> Tensor:
    """These frames of ``[B,T,C,H,W]``, in this order: a slice where they are evenly spaced."""
    stride = frames[1] - frames[0] if len(frames) > 1 else 1
    if stride > 0 and frames == list(range(frames[0], frames[0] + stride * len(frames), stride)):
        return every(clip, frames[0], len(frames), stride)
    return torch.cat([clip[:, t : t + 1] for t in frames], 1)


def _steps(frames: int, size: int, stride: int, padding: int, dilation: int, ceil: bool) -> Steps:
    """Frames that each output frame of a pooling reads; absent ones are negative or not below ``frames``."""
    reach = dilation * (size - 1) + 1
    count = _length(frames + 2 * padding, reach, stride, ceil)
    # torch drops a window that would start behind the frames and the padding before them.
    if ceil and (count - 1) * stride >= frames + padding:
        count -= 1
    return [[stride * t + dilation * tap - padding for tap in range(size)] for t in range(count)]


def _length(frames: int, reach: int, stride: int, ceil: bool = False) -> int:
    if frames < reach:
        raise ExportError(f"a clip of {frames} frames (padding included) is shorter than a kernel of {reach}")
    return (frames - reach + (stride - 1 if ceil else 0)) // stride + 1


def _pads(conv: nn.Conv3d) -> list[tuple[int, int]]:
    """(before, after) for time, height and width."""
    if isinstance(conv.padding, str):
        reaches = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        totals = reaches if conv.padding == "same" else [0, 0, 0]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(p), int(p)) for p in conv.padding]


def _triple(value: int | tuple[int, ...]) -> tuple[int, int, int]:
    first, second, third = (value,) * 3 if isinstance(value, int) else value
    return first, second, third
