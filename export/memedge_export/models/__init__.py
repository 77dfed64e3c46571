"""The zoo: models by name. A model is a decorated function that builds its network; its file is imported on use."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memedge.errors import UsageError
from memedge_engines.manifest import Crop, Preprocess, Resize

if TYPE_CHECKING:
    from .frame import FrameModel

__all__ = ["ModelEntry", "entry", "frame_preset", "input_size", "names", "register", "squash_preset"]

SYSTEM_FILES: tuple[str, ...] = (
    "amnet",
    "dsve",
    "feature_mlp",
    "m3s",
    "memnet",
    "resnet3d",
    "semantic_memnet",
    "svr",
    "vgg_ic",
)
"""Modules of this package that register systems (:mod:`.system`)."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelEntry:
    """A registered model.

    Attributes:
        id: as typed after ``--model``.
        build: makes the network with torch's present random state; ``width`` multiplies the channels (tests use 0.25).
        preprocess: its preset; training may choose another and records it in the checkpoint.
        torchvision: name of torchvision's model whose ImageNet weights fit the trunk, or none.
    """

    id: str
    build: Callable[[float], FrameModel]
    preprocess: Preprocess
    torchvision: str | None = None


_entries: dict[str, ModelEntry] = {}


def register(
    model: str, preprocess: Preprocess, torchvision: str | None = None
) -> Callable[[Callable[[float], FrameModel]], Callable[[float], FrameModel]]:
    """Decorator: register the function below it, ``width -> FrameModel``, as ``model``."""

    def decorate(build: Callable[[float], FrameModel]) -> Callable[[float], FrameModel]:
        if model in _entries:
            raise ValueError(f"model '{model}' is registered twice")
        _entries[model] = ModelEntry(model, build, preprocess, torchvision)
        return build

    return decorate


def frame_preset(resize: int, crop: int) -> Preprocess:
    """RGB in 0..1, short side ``resize``, centre ``crop`` square, ImageNet normalisation; (256, 224) is ``in224``."""
    return Preprocess(
        color="rgb",
        resize=Resize(rule="short_side", size=resize),
        crop=Crop(rule="center", size=(crop, crop)),
        scale=1 / 255,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def squash_preset(height: int, width: int) -> Preprocess:
    """RGB in 0..1, resized to exactly ``height`` x ``width`` without a crop, ImageNet normalisation."""
    return Preprocess(
        color="rgb",
        resize=Resize(rule="exact", size=(height, width)),
        crop=Crop(rule="none"),
        scale=1 / 255,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def names() -> list[str]:
    """All registered models, sorted."""
    _load()
    return sorted(_entries)


def entry(model: str) -> ModelEntry:
    """The model called ``model``.

    Raises:
        UsageError: there is none, the message names the nearest; or it is a system, which has no frame model's entry.
    """
    _load()
    if model in _entries:
        return _entries[model]
    from .system import system_names

    systems = system_names()
    if model in systems:
        raise UsageError(f"model '{model}' is a system of nodes; this works with a frame model: {', '.join(_entries)}")
    there = sorted({*_entries, *systems})
    near = difflib.get_close_matches(model, there, 1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    from memedge.models import cards

    what = "is planned, not available yet" if model in {c.id for c in cards()} else "is not known"
    raise UsageError(f"model '{model}' {what}{hint} There are {', '.join(there)}", fix="memedge models")


def input_size(preprocess: Preprocess) -> tuple[int, int]:
    """(height, width) in pixels of the tensor that a preset gives; every preset of the zoo fixes it."""
    if preprocess.crop.size is not None:
        return preprocess.crop.size
    if isinstance(preprocess.resize.size, tuple):
        return preprocess.resize.size
    raise ValueError(f"preset {preprocess} does not fix the tensor's size")


def _load() -> None:
    from importlib import import_module
    from importlib.metadata import entry_points

    for name in ("resnet", "memedge_s"):
        import_module(f"{__name__}.{name}")
    # Loading an entry point imports its module, and that registers the model.
    for point in entry_points(group="memedge.models"):
        point.load()
