"""Recipes as data: phases, each with its epochs, parameter groups, rates, batch-norm mode, loss and schedule.

What a recipe may say, and no more: unknown keys are errors. :mod:`.recipes` reads the named ones and applies overrides.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from memedge.errors import UsageError

from ..data.frames import PRESETS
from .losses import LossSpec, Mse


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the rates change over a phase.

    Attributes:
        kind: ``constant``; ``cosine``: down to ``floor`` over the phase's epochs; ``step``: times ``factor`` every
            ``every`` epochs.
        floor: share of the peak rate that is left in the end.
        every, factor: of ``step``; ``offset``: epochs of earlier phases that count already.
        warm_up: epochs, fractions allowed, over which the rates rise from zero.
    """

    kind: Literal["constant", "cosine", "step"] = "constant"
    floor: float = 0.01
    every: int = 10
    factor: float = 0.1
    offset: int = 0
    warm_up: float = 0.0

    def at(self, epoch: float, epochs: int) -> float:
        """Share of the peak rates when ``epoch`` (a fraction between two) of ``epochs`` are done."""
        rise = min(epoch / self.warm_up, 1.0) if self.warm_up > 0 else 1.0
        if self.kind == "cosine":
            return rise * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * epoch / epochs)))
        if self.kind == "step":
            return rise * self.factor ** ((int(epoch) + self.offset) // self.every)
        return rise


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to a training picture before the contract's normalisation.

    Attributes:
        place: of the region that is shown: ``random``, or ``center`` as at run time.
        area: range of the part of the contract's region that is shown; (1, 1): the contract's size.
        aspect: the region's width is stretched and its height shrunk by the root of up to this factor, or the reverse.
        mirror: half of the pictures are mirrored.
        brightness, contrast, saturation: largest relative change.
    """

    place: Literal["random", "center"] = "random"
    area: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    mirror: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    @property
    def none(self) -> bool:
        """Whether pictures are shown as at run time."""
        colors = self.brightness or self.contrast or self.saturation
        whole = self.area == (1.0, 1.0) and self.aspect == 1
        return self.place == "center" and whole and not self.mirror and not colors


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phase of training.

    Attributes:
        epochs: at most this many.
        rates: prefix of parameter names (``head``, ``trunk``, ``trunk.layer4``) to its rate; the longest prefix that
            fits counts, and parameters without one stay frozen, to the bit.
        batch_norm: mode of trained batch-norms. frozen_batch_norm: of those whose parameters are frozen; in ``train``
            their running statistics move though their parameters do not (AMNet).
        optimiser: ``adamw`` without weight decay is Adam; ``adam`` adds the decay to the gradient (L2); ``lbfgs`` takes
            the whole set as one batch.
        clip: largest norm of the gradient; 0: not clipped.
        patience: the phase ends after this many epochs without a better validation Spearman; 0: never.
        refit: fitted parts (:mod:`.fitting`) are fitted anew before the phase; before the first one they are in any
            case, unless the start weights have them.
        augmentation: of this phase; none: the recipe's.
    """

    name: str
    epochs: int
    rates: dict[str, float]
    batch_norm: Literal["eval", "train"] = "eval"
    frozen_batch_norm: Literal["eval", "train"] = "eval"
    loss: LossSpec = Mse()
    optimiser: Literal["adamw", "adam", "sgd", "lbfgs"] = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = Schedule()
    clip: float = 0.0
    patience: int = 0
    refit: bool = False
    augmentation: Augmentation | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is trained.

    Attributes:
        models: ids whose default recipe this is.
        source: the paper and what of the recipe is not in it.
        batch: samples a step.
        average: decay of the moving average of the weights that is validated and kept, a step; 0: the weights
            themselves.
        precision: of the forward pass; ``bf16`` and ``fp16`` are autocast, for speed where the device has them.
        sampling: preset by which a video's frames are picked (``S7``); empty: the data set's own.
        balance: bins of scores that are drawn equally often; 0: every sample once an epoch.
        normalise: how scores of further data sets are brought to the first one's scale: mean and deviation, or range.
    """

    phases: tuple[Phase, ...]
    models: tuple[str, ...] = ()
    source: str = ""
    batch: int = 32
    augmentation: Augmentation = Augmentation()
    average: float = 0.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    sampling: str = ""
    balance: int = 0
    normalise: Literal["moments", "minmax"] = "moments"


def check(recipe: Recipe, where: str) -> Recipe:
    """The recipe itself. Raises UsageError for numbers that cannot be meant; ``where`` names it."""
    if not recipe.phases:
        raise UsageError(f"{where}: no phases; expected at least one")
    if recipe.batch < 2:
        raise UsageError(f"{where}: batch {recipe.batch}; expected 2 or more")
    if not 0 <= recipe.average < 1:
        raise UsageError(f"{where}: average {recipe.average:g}; expected 0..1, 1 not included")
    if recipe.sampling and recipe.sampling not in PRESETS:
        raise UsageError(f"{where}: sampling '{recipe.sampling}'; expected one of {', '.join(PRESETS)}")
    for how in (recipe.augmentation, *(phase.augmentation for phase in recipe.phases)):
        if how is not None:
            _check_augmentation(how, where)
    names = [phase.name for phase in recipe.phases]
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: two phases have the same name; found {', '.join(names)}")
    for phase in recipe.phases:
        what = f"{where}: phase '{phase.name}'"
        if phase.epochs < 1:
            raise UsageError(f"{what}: epochs {phase.epochs}; expected 1 or more")
        if not phase.rates:
            raise UsageError(f"{what}: no rates; expected at least one prefix of parameter names")
        if any(not 0 <= rate < math.inf for rate in phase.rates.values()):
            raise UsageError(f"{what}: rates {phase.rates}; expected 0 or more")
        if phase.weight_decay < 0 or phase.clip < 0 or phase.patience < 0:
            raise UsageError(f"{what}: weight_decay, clip and patience are 0 or more")
        if phase.schedule.every < 1 or phase.schedule.factor <= 0 or phase.schedule.warm_up < 0:
            raise UsageError(f"{what}: schedule {phase.schedule}; expected every >= 1, factor > 0, warm_up >= 0")
    return recipe


def _check_augmentation(how: Augmentation, where: str) -> None:
    if not 0 < how.area[0] <= how.area[1] <= 1 or how.aspect < 1:
        raise UsageError(f"{where}: augmentation {how}; expected 0 < area <= 1, rising, and aspect >= 1")
    if any(not 0 <= change <= 1 for change in (how.brightness, how.contrast, how.saturation)):
        raise UsageError(f"{where}: augmentation {how}; expected brightness, contrast and saturation of 0..1")
