"""Named recipes, recipes in files, and overrides of single values.

A recipe is a TOML file; memedge's own lie in ``memedge_export/recipes``, one for each published system or family of
systems, and say which models they are the default of.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from memedge.errors import UsageError

from .recipe import Recipe, check

_FALLBACK = "technicolor-resnet"


@functools.cache
def named() -> dict[str, Recipe]:
    """memedge's own recipes by name, sorted."""
    folder = resources.files("memedge_export") / "recipes"
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=lambda item: item.name)
    return {item.name.removesuffix(".toml"): _decode(item.read_bytes(), f"recipe '{item.name}'") for item in found}


def default_of(model: str) -> str:
    """Name of the recipe of a model; one that no recipe names is trained as the published ResNets are."""
    return next((name for name, recipe in named().items() if model in recipe.models), _FALLBACK)


def recipe_for(
    model: str,
    *,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    epochs: int | None = None,
    batch: int | None = None,
) -> Recipe:
    """The recipe that a training uses.

    Args:
        recipe: a name, or a TOML file; none takes the model's default.
        overrides: ``key=value`` each, the key with dots (``phases.all.rates.head=1e-4``, ``batch=16``), the value as
            in JSON or a bare word.
        epochs: replaces the number of the last phase. batch: replaces the batch size.

    Raises:
        UsageError: no such recipe, an unknown key, or a value that cannot be meant.
    """
    found = _open(recipe) if recipe is not None else named()[default_of(model)]
    where = f"recipe '{recipe or default_of(model)}'"
    words = list(overrides)
    if epochs is not None:
        if epochs < 1:
            raise UsageError(f"--epochs {epochs}; expected 1 or more")
        words.append(f"phases.{found.phases[-1].name}.epochs={epochs}")
    if batch is not None:
        if batch < 2:
            raise UsageError(f"--batch {batch}; expected 2 or more")
        words.append(f"batch={batch}")
    if not words:
        return found
    data = msgspec.to_builtins(found)
    for word in words:
        _override(data, word)
    return check(_convert(data, where), where)


def _open(recipe: str) -> Recipe:
    if recipe in named():
        return named()[recipe]
    path = Path(recipe)
    if path.suffix != ".toml":
        near = difflib.get_close_matches(recipe, named(), 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise UsageError(f"no recipe '{recipe}'{hint} There are {', '.join(named())}, or a file that ends with .toml")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--recipe '{recipe}' cannot be read: {error.strerror or error}") from None
    return _decode(data, f"recipe '{recipe}'")


def _decode(data: bytes, where: str) -> Recipe:
    try:
        tree = msgspec.toml.decode(data)
    except msgspec.DecodeError as error:
        raise UsageError(f"{where} is no TOML: {error}") from None
    return check(_convert(tree, where), where)


def _convert(tree: object, where: str) -> Recipe:
    try:
        return msgspec.convert(tree, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from None


def _override(tree: dict[str, Any], word: str) -> None:
    """Set one value of a recipe as plain data. Phases are named by their names."""
    key, equals, text = word.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set '{word}'; expected KEY=VALUE, for example phases.all.epochs=20")
    place: Any = tree
    for number, part in enumerate(parts[:-1]):
        below = {phase["name"]: phase for phase in place} if isinstance(place, list | tuple) else place
        if not isinstance(below, dict) or part not in below:
            _unknown(word, ".".join(parts[: number + 1]), below)
        place = below[part]
    last = parts[-1]
    # A loss or a rate may be new; every other key has its default written out.
    free = len(parts) > 1 and parts[-2] in ("rates", "loss")
    if not isinstance(place, dict) or (last not in place and not free):
        _unknown(word, key, place)
    if last == "kind" and parts[-2:-1] == ["loss"]:
        place.clear()  # what belonged to the other loss
    place[last] = _value(text.strip())


def _unknown(word: str, key: str, place: object) -> None:
    there = list(place) if isinstance(place, dict) else []
    near = difflib.get_close_matches(key.rpartition(".")[2], there, 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(there)}" if there else ""
    raise UsageError(f"--set '{word}': a recipe has no key '{key}'{hint}")


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value
