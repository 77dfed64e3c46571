"""Recipes as data: phases, each with its epochs, parameter groups, rates, batch-norm mode and loss.

``resnet18`` and ``resnet101`` follow Technicolor at MediaEval 2018: the head alone, then everything; Adam, batches of
32, mean squared error, pictures of short side 256 cut to a random 224 square, mirrored. Epochs and rates of the
second phase are ours, since the paper does not give them. ``resnet-s`` is ours; its numbers were chosen on LNSIM's
train and val parts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from memedge.errors import UsageError


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phase of training.

    Attributes:
        epochs: at most this many.
        rates: prefix of parameter names (``head``, ``trunk``, ``trunk.layer4``) to its rate; the longest prefix that
            fits counts, and parameters without one stay frozen, to the bit. batch_norm: mode of trained batch-norms;
            frozen ones are always in evaluation mode. schedule: ``cosine`` lets the rates fall to a hundredth over
            the phase's epochs. patience: the phase ends after this many epochs without a better validation Spearman;
            0: never.
    """

    name: str
    epochs: int
    rates: dict[str, float]
    batch_norm: Literal["eval", "train"] = "eval"
    loss: Literal["mse"] = "mse"
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    patience: int = 0


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to a training picture before the contract's normalisation.

    Attributes:
        area: range of the part of the contract's region that is shown; (1, 1): a random place, the contract's size.
        aspect: the region's width is stretched and its height shrunk by the root of up to this factor, or the reverse.
        mirror: half of the pictures are mirrored.
        brightness, contrast, saturation: largest relative change.
    """

    area: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    mirror: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is trained.

    Attributes:
        average: decay of the moving average of the weights that is validated and kept, a step; 0: the weights
            themselves. bf16: autocast to bfloat16, for speed on CPUs that have it.
    """

    phases: tuple[Phase, ...]
    batch: int = 32
    augmentation: Augmentation = Augmentation()
    average: float = 0.0
    bf16: bool = False


_PAPER = Recipe(
    phases=(
        Phase(name="head", epochs=5, rates={"head": 1e-3}),
        Phase(name="all", epochs=15, rates={"head": 1e-5, "trunk": 1e-5}, patience=5),
    ),
)
_SMALL = Recipe(
    phases=(
        Phase(name="head", epochs=4, rates={"head": 1e-3}),
        Phase(
            name="all", epochs=8, rates={"head": 1e-4, "trunk": 3e-5}, schedule="cosine", weight_decay=0.05, patience=5
        ),
    ),
    augmentation=Augmentation(area=(0.5, 1.0), aspect=1.33, brightness=0.2, contrast=0.2, saturation=0.2),
    average=0.98,
)
RECIPES: dict[str, Recipe] = {"resnet-s": _SMALL, "resnet18": _PAPER, "resnet101": _PAPER}


def recipe_for(model: str, *, epochs: int | None = None, batch: int | None = None) -> Recipe:
    """The model's recipe. ``epochs`` replaces the number of the last phase, ``batch`` the batch size.

    Raises:
        UsageError: fewer than one epoch, or batches of fewer than two pictures.
    """
    recipe = RECIPES.get(model, _PAPER)
    if epochs is not None:
        if epochs < 1:
            raise UsageError(f"--epochs {epochs}; expected 1 or more")
        last = msgspec.structs.replace(recipe.phases[-1], epochs=epochs)
        recipe = msgspec.structs.replace(recipe, phases=(*recipe.phases[:-1], last))
    if batch is not None:
        if batch < 2:
            raise UsageError(f"--batch {batch}; expected 2 or more")
        recipe = msgspec.structs.replace(recipe, batch=batch)
    return recipe
