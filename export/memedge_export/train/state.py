"""What lies in a run's folder: the state that it resumes from, its history, and the lock that keeps others out."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import replace_file
from ..errors import TrainingError

STATE, BEST, HISTORY, CURVES, LOCK = "state.pt", "best.safetensors", "history.csv", "curves.png", "run.lock"


@dataclass
class Run:
    """Where a run stands.

    Attributes:
        phase: number of the phase; ``epoch``: its finished epochs; ``total``: finished epochs of all phases.
        step: finished steps of the epoch at hand; ``loss``: their sum of losses.
        best: the best validation Spearman; ``since_best``: epochs of the phase since then.
        history: a row for each finished epoch.
    """

    phase: int = 0
    epoch: int = 0
    total: int = 0
    step: int = 0
    loss: float = 0.0
    best: float = float("-inf")
    since_best: int = 0
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def save_state(path: Path, identity: str, run: Run, parts: dict[str, Any]) -> None:
    """Replace the state in one step. ``parts``: state dicts of network, average, optimiser and precision."""
    buffer = io.BytesIO()
    torch.save({"identity": identity, "run": json.dumps(asdict(run)), **parts}, buffer)
    replace_file(path, buffer.getvalue())


def read_state(path: Path, identity: str) -> tuple[Run, dict[str, Any]]:
    """The run and the parts that were saved.

    Raises:
        TrainingError: the file is damaged, or of a run with other arguments.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        same = state.pop("identity") == identity
        run = Run(**json.loads(state.pop("run")))
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise TrainingError(f"cannot resume: '{path}' is damaged: {str(error).splitlines()[0]}") from None
    if not same:
        raise TrainingError(
            f"cannot resume: the run in '{path.parent}' has another model, data, recipe, seed or start weights",
            fix="give the same arguments, or another --out",
        )
    return run, state


def identity(*what: object, init: str | Sequence[str] | None) -> str:
    """What must be the same for a run to be resumed. Start weights count by their bytes."""
    words = [init] if init is None or isinstance(init, str) else list(init)
    return json.dumps([*what, *map(_bytes_of, words)], sort_keys=True)


def _bytes_of(word: str | None) -> str | None:
    """``FILE`` or ``PART=FILE`` with the file's hash in its place."""
    if word is None:
        return None
    part, equals, file = ("", "", word) if Path(word).is_file() else word.rpartition("=")
    return part + equals + (hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else file)


def write_history(out: Path, run: Run) -> None:
    """Replace ``history.csv``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(run.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.history)
    replace_file(out / HISTORY, text.getvalue().encode())


def draw_curves(out: Path, run: Run, title: str) -> None:
    """Replace ``curves.png``: loss and validation Spearman over epochs, phases marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, upper = pyplot.subplots(figsize=(7, 4.4), dpi=120)
    epochs = [int(row["epoch"]) for row in run.history]
    upper.plot(epochs, [float(row["loss"]) for row in run.history], color="tab:gray", label="training loss")
    upper.set_xlabel("epoch")
    upper.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper.set_ylabel("training loss")
    lower = upper.twinx()
    spearman = [float(row["val_spearman"]) for row in run.history]
    lower.plot(epochs, spearman, color="tab:blue", marker="o", markersize=3, label="validation Spearman")
    lower.set_ylabel("validation Spearman")
    best = max(range(len(spearman)), key=lambda i: spearman[i])
    label = f"best: {spearman[best]:.3f}, epoch {epochs[best]}"
    lower.plot(epochs[best], spearman[best], "o", color="tab:blue", markersize=8, fillstyle="none", label=label)
    names = [str(row["phase"]) for row in run.history]
    for place, name in enumerate(names):
        if not place or names[place - 1] != name:
            upper.axvline(epochs[place] - 0.5, color="tab:gray", linestyle=":", linewidth=1)
            upper.text(epochs[place] - 0.45, 1.01, name, fontsize=8, transform=upper.get_xaxis_transform())
    upper.set_title(title, pad=18)
    lines = [*upper.get_lines()[:1], *lower.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    figure.legend(lines, labels, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.subplots_adjust(left=0.12, right=0.88, top=0.86, bottom=0.2)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    pyplot.close(figure)
    replace_file(out / CURVES, data.getvalue())


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a second training out of the folder while this one runs; the lock dies with the process.

    Raises:
        TrainingError: another process trains there, or the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise TrainingError(f"cannot write to '{out}': {error.strerror or error}") from None
    try:
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks of this kind; the state's identity still guards
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(f"another process trains in '{out}'", fix="another --out, or wait for it") from None
        yield
    finally:
        os.close(handle)
