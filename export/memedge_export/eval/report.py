"""What an evaluation found, as plain data: the JSON that ``memedge eval --json`` prints, files ``*.eval.json`` hold and
``memedge table`` reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from ..errors import DataError
from .metrics import Difference, Result
from .people import Consistency

SCHEMA = 1
SUFFIX = ".eval.json"


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was evaluated.

    Attributes:
        label: names it in this evaluation, once.
        kind: a ``checkpoint`` is run by torch, a ``bundle`` as a device runs it.
        model: registered id, as on the model cards. name: of the bundle or of the file, without its folders.
        sha256: of the checkpoint, or the bundle's hash.
        targets: what it predicts.
    """

    label: str
    kind: Literal["checkpoint", "bundle"]
    model: str
    name: str
    sha256: str
    engine: str
    precision: str
    targets: tuple[str, ...]
    untrained: bool = False


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model's figures on one part of one data set, for one target.

    Attributes:
        model: label of the model.
        unit: ``picture`` or ``video``; ``sampling``: preset of the frames of a video, empty for pictures.
        score_kind: what the human scores are.
        skipped: records that could not be read and were left out.
        warnings: what makes the figures say less than they seem to.
    """

    model: str
    data: str
    split: str
    target: str
    unit: Literal["picture", "video"]
    figures: Result
    sampling: str = ""
    score_kind: str = ""
    skipped: int = 0
    warnings: tuple[str, ...] = ()


class Compared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``second`` minus ``first`` on the same records; both are labels of models."""

    first: str
    second: str
    data: str
    split: str
    target: str
    difference: Difference


class People(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Human consistency on one part of one data set."""

    data: str
    split: str
    target: str
    consistency: Consistency


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole evaluation. ``created``: UTC; ``resamples`` and ``seed``: of the bootstrap."""

    schema: int = SCHEMA
    created: str
    resamples: int
    seed: int
    models: tuple[Model, ...]
    results: tuple[Measured, ...]
    comparisons: tuple[Compared, ...] = ()
    people: tuple[People, ...] = ()

    def model(self, label: str) -> Model:
        """The model of that label."""
        return next(model for model in self.models if model.label == label)


def to_json(report: Report) -> bytes:
    """Indented JSON with a closing newline."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def read(path: Path) -> Report:
    """A report that :func:`to_json` wrote.

    Raises:
        DataError: it cannot be read, is of another schema, or names a model that it does not describe.
    """
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise DataError(f"'{path}' is no result of memedge eval --json: {error}") from None
    if report.schema != SCHEMA:
        raise DataError(f"'{path}' has schema {report.schema}; expected {SCHEMA}", fix="a newer memedge reads it")
    labels = {model.label for model in report.models}
    unknown = [row.model for row in report.results if row.model not in labels]
    if unknown:
        raise DataError(f"'{path}' has a result of '{unknown[0]}', which it does not describe")
    return report
