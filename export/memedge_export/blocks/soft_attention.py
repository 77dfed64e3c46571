"""Block B11: AMNet's head, an LSTM that looks three times at a feature map through soft attention.

J. Fajtl, V. Argyriou, D. Monekosso, P. Remagnino, AMNet: Memorability Estimation with Attention, CVPR 2018, and its
code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .mlp_head import MlpHead
from .recurrent import LstmCell

STEPS = 3
_PLACES = 14


class ScoreScale(nn.Module):
    """The network's own scale, (score - center) * gain, undone: ``[B, n]`` to the same.

    Mean of LaMem's scores and gain of AMNet's code; for another data set its own mean.
    """

    center: Tensor
    gain: Tensor

    def __init__(self, center: float = 0.754, gain: float = 2.0) -> None:
        super().__init__()
        self.register_buffer("center", torch.tensor(center))
        self.register_buffer("gain", torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        return x / self.gain + self.center


class Annotation(nn.Module):
    """Feature map ``[B, D, 14, 14]`` to annotation vectors ``[B, 196, F]``, one for each place."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(features, width, 1)
        self.bn = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.8)

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        """Batch-norms that export folds into the convolution before them."""
        return [(self, "conv", "bn")]

    def forward(self, x: Tensor) -> Tensor:
        """The annotation vectors."""
        return self.drop(torch.relu(self.bn(self.conv(x)))).flatten(2).transpose(1, 2)


class SoftAttentionLstm(nn.Module):
    """Feature map ``[B, D, 14, 14]`` to score ``[B, 1]``, attention ``[B, 3, 14, 14]`` (each step's map sums to 1) and
    step scores ``[B, 3]``, which sum to the score.

    The recurrence starts from the picture itself and lasts three steps: nothing persists from frame to frame. What one
    step hands to the next query passes dropout; the LSTM's own hidden state does not.

    At 1024 features it has 13,319,365 parameters, 4,096 fewer than with torch's LSTM, whose two biases are summed here.

    Args:
        features: channels D of the map. width: of the annotation vectors and the LSTM, 1024 as published.
    """

    def __init__(self, features: int, width: int = 1024) -> None:
        super().__init__()
        self.annot = Annotation(features, width)
        self.init_h = nn.Linear(width, width)
        self.init_c = nn.Linear(width, width)
        self.att_static = nn.Linear(width, width, bias=False)
        self.att_query = nn.Linear(width, _PLACES**2)
        self.att_score = nn.Linear(width, 1, bias=False)
        self.cell = LstmCell(width, width)
        self.reg = MlpHead([width, width // 2, 1], dropout=0.5)
        self.drop = nn.Dropout(0.5)
        self.scale = ScoreScale()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score, attention and step scores."""
        places = self.annot(features)
        mean = places.mean(1)
        h, c = torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))
        static = self.drop(torch.relu(self.att_static(places)))
        query, maps, outputs = h, [], []
        for _ in range(STEPS):
            # One scalar a place, added to all of its features.
            energy = torch.relu(static + self.att_query(query).unsqueeze(2))
            attention = torch.softmax(self.att_score(self.drop(energy)).squeeze(2), 1)
            seen = (attention.unsqueeze(1) @ places).squeeze(1)
            h, c = self.cell(seen, (h, c))
            query = self.drop(h)
            outputs.append(self.reg(query))
            maps.append(attention)
        steps = self.scale(torch.cat(outputs, 1)) / STEPS
        attn = torch.stack(maps, 1).unflatten(2, (_PLACES, _PLACES))
        return steps.sum(1, keepdim=True), attn, steps
