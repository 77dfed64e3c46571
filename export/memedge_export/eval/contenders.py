"""What can be evaluated: checkpoints, run by torch, and bundles, run as a device runs them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from memedge.console import status
from memedge.errors import EngineError, UsageError
from memedge.scorer import Scorer
from memedge.titles import TITLE, reads_titles
from memedge_engines.bundle import MANIFEST, Bundle
from memedge_engines.frame import Frame
from memedge_engines.manifest import Training
from memedge_engines.preprocess import Preprocessor

from .. import models, weights
from ..data.pictures import Picture, normalise
from ..data.records import DataSet, Record
from ..models.system import system_entry
from ..train.callers import title_of
from .report import Model

BEST = "best.safetensors"
_BATCH = 64


class Contender(ABC):
    """A model whose scores are asked for; closed by whoever opened it.

    Attributes:
        model: what it is.
        training: what it was trained on.
        sampling: target to the preset by which it samples videos, of those that have their own.
    """

    model: Model
    training: Training
    sampling: Mapping[str, str] = {}

    @abstractmethod
    def add(self, key: int, picture: Picture, record: Record) -> None:
        """Score one picture, RGB uint8 ``[H, W, 3]``, of a record now or in a batch with later ones."""

    @abstractmethod
    def finish(self) -> dict[int, NDArray[np.float64]]:
        """Key to scores ``[T]``, 0..1, of everything that was added since the last call."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""

    def was_trained_on(self, data: DataSet) -> bool:
        """Whether its training data name this set."""
        names = (data.title, f"{data.name} ", f"{data.name}:")
        return any(said.startswith(tuple(filter(None, names))) for said in self.training.datasets)


class Network(Contender):
    """A checkpoint in torch, in float; on a GPU where there is one."""

    def __init__(self, path: Path, model: str, label: str) -> None:
        loaded = weights.load(model, str(path))
        for note in loaded.notes:
            status(note)
        self.training = loaded.training
        self._contract = loaded.preprocess
        self._preprocessor = Preprocessor(loaded.preprocess)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = loaded.model.eval().to(self._device)
        self._waiting: list[tuple[int, NDArray[np.uint8]]] = []
        self._found: dict[int, NDArray[np.float64]] = {}
        self.model = Model(
            label=label,
            kind="checkpoint",
            model=model,
            name=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            engine="torch",
            precision="fp32",
            targets=tuple(loaded.model.targets),
            untrained=loaded.training.status == "untrained",
        )

    def add(self, key: int, picture: Picture, record: Record) -> None:
        """Scored in batches of 64."""
        self.add_frame(key, Frame.from_rgb(picture))

    def add_frame(self, key: int, frame: Frame) -> None:
        """As :meth:`add`; the frame may be released afterwards."""
        self._waiting.append((key, self._preprocessor.picture(frame)))
        if len(self._waiting) >= _BATCH:
            self._score()

    def _score(self) -> None:
        keys = [key for key, _ in self._waiting]
        tensor = normalise(np.stack([picture for _, picture in self._waiting]), self._contract).to(self._device)
        self._waiting.clear()
        with torch.inference_mode():
            scores = self._network(tensor.contiguous(memory_format=torch.channels_last))[: len(self.model.targets)]
        rows = torch.cat(scores, 1).double().cpu().numpy()
        if not np.isfinite(rows).all():
            raise EngineError(f"{self.model.label}: the network gave scores that are not finite")
        self._found.update(zip(keys, rows.clip(0, 1), strict=True))

    def finish(self) -> dict[int, NDArray[np.float64]]:
        """See :class:`Contender`."""
        if self._waiting:
            self._score()
        found, self._found = self._found, {}
        return found

    def close(self) -> None:
        """Nothing to give back but memory."""


