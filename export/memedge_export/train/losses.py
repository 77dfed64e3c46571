"""Losses of the field's founding papers, as data (:data:`LossSpec`) and as functions of a batch.

A loss takes the network's outputs by name and the batch's targets; which outputs it needs is its own business:
``score`` float32 ``[B, T]`` for T targets, ``class_logits`` ``[B, K]``, ``step_scores`` ``[B, steps]``, ``attn``
``[B, steps, h, w]``, ``alpha`` ``[B, 1]``, ``embedding`` and ``text_embedding`` ``[B, D]``.
Sources: M3-S (T. Dumont, J. S. Hevia, C. L. Fosco, Modular Memorability, CVPR 2023, and its code); SoDeep (see ranks);
AMNet (J. Fajtl, V. Argyriou, D. Monekosso, P. Remagnino, CVPR 2018, and its code); the decay loss of SemanticMemNet
(A. Newman et al., Multimodal Memorability, ECCV 2020, and its code); class probabilities (H. Squalli-Houssaini,
N. Duong, M. Gwenaelle, C.-H. Demarty, Deep Learning for Predicting Image Memorability, ICASSP 2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import TrainingError
from .embedding_ranking import ranking_loss
from .ranks import correlation, hard_rank, pairwise_rank, soft_rank, spread_eps


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A loss as data; ``kind`` names it in recipes, TOML files and checkpoints."""


class Mse(_Spec, tag="mse", frozen=True, kw_only=True):
    """Mean squared error; ``standardise`` divides it by the training scores' variance, which is the error of scores of
    mean 0 and deviation 1."""

    standardise: bool = False


class L1(_Spec, tag="l1", frozen=True, kw_only=True):
    """Mean absolute error."""


class EpsilonInsensitive(_Spec, tag="epsilon-insensitive", frozen=True, kw_only=True):
    """Mean of what the absolute error exceeds ``epsilon`` by: the loss of support vector regression."""

    epsilon: float = 0.02


class MseTails(_Spec, tag="mse-tails", frozen=True, kw_only=True):
    """Squared error weighted by 1 + factor * |m - center| ^ power (M3-S).

    ``center``: none takes the training mean. ``normalise``: weights divided by the batch's mean weight. ``scale``
    (ours): the deviation is divided by the training deviation first, so that the weight does something.
    """

    center: float | None = None
    power: float = 4.0
    factor: float = 2.0
    normalise: bool = True
    scale: bool = False


class Spearman(_Spec, tag="spearman", frozen=True, kw_only=True):
    """Minus the correlation of soft ranks, divided by ``divide``.

    ``eps`` ``auto``: the strength at which evenly spread values separate, and hard ranks for the targets (ours); a
    number: for both. M3-S's code has 1.0, with which this is exactly minus the Pearson correlation, and divides by 100.
    """

    eps: float | Literal["auto"] = "auto"
    divide: float = 1.0


class Scheduled(_Spec, tag="mse-to-spearman", frozen=True, kw_only=True):
    """(1 - a) * MSE + a * Spearman loss, a rising from 0 to 1 over the phase's epochs (M3-S)."""

    eps: float | Literal["auto"] = "auto"
    divide: float = 100.0


class Sodeep(_Spec, tag="sodeep", frozen=True, kw_only=True):
    """Squared error of the batch's ranks through a sorter, plus l1 * the absolute error (VideoMem's SoDeep loss).

    ``sorter``: ``pairwise`` (sigmoids of differences, nothing to train) or a file with a trained LSTM sorter, whose
    length the batch must then have. ``warm_up``: epochs of the phase with ``l1`` 1; afterwards ``l1``.
    """

    sorter: str = "pairwise"
    warm_up: int = 1
    l1: float = 0.0


class Classes(_Spec, tag="classes", frozen=True, kw_only=True):
    """Cross-entropy of ``count`` classes of memorability, cut at ``cuts`` or at the training scores' quantiles."""

    count: int = 4
    cuts: tuple[float, ...] = ()


class AmNet(_Spec, tag="amnet", frozen=True, kw_only=True):
    """AMNet: squared error of its score in its own scale, (y - center) * gain, plus a penalty on revisited places.

    The step scores sum to the score, so that the centre cancels. ``gamma``: of the attention term, sum over places of
    (sum over steps of (0.2 - attention)) squared, a picture.
    """

    gain: float = 2.0
    gamma: float = 1e-5


