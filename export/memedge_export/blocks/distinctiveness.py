"""Block B14: how far features stand out from a training corpus, as M3-S puts it into a network.

Features are whitened along their ten strongest principal axes (:class:`PcaWhiten`), then measured: which cluster of the
corpus they fall into (:class:`ClusterOneHot`, the published form), or a measure of :mod:`.distance_measures`. All of it
is fitted by :mod:`..train.distinctiveness`, never trained: buffers, not parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

COMPONENTS = 10
CORPUS = 8192
"""Rows of the corpus that a network can hold; fixed, so that a checkpoint's shapes do not hang on the training set."""
_HIDDEN = 100
_SAME = 1e-3
_NOWHERE = 1e6
_NEVER = -1e6


class PcaWhiten(nn.Module):
    """float32 ``[B, F]`` to ``[B, 10]``: principal components of mean 0 and deviation 1 over the corpus."""

    weight: Tensor
    bias: Tensor

    def __init__(self, size: int, components: int = COMPONENTS) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(components, size) / size**0.5)
        self.register_buffer("bias", torch.zeros(components))

    @torch.no_grad()
    def set_axes(self, mean: Tensor, axes: Tensor, variances: Tensor) -> None:
        """``mean`` ``[F]``, ``axes`` ``[10, F]`` of length 1, ``variances`` ``[10]`` along them; an axis without any
        variance gives 0."""
        deviations = variances.double().clamp(min=0).sqrt()
        known = deviations > 1e-6 * deviations.max().clamp(min=1e-12)
        scale = torch.where(known, 1 / deviations.clamp(min=1e-12), torch.zeros_like(deviations))
        weight = axes.double() * scale[:, None]
        self.weight.copy_(weight)
        self.bias.copy_(-weight @ mean.double())

    def forward(self, x: Tensor) -> Tensor:
        """The whitened components."""
        return nn.functional.linear(x, self.weight, self.bias)


class ClusterOneHot(nn.Module):
    """Whitened ``[B, 10]`` to the one-hot of a cluster, ``[B, features]``, told by a classifier with 100 hidden units.

    The last class is noise: what belongs to no cluster. ArgMax and a comparison with a constant range stand for OneHot,
    which some engines lack.

    Args:
        classes: slots for clusters, the largest first, and one for noise; fixed, as the head's inputs are.
        noise_quirk: noise shares the slot of the last cluster, as in the released code, which writes it at index -1.
        faithful_labels: in training, rows of the corpus take the label that clustering gave them, as published; the
            classifier's otherwise, so that training and use see the same kind of label.
    """

    hidden_weight: Tensor
    hidden_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    known: Tensor
    labels: Tensor
    range: Tensor

    def __init__(self, classes: int, *, noise_quirk: bool = False, faithful_labels: bool = False) -> None:
        super().__init__()
        if classes < 1 + noise_quirk:
            raise ValueError(f"{classes} classes, noise included; expected at least {1 + noise_quirk}")
        self.classes = classes
        self.features = classes - noise_quirk
        self.noise_quirk = noise_quirk
        self.faithful_labels = faithful_labels
        self.register_buffer("hidden_weight", torch.randn(_HIDDEN, COMPONENTS) / COMPONENTS**0.5)
        self.register_buffer("hidden_bias", torch.zeros(_HIDDEN))
        self.register_buffer("out_weight", torch.randn(classes, _HIDDEN) / _HIDDEN**0.5)
        self.register_buffer("out_bias", torch.zeros(classes))
        self.register_buffer("range", torch.arange(classes)[None], persistent=False)
        if faithful_labels:
            self.register_buffer("known", torch.full((CORPUS, COMPONENTS), _NOWHERE))
            self.register_buffer("labels", torch.zeros(CORPUS, dtype=torch.int64))

    @torch.no_grad()
    def set_layers(self, hidden: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor], used: Tensor) -> None:
        """Weight and bias of both layers, ``[100, 10]``, ``[100]``, ``[n, 100]``, ``[n]``, and which class each of the
        n rows of the last one is, ``[n]``; other classes are never told."""
        self.hidden_weight.copy_(hidden[0])
        self.hidden_bias.copy_(hidden[1])
        self.out_weight.zero_()
        self.out_bias.fill_(_NEVER)
        self.out_weight[used] = out[0].to(self.out_weight)
        self.out_bias[used] = out[1].to(self.out_bias)

    @torch.no_grad()
    def set_labels(self, rows: Tensor, labels: Tensor) -> None:
        """Labels ``[N]`` of the corpus's whitened rows ``[N, 10]``; at most 8,192 are kept."""
        if self.faithful_labels:
            count = min(len(rows), CORPUS)
            self.known.fill_(_NOWHERE)
            self.known[:count] = rows[:count].to(self.known)
            self.labels[:count] = labels[:count].to(self.labels)

    def predicted(self, x: Tensor) -> Tensor:
        """The classifier's class, int64 ``[B, 1]``."""
        hidden = torch.relu(nn.functional.linear(x, self.hidden_weight, self.hidden_bias))
        return nn.functional.linear(hidden, self.out_weight, self.out_bias).argmax(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """The one-hot."""
        classes = self.predicted(x)
        if self.faithful_labels and self.training:
            # Differences one by one: through products of rows, equal ones would not be at distance 0.
            distances = torch.cdist(x, self.known, compute_mode="donot_use_mm_for_euclid_dist")
            away, nearest = distances.min(1, keepdim=True)
            classes = torch.where(away < _SAME, self.labels[nearest], classes)
        one_hot = (classes == self.range).to(x.dtype)
        if self.noise_quirk:
            one_hot = torch.cat([one_hot[:, :-2], one_hot[:, -2:-1] + one_hot[:, -1:]], 1)
        return one_hot