class Device(Contender):
    """A bundle on an engine, through the Scorer."""

    def __init__(self, bundle: Bundle, engine: str, precision: str, label: str) -> None:
        self.scorer = Scorer(bundle, engine, precision)
        manifest = bundle.manifest
        self.training = manifest.provenance.training
        self.sampling = {target.name: target.sampling for target in manifest.targets}
        self._found: dict[int, NDArray[np.float64]] = {}
        self.model = Model(
            label=f"{label} {self.scorer.engine} {self.scorer.precision}",
            kind="bundle",
            model=manifest.provenance.model,
            name=manifest.name,
            sha256=bundle.hash,
            engine=self.scorer.engine,
            precision=self.scorer.precision,
            targets=tuple(target.name for target in manifest.targets),
            untrained=manifest.untrained,
        )

    def add(self, key: int, picture: Picture, record: Record) -> None:
        """Scored at once. Raises EngineError."""
        found = self.scorer.score(picture, self.caller(record)).targets
        self._found[key] = np.array([found[target] for target in self.model.targets])

    def caller(self, record: Record) -> dict[str, str]:
        """The record's title, for a bundle that reads titles."""
        title = title_of(record) if reads_titles(self.scorer.manifest) else None
        return {} if title is None else {TITLE: title}

    def finish(self) -> dict[int, NDArray[np.float64]]:
        """See :class:`Contender`."""
        found, self._found = self._found, {}
        return found

    def close(self) -> None:
        """Close the engine."""
        self.scorer.close()


def open_contenders(
    stack: ExitStack,
    targets: Sequence[Path],
    *,
    model: str | None = None,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    words: Path | None = None,
) -> list[Contender]:
    """Open everything that is to be compared; each is closed with the stack.

    Args:
        targets: bundles' folders, run folders (their best checkpoint), weights files.
        model: of weights files that do not name their own.
        engines, precisions: of the bundles, each with each; none: ``auto``.
        words: word vectors for the titles of checkpoints that take them.

    Raises:
        UsageError: nothing there, or engines and precisions without a bundle.
        BundleError, EngineError, WeightsError: as everywhere.
    """
    found: list[Contender] = []
    paths = [_resolved(target) for target in targets]
    if (engines or precisions) and not any(path.is_dir() for path in paths):
        raise UsageError("--engine and --precision belong to bundles; a checkpoint is run by torch in fp32")
    names = [_name(path) for path in paths]
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        label = name if names.count(name) == 1 else f"{name}#{names[: number + 1].count(name)}"
        if not path.is_dir():
            found.append(_network(path, model, label, words))
            continue
        bundle = Bundle.open(path)
        for engine in engines or ("auto",):
            for precision in precisions or ("auto",):
                found.append(Device(bundle, engine, precision, label))
                stack.callback(found[-1].close)
    labels = [contender.model.label for contender in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UsageError(f"'{twice}' is asked for twice", fix="name each target, engine and precision once")
    return found


def _network(path: Path, model: str | None, label: str, words: Path | None) -> Contender:
    from .networks import SystemNetwork

    _, info = weights.read_state(path)
    known = info.model if info is not None else model
    if known is None:
        raise UsageError(f"'{path}' does not say which model it is of", fix="--model")
    entry = None if known in models.names() else system_entry(known)
    return Network(path, known, label) if entry is None else SystemNetwork(path, entry, label, words)


def _resolved(target: Path) -> Path:
    """A bundle's folder, or a weights file."""
    if target.is_dir() and not (target / MANIFEST).is_file():
        if (target / BEST).is_file():
            return target / BEST
        raise UsageError(f"'{target}' is neither a bundle nor the folder of a run; expected {MANIFEST} or {BEST} in it")
    if not target.exists():
        raise UsageError(f"nothing to evaluate at '{target}'; expected a bundle's folder, a run's or a weights file")
    return target


def _name(path: Path) -> str:
    """Short and telling: a bundle's folder, a run's folder, or the file."""
    if path.is_dir():
        return path.resolve().name
    return path.resolve().parent.name if path.name == BEST else path.stem
