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
# Mean and half the range of LaMem's scores in AMNet's code: the network's own scale is (score - center) * gain.
CENTER, GAIN = 0.754, 2.0


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

    Buffers ``center`` and ``gain`` undo the scale that the network learns: score = mean of the steps' outputs / gain +
    center; those of the code's LaMem weights unless :meth:`set_scale` says otherwise. They are options of the systems,
    not weights.

    At 1024 features it has 13,319,365 parameters, 4,096 fewer than with torch's LSTM, whose two biases are summed here.

    Args:
        features: channels D of the map. width: of the annotation vectors and the LSTM, 1024 as published.
    """

    center: Tensor
    gain: Tensor

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
        self.register_buffer("center", torch.tensor(CENTER), persistent=False)
        self.register_buffer("gain", torch.tensor(GAIN), persistent=False)

    def set_scale(self, center: float, gain: float) -> None:
        """Another data set's scale: its mean score, and what a deviation from it is multiplied by."""
        self.center.fill_(center)
        self.gain.fill_(gain)

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
        steps = (torch.cat(outputs, 1) / self.gain + self.center) / STEPS
        attn = torch.stack(maps, 1).unflatten(2, (_PLACES, _PLACES))
        return steps.sum(1, keepdim=True), attn, steps
