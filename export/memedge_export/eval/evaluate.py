"""From scores to figures: every model on every part of every data set, the first model against the others, and people
among themselves."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from memedge.errors import UsageError

from .. import checkpoint, models, weights
from ..errors import WeightsError
from ..models.system import system_entry
from .bootstrap import RESAMPLES, SEED
from .contenders import Contender
from .metrics import Result, difference, evaluate
from .parts import Part
from .people import consistency
from .report import Compared, Measured, People, Report

# A rank correlation of fewer pictures moves by a tenth and more from sample to sample.
_FEW = 200
_HELD_OUT = re.compile(r"(?P<data>.+) (?P<split>\S+) \((?P<count>\d+) (?:picture|video)s?(?P<rest>; .+)?\)")


def check(contenders: Sequence[Contender], parts: Sequence[Part], target: str) -> None:
    """Whether there is anything to evaluate.

    Raises:
        UsageError: a model that predicts none of a set's targets, or not the one that was asked for.
    """
    for contender in contenders:
        predicts = contender.model.targets
        for part in parts:
            if not set(predicts) & set(part.human):
                raise UsageError(
                    f"'{contender.model.label}' predicts {', '.join(predicts)}; expected "
                    f"{target if target != 'all' else ' or '.join(part.human) + f', which {part.name} has'}",
                    fix="train or export a model with that target, or ask for another --target",
                )


def measure(contenders: Sequence[Contender], parts: Sequence[Part]) -> Report:
    """Figures of parts that were scored; parts without human scores give none."""
    results: list[Measured] = []
    compared: list[Compared] = []
    people: list[People] = []
    for part in parts:
        for target, human in part.human.items():
            known = part.scored(target)
            found = {label: values[known] for label, values in part.models(target).items()}
            if not known.any() or not found:
                continue
            results += [
                _measured(part, target, contender, evaluate(found[contender.model.label], human[known]))
                for contender in contenders
                if contender.model.label in found
            ]
            first, *others = found
            compared += [
                Compared(
                    first=first,
                    second=other,
                    data=part.name,
                    split=part.split,
                    target=target,
                    difference=difference(found[first], found[other], human[known]),
                )
                for other in others
            ]
            halves = part.data.halves
            if halves is not None and target == part.data.targets[0]:
                agreed = consistency(halves[:, :, part.positions], part.models(target))
                if agreed is not None:
                    people.append(People(data=part.name, split=part.split, target=target, consistency=agreed))
    return Report(
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        resamples=RESAMPLES,
        seed=SEED,
        models=tuple(contender.model for contender in contenders),
        results=tuple(results),
        comparisons=tuple(compared),
        people=tuple(people),
    )


def _measured(part: Part, target: str, contender: Contender, figures: Result) -> Measured:
    model = contender.model
    warnings = []
    if model.untrained:
        warnings.append("UNTRAINED: its scores mean nothing")
    if figures.spearman is None:
        warnings.append("its scores or the human scores are constant: there is no correlation")
    if figures.count < _FEW:
        warnings.append(f"{figures.count} {part.data.unit}s are few: the interval is wide")
    if part.split in ("train", "all") and contender.was_trained_on(part.data):
        warnings.append(f"was trained on {part.data.name}: these are not held-out {part.data.unit}s")
    return Measured(
        model=model.label,
        data=part.name,
        split=part.split,
        target=target,
        unit=part.data.unit,
        figures=figures,
        sampling=_sampling(part, target, contender),
        score_kind=part.data.kind,
        skipped=len(part.skipped),
        warnings=tuple(warnings),
    )


def _sampling(part: Part, target: str, contender: Contender) -> str:
    return contender.sampling.get(target, part.sampling) if part.data.unit == "video" else part.sampling


@dataclass(frozen=True)
class HeldOut:
    """What a checkpoint's or bundle's ``held_out`` says: data set, split, number of records; ``note`` follows it."""

    data: str
    split: str
    count: int
    note: str = ""


def held_out(text: str | None) -> HeldOut | None:
    """``lnsim test (264 pictures)`` taken apart; none for any other form."""
    match = _HELD_OUT.fullmatch(text or "")
    if match is None:
        return None
    return HeldOut(match["data"], match["split"], int(match["count"]), (match["rest"] or "").removeprefix("; "))


def record_result(path: Path, result: Measured) -> None:
    """Write a result into a checkpoint's metadata, from where bundles and model cards take it.

    Raises:
        WeightsError: the file is not a checkpoint of ours.
    """
    state, info = weights.read_state(path)
    if info is None:
        raise WeightsError(f"'{path}' is not a checkpoint of memedge train; the result cannot be recorded in it")
    if system_entry(info.model) is None:
        models.entry(info.model)
    training = msgspec.structs.replace(
        info.training,
        held_out=f"{result.data} {result.split} ({result.figures.count} {result.unit}s)",
        spearman=result.figures.spearman,
        spearman_interval=result.figures.spearman_interval,
    )
    checkpoint.save(path, state, msgspec.structs.replace(info, training=training))
