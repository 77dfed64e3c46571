"""The heads that AMNetVid puts on four frames' attention maps and scores (A. Totev, MediaEval 2018 task, 2021).

No layer after the recurrent ones has an activation but the last sigmoid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attn_render import AttnMapRender
from .linear_chain import LinearChain
from .recurrent import ConvLstm, Lstm
from .soft_attention import STEPS

FRAMES = 4
_UNITS = 32
_MIXED = 128
_SIZE = 70
_KERAS_EPS = 1e-3
_KERAS_MOMENTUM = 0.01  # torch counts the share of the new value


class ScoreRange(nn.Module):
    """AMNet's scores of any shape brought to 0..1 by the least and greatest score of the collection that a head was
    trained on (of 224,000 frames in the published work).

    Args:
        known: the two, where they are no weights; without, they are buffers that training fits.
    """

    low: Tensor
    high: Tensor

    def __init__(self, known: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(0.0), persistent=known is None)
        self.register_buffer("high", torch.tensor(1.0), persistent=known is None)
        if known is not None:
            self.set_range(*known)

    def set_range(self, low: float, high: float) -> None:
        """The collection's least and greatest score. Raises ValueError where they do not rise."""
        if not low < high:
            raise ValueError(f"scores from {low:g} to {high:g}; expected a range that rises")
        self.low.fill_(low)
        self.high.fill_(high)

    def forward(self, scores: Tensor) -> Tensor:
        """0..1; beyond for scores that the collection did not have."""
        return (scores - self.low) / (self.high - self.low)


class ScoreLstm(nn.Module):
    """AMNet's scores of a window ``[B, 4, 1]`` to 128 features. Parameters: 29,184."""

    def __init__(self, known: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.range = ScoreRange(known)
        self.lstm1 = Lstm(1, _UNITS)
        self.lstm2 = Lstm(_UNITS, _UNITS)
        self.mix = nn.Linear(FRAMES * _UNITS, _MIXED)

    def forward(self, scores: Tensor) -> Tensor:
        """``[B, 128]``."""
        return self.mix(torch.cat(self.lstm2(self.lstm1(self.range(scores).unbind(1))), 1))


class MapLstm(nn.Module):
    """AMNet's attention maps of a window ``[B, 4, 3, 14, 14]`` to 128 features. Parameters: 192,920.

    Rendered to pictures of 70 x 70, three ConvLSTM layers of 20, 10 and 5 filters, each with a max-pool behind it
    (70, 35, 12, 6), and two linear layers on each frame's 180 values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.render = AttnMapRender(size=_SIZE)
        self.conv_lstm1 = ConvLstm(3 * STEPS, 20)
        self.conv_lstm2 = ConvLstm(20, 10)
        self.conv_lstm3 = ConvLstm(10, 5)
        self.frame = LinearChain(nn.Linear(5 * 6 * 6, 512), nn.Dropout(0.5), nn.Linear(512, 64))
        self.mix = nn.Linear(FRAMES * 64, _MIXED)

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, 128]``."""
        steps = [F.max_pool2d(h, 2) for h in self.conv_lstm1(self.render(maps).unbind(1))]
        # 35 = 11 * 3 + 2: the last window is cut off at the end, as 'same' padding does it. A hidden state is never
        # below -1, so that -1 pads like minus infinity.
        steps = [F.max_pool2d(F.pad(h, (0, 1, 0, 1), value=-1.0), 3) for h in self.conv_lstm2(steps)]
        steps = [F.max_pool2d(h, 2) for h in self.conv_lstm3(steps)]
        return self.mix(torch.cat([self.frame(h.flatten(1)) for h in steps], 1))


class WindowScore(nn.Module):
    """128 features of a window to its score ``[B, 1]``, a sigmoid. Parameters: 8,577, 256 of them batch-norm's."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(_MIXED, eps=_KERAS_EPS, momentum=_KERAS_MOMENTUM)
        self.chain = LinearChain(norm, nn.Linear(_MIXED, 64), nn.Linear(64, 1))

    def forward(self, features: Tensor) -> Tensor:
        """The score."""
        return torch.sigmoid(self.chain(features))


class AmNetRnnHead(nn.Module):
    """Scores ``[B, 4, 1]`` to a score ``[B, 1]``: ``amnet-rnn``.

    37,761 trained parameters; Keras counts the batch-norm's 256 running statistics, too: 38,017. ``known``: see
    :class:`ScoreRange`.
    """

    def __init__(self, known: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.scores = ScoreLstm(known)
        self.tail = WindowScore()

    def forward(self, scores: Tensor) -> tuple[Tensor]:
        """The score."""
        return (self.tail(self.scores(scores)),)


class AmNetVidHead(nn.Module):
    """Maps ``[B, 4, 3, 14, 14]`` and scores ``[B, 4, 1]`` to a score ``[B, 1]``: ``amnetvid``.

    230,681 trained parameters (Keras's total, with running statistics: 230,937).

    Args:
        use_scores: without, only the maps are looked at, and only they are passed in.
        known: see :class:`ScoreRange`.
    """

    def __init__(self, use_scores: bool = True, known: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.maps = MapLstm()
        self.scores = ScoreLstm(known) if use_scores else None
        self.tail = WindowScore()

    def forward(self, maps: Tensor, scores: Tensor | None = None) -> tuple[Tensor]:
        """The score."""
        mixed = self.maps(maps)
        if self.scores is not None:
            assert scores is not None, "this network looks at scores, too"
            mixed = (mixed + self.scores(scores)) / 2
        return (self.tail(mixed),)
