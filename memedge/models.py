"""The model cards as data: what each model is, what it costs and what its paper reports. Needs no torch.

The cards lie in ``models.json`` beside this file. The networks behind the available ones are in the export package,
which a device does not have.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import msgspec

from .errors import UsageError

__all__ = ["Card", "Figure", "Reference", "card", "cards", "references"]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One published figure.

    Attributes:
        data: data set, as its paper spells it. split: ``val``, ``test``, ``test500``; empty: the whole set.
        target: ``short_term`` or ``long_term``. metric: ``spearman`` or ``pearson``.
        source: where it is reported. note: what is special about it (``mean of the five splits``).
    """

    data: str
    split: str
    target: str
    metric: Literal["spearman", "pearson"]
    value: float
    source: str
    note: str = ""


class Reference(Figure, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure that is no model's. ``who``: whose it is (people, one half against the other)."""

    who: str


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model.

    Attributes:
        id: as typed after ``--model``.
        kind: ``frame``, ``clip``, ``sequence``, ``feature``, ``hybrid`` or ``frame and text``.
        input: what one inference consumes, without the batch axis.
        parameters: weights and biases, batch-norm scale and shift included, running statistics not; none if not fixed.
        macs: multiply-adds of one inference (of a whole video where the note says so); none where not counted.
        published: Spearman correlations as the source reports them, in words; empty for our own.
        figures: the same and further ones, each by itself.
        source: where the figures come from.
        status: ``available`` here and now, or ``planned``.
        ours: made in this project, not from a paper.
        note: what the figures leave out.
    """

    id: str
    kind: str
    input: str
    parameters: int | None
    macs: int | None
    published: str
    source: str
    figures: tuple[Figure, ...] = ()
    status: Literal["available", "planned"]
    ours: bool = False
    note: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    note: str
    cards: tuple[Card, ...]
    references: tuple[Reference, ...]


@lru_cache(maxsize=1)
def _read() -> _File:
    return msgspec.json.decode((files(__package__) / "models.json").read_bytes(), type=_File)


def cards() -> list[Card]:
    """All cards, the available models first."""
    return sorted(_read().cards, key=lambda card: card.status)


def references() -> list[Reference]:
    """Published figures that are no model's: what people reach."""
    return list(_read().references)


def note() -> str:
    """What holds for all figures on the cards, in a sentence or two."""
    return _read().note


def card(model: str) -> Card:
    """The card of ``model``.

    Raises:
        UsageError: there is none of that name; the message names the nearest.
    """
    for found in _read().cards:
        if found.id == model:
            return found
    near = difflib.get_close_matches(model, [c.id for c in _read().cards], 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    available = ", ".join(c.id for c in cards() if c.status == "available")
    raise UsageError(f"no model '{model}'{hint} Available now: {available}", fix="memedge models")