class Decay(_Spec, tag="decay", frozen=True, kw_only=True):
    """SemanticMemNet: line * mean error of the decay line over 100 lags up to ``lag``, and errors of score and slope.

    Labels are scores at ``label_lag`` with slope ``alpha``; the network gives the score at ``lag`` and the slope.
    """

    line: float = 1.0
    score: float = 100.0
    slope: float = 10.0
    lag: int = 180
    label_lag: int = 80


class EmbeddingRanking(_Spec, tag="embedding-ranking", frozen=True, kw_only=True):
    """Pictures and titles in one space (DSVE, VSE; :mod:`.embedding_ranking`).

    ``negatives``: ``hardest``, DSVE's, or ``all``, VSE's. ``score`` (ours): of the scores' squared error beside it, so
    that validation has a score to go by.
    """

    margin: float = 0.2
    negatives: Literal["hardest", "all"] = "hardest"
    score: float = 1.0


_OfScores = Mse | L1 | EpsilonInsensitive | MseTails | Spearman | Scheduled | Sodeep
LossSpec = _OfScores | Classes | AmNet | Decay | EmbeddingRanking


@dataclass(frozen=True)
class Batch:
    """What a loss compares with.

    Attributes:
        targets: float32 ``[B, T]``, nan where a picture has no such score.
        extra: further numbers by name, ``[B]`` each.
        epoch: finished epochs of the phase; ``part``: those over the phase's epochs less one, 0..1.
    """

    targets: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    part: float = 0.0
    epoch: int = 0


@dataclass(frozen=True)
class ScoreStatistics:
    """Of the training scores: mean and deviation of the first target and the cuts between its K classes of equal size,
    by K; the mean of each target."""

    mean: float
    deviation: float
    cuts: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    means: tuple[float, ...] = ()


Loss = Callable[[Mapping[str, Tensor], Batch], Tensor]


def build(spec: LossSpec, statistics: ScoreStatistics) -> Loss:
    """The loss that a spec names.

    Raises:
        TrainingError: values that cannot be meant, or a sorter's file that cannot be read.
    """
    if isinstance(spec, Mse):
        variance = statistics.deviation**2 if spec.standardise and statistics.deviation > 0 else 1.0
        return _each_target(lambda p, y, _: F.mse_loss(p, y) / variance)
    if isinstance(spec, L1):
        return _each_target(lambda p, y, _: F.l1_loss(p, y))
    if isinstance(spec, EpsilonInsensitive):
        return _each_target(lambda p, y, _: ((p - y).abs() - spec.epsilon).clamp(min=0).mean())
    if isinstance(spec, MseTails):
        return _each_target(_tails(spec, statistics))
    if isinstance(spec, Spearman):
        return _each_target(lambda p, y, _: spearman_loss(p, y, spec.eps) / spec.divide)
    if isinstance(spec, Scheduled):
        return _each_target(
            lambda p, y, batch: (
                (1 - batch.part) * F.mse_loss(p, y) + batch.part * spearman_loss(p, y, spec.eps) / spec.divide
            )
        )
    if isinstance(spec, Sodeep):
        return _each_target(_sodeep(spec))
    if isinstance(spec, Classes):
        return _classes(spec, statistics)
    if isinstance(spec, AmNet):
        return _amnet(spec)
    if isinstance(spec, EmbeddingRanking):
        return _ranking(spec)
    return _decay(spec)


def spearman_loss(predicted: Tensor, target: Tensor, eps: float | Literal["auto"] = "auto") -> Tensor:
    """Minus the smooth Spearman correlation of two vectors ``[n]``."""
    if eps == "auto":
        return -correlation(soft_rank(predicted, spread_eps(predicted)), hard_rank(target))
    return -correlation(soft_rank(predicted, eps), soft_rank(target, eps))


def class_cuts(spec: Classes, statistics: ScoreStatistics) -> tuple[float, ...]:
    """The ``count - 1`` cuts between the classes of a spec.

    Raises:
        TrainingError: fewer than 2 or more than 8 classes, or cuts that do not rise or are not ``count - 1``.
    """
    if not 2 <= spec.count <= 8:
        raise TrainingError(f"loss 'classes' with {spec.count} classes; expected 2 to 8")
    cuts = spec.cuts or statistics.cuts.get(spec.count, ())
    if len(cuts) != spec.count - 1 or any(b <= a for a, b in itertools.pairwise(cuts)):
        raise TrainingError(f"loss 'classes': cuts {list(cuts)}; expected {spec.count - 1} rising scores")
    return tuple(cuts)


