"""Our checkpoints: safetensors files whose metadata says what the weights are. Nothing in them is executed on
reading."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from memedge_engines.manifest import Preprocess, Quantiles, Training

from .errors import WeightsError

_KEY = "memedge"


class ScoreScale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training scores of one target of one data set, before they were brought to the first set's scale."""

    data: str
    target: str
    mean: float
    deviation: float
    low: float
    high: float


class DomainStatistics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mean and deviation of each axis of the embedding over training pictures, and the distance beyond which a picture
    counts as out of domain (:mod:`memedge.domain`); ``flagged``: share of held-out pictures beyond it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float
    flagged: float


class CheckpointInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint's metadata says of it.

    Attributes:
        model: registered id; ``width``: multiplier of its channels.
        preprocess: the preset it was trained with; none of a system, whose inputs have one each.
        options: of a system, as it was built. extractors: host extractors, name to version, that the weights belong to.
        training: what it was trained on, for the manifest.
        targets: what its scores are of, the first one first. cuts: between classes, where it has some.
        quantiles: reference quantiles of the first target's scores, or none; ``more_quantiles``: of further targets.
        domain: statistics of its embedding, or none where it gives none.
        score_scales: mean, deviation and range of each data set's training scores.
        licence: what is known of the licence of data and weights.
        data: the data sets' specifications without their folders (``lnsim``).
        split_sha256: hash of the pictures' names, scores and splits.
        recipe: the recipe as it was run.
        seed, epoch: of the run; the epoch counts from 1 over all phases.
        val_spearman: of this epoch, or none where nothing was held out.
    """

    model: str
    training: Training
    preprocess: Preprocess | None = None
    options: dict[str, Any] = {}
    extractors: dict[str, str] = {}
    width: float = 1.0
    targets: tuple[str, ...] = ("short_term",)
    cuts: tuple[float, ...] = ()
    quantiles: Quantiles | None = None
    more_quantiles: dict[str, Quantiles] = {}
    domain: DomainStatistics | None = None
    score_scales: tuple[ScoreScale, ...] = ()
    licence: str = ""
    data: tuple[str, ...] = ()
    split_sha256: str = ""
    recipe: dict[str, object] = {}
    seed: int = 0
    epoch: int = 0
    val_spearman: float | None = None


def save(path: Path, state: Mapping[str, Tensor], info: CheckpointInfo | None) -> None:
    """Write a checkpoint so that ``path`` is either complete or what it was before."""
    from safetensors.torch import save as to_bytes

    data = to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        metadata=None if info is None else {_KEY: msgspec.json.encode(info).decode()},
    )
    replace_file(path, data)


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step, through a file beside it that is flushed to disk first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WeightsError(f"cannot write '{path}': {error.strerror or error}") from None


def read_info(metadata: Mapping[str, str] | None, path: Path) -> CheckpointInfo | None:
    """The information in a safetensors file's metadata; none where the file is not a checkpoint of ours.

    Raises:
        WeightsError: it says it is ours and cannot be decoded.
    """
    text = (metadata or {}).get(_KEY)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=CheckpointInfo)
    except msgspec.DecodeError as error:
        raise WeightsError(f"checkpoint '{path}': its metadata cannot be read: {error}") from None