def _each_target(one: Callable[[Tensor, Tensor, Batch], Tensor]) -> Loss:
    """The mean of a loss over targets, each on the pictures that have it. Rank losses compare within one target."""

    def loss(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        score = outputs["score"]
        parts = []
        for column in range(batch.targets.shape[1]):
            known = torch.isfinite(batch.targets[:, column])
            if known.any():
                parts.append(one(score[known, column], batch.targets[known, column], batch))
        return torch.stack(parts).mean() if parts else score.sum() * 0

    return loss


def _tails(spec: MseTails, statistics: ScoreStatistics) -> Callable[[Tensor, Tensor, Batch], Tensor]:
    center = statistics.mean if spec.center is None else spec.center
    unit = statistics.deviation if spec.scale and statistics.deviation > 0 else 1.0

    def loss(predicted: Tensor, target: Tensor, _: Batch) -> Tensor:
        weight = 1 + spec.factor * ((target - center).abs() / unit) ** spec.power
        if spec.normalise:
            weight = weight / weight.mean()
        return (weight * (predicted - target) ** 2).mean()

    return loss


def _sodeep(spec: Sodeep) -> Callable[[Tensor, Tensor, Batch], Tensor]:
    sort: Callable[[Tensor], Tensor] = pairwise_rank
    if spec.sorter != "pairwise":
        from .sorter import load_sorter

        sort = load_sorter(Path(spec.sorter))

    def loss(predicted: Tensor, target: Tensor, batch: Batch) -> Tensor:
        count = target.shape[0]
        # SoDeep counts from the top: the highest score has rank 1/n.
        rank = (count + 1 - hard_rank(target)) / count
        share = 1.0 if batch.epoch < spec.warm_up else spec.l1
        found = F.mse_loss(sort(predicted), rank)
        return found + share * F.l1_loss(predicted, target) if share else found

    return loss


def _classes(spec: Classes, statistics: ScoreStatistics) -> Loss:
    cuts = torch.tensor(class_cuts(spec, statistics))

    def loss(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        target = batch.targets[:, 0]
        known = torch.isfinite(target)
        labels = torch.bucketize(target[known], cuts.to(target), right=True)
        return F.cross_entropy(outputs["class_logits"][known], labels)

    return loss


def _needed(outputs: Mapping[str, Tensor], loss: str, *names: str) -> Iterator[Tensor]:
    """Outputs that not every network gives. Raises TrainingError: this one does not."""
    for name in names:
        if name not in outputs:
            raise TrainingError(
                f"loss '{loss}' needs the output {name}; this model gives {', '.join(outputs)}",
                fix="another --recipe, or --set phases.NAME.loss.kind=mse for each phase",
            )
        yield outputs[name]


def _amnet(spec: AmNet) -> Loss:
    def loss(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        steps, attention = _needed(outputs, "amnet", "step_scores", "attn")
        found = spec.gain**2 * F.mse_loss(steps.sum(1), batch.targets[:, 0])
        visits = (0.2 - attention.flatten(2)).sum(1)
        return found + spec.gamma * (visits**2).sum(1).mean()

    return loss


def _ranking(spec: EmbeddingRanking) -> Loss:
    squared = _each_target(lambda p, y, _: F.mse_loss(p, y))

    def loss(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        images, texts = _needed(outputs, "embedding-ranking", "embedding", "text_embedding")
        found = ranking_loss(images, texts, spec.margin, hardest=spec.negatives == "hardest")
        return found + spec.score * squared(outputs, batch) if spec.score else found

    return loss


def _decay(spec: Decay) -> Loss:
    def loss(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        score, slope = (output[:, 0] for output in _needed(outputs, "decay", "score", "alpha"))
        if "alpha" not in batch.extra:
            raise TrainingError(
                "loss 'decay' needs slopes of decay (alpha); the data set has none", fix="memento10k:DIR"
            )
        true_slope = batch.extra["alpha"]
        true_score = batch.targets[:, 0] + true_slope * (spec.lag - spec.label_lag)
        lags = torch.linspace(0, spec.lag, 100, device=score.device) - spec.lag
        line = score[:, None] + slope[:, None] * lags - true_score[:, None] - true_slope[:, None] * lags
        return (
            spec.line * line.abs().mean()
            + spec.score * F.mse_loss(score, true_score)
            + spec.slope * F.mse_loss(10 * slope, 10 * true_slope)
        )

    return loss
