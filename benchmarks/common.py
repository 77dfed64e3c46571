"""What the benchmark scripts share: bundles, the clip, names of result files, budgets, a torch twin of a bundle."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memedge.environment import Environment, environment
from memedge.loading import open_bundle
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Preprocess

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "out" / "bench"


_EXPORT = """
import sys
from pathlib import Path
from memedge_export.export_bundle import export
export("resnet101", out=Path(sys.argv[1]), runs=Path(sys.argv[2]))
"""


@dataclass(frozen=True)
class Budget:
    """A figure that the design promises, and what was found.

    ``kept`` is none where the figure is only reported: another processor, a part that is not there.
    """

    name: str
    limit: str
    found: str
    kept: bool | None
    note: str = ""

    @classmethod
    def at_most(
        cls, name: str, found: float | None, limit: float, unit: str, note: str = "", report: bool = False
    ) -> Budget:
        """``found`` may be at most ``limit``; ``report``: the limit does not hold here."""
        if found is None:
            return cls(name, f"<= {limit:g} {unit}", "not measured", None, note)
        kept = None if report else found <= limit
        return cls(name, f"<= {limit:g} {unit}", f"{found:.3g} {unit}", kept, note)

    @classmethod
    def at_least(
        cls, name: str, found: float | None, limit: float, unit: str, note: str = "", report: bool = False
    ) -> Budget:
        """``found`` must be at least ``limit``; ``report``: the limit does not hold here."""
        if found is None:
            return cls(name, f">= {limit:g} {unit}", "not measured", None, note)
        kept = None if report else found >= limit
        return cls(name, f">= {limit:g} {unit}", f"{found:.3g} {unit}", kept, note)


def child_environment(**extra: str) -> dict[str, str]:
    """The environment of a child process that imports what this one imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **extra}


def say(text: str) -> None:
    """A line of progress on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def resnet101(folder: Path = WORK) -> Bundle | None:
    """An untrained resnet101 fp32 bundle, exported once into the folder; none where torch is not installed."""
    path = folder / "resnet101-fp32"
    if (path / "manifest.json").is_file():
        return Bundle.open(path)
    say("exporting an untrained resnet101")
    # In a process of its own: torch stays out of the one that measures, until a peer needs it.
    found = subprocess.run(
        [sys.executable, "-c", _EXPORT, str(path), str(folder / "no-runs")], env=child_environment(), check=False
    )
    if found.returncode:
        say("resnet101 is left out: it could not be exported (pip install 'memedge[export]')")
        return None
    return Bundle.open(path)


def bundles(paths: Sequence[Path]) -> list[Bundle]:
    """The bundles named, or the default one and an untrained resnet101."""
    if paths:
        return [open_bundle(path) for path in paths]
    big = resnet101()
    return [open_bundle(None), *([big] if big is not None else [])]


def twin(bundle: Bundle) -> Any | None:
    """The bundle's network in torch, with the weights of its float graph: what a user would load and run eagerly.

    Export folds batch norm into the convolutions. The twin keeps its batch norms, with statistics and weights that do
    nothing but add the folded bias, so that it does all the work of the network that was trained.
    None where torch, onnx or the model are not there.
    """
    try:
        import onnx
        import torch
        from onnx import numpy_helper

        from memedge_export import models
    except ImportError:
        return None
    name = bundle.manifest.provenance.model
    if name not in models.names():
        return None
    graph = onnx.load_from_string(bundle.read(bundle.manifest.nodes[0].files["fp32"])).graph
    weights = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    network = models.entry(name).build(1.0).eval()
    state = network.state_dict()
    for key in state:
        if key in weights and state[key].shape == weights[key].shape:
            state[key] = weights[key]
        elif (conv := _norm_of(key)) and f"{conv}.weight" in weights:
            part = key.rpartition(".")[2]
            filled = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - 1e-5, "bias": 0.0}
            state[key] = torch.full_like(state[key], filled[part]) if part in filled else state[key]
            if part == "bias" and f"{conv}.bias" in weights:
                state[key] = weights[f"{conv}.bias"]
    network.load_state_dict(state)
    return network


def _norm_of(key: str) -> str | None:
    """The convolution before a batch norm, by torchvision's names (bn1 of conv1, downsample.1 of downsample.0) and by
    those of a stem (norm of conv)."""
    layer = key.rpartition(".")[0]
    if layer.endswith(".norm"):
        return layer.removesuffix("norm") + "conv"
    if re.search(r"(^|\.)bn\d+$", layer):
        return re.sub(r"bn(\d+)$", r"conv\1", layer)
    return re.sub(r"downsample\.1$", "downsample.0", layer) if layer.endswith("downsample.1") else None


def user_tensor(rgb: np.ndarray, contract: Preprocess) -> np.ndarray:
    """Preprocessing as a user writes it with Pillow: float32 ``[1, 3, h, w]`` of an RGB uint8 picture."""
    from PIL import Image

    picture = Image.fromarray(rgb)
    width, height = picture.size
    resize, crop = contract.resize, contract.crop
    if resize.rule == "short_side":
        assert isinstance(resize.size, int)
        size = resize.size
        wide = (size, int(size * height / width)) if width < height else (int(size * width / height), size)
        picture = picture.resize(wide, Image.Resampling.BILINEAR)
    elif resize.rule == "exact":
        assert isinstance(resize.size, tuple)
        picture = picture.resize((resize.size[1], resize.size[0]), Image.Resampling.BILINEAR)
    if crop.rule == "center":
        assert crop.size is not None
        left, top = round((picture.width - crop.size[1]) / 2), round((picture.height - crop.size[0]) / 2)
        picture = picture.crop((left, top, left + crop.size[1], top + crop.size[0]))
    values = np.asarray(picture, np.float32) * np.float32(contract.scale)
    values = (values - np.asarray(contract.mean, np.float32)) / np.asarray(contract.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def interleaved(work: dict[str, Callable[[], float]], rounds: int, what: str = "") -> dict[str, list[float]]:
    """Run everyone once a round, another one first each time; the figures that they return, by name."""
    found: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if what:
                say(f"{what}: round {number + 1} of {rounds}: {name}")
            found[name].append(work[name]())
    return found


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def slug(machine: Environment) -> str:
    """A machine's name for files: processor or board, and cores."""
    name = re.sub(r"\(.*?\)|\b(CPU|Processor|NVIDIA)\b|@.*", "", machine.board or machine.cpu)
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or machine.machine}-{machine.usable_cores}c"


def parser(text: str) -> argparse.ArgumentParser:
    """Arguments that every script takes."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument("--bundle", type=Path, action="append", default=[], help="default: ours and resnet101")
    made.add_argument("--json", type=Path, help="write the figures to this file")
    return made


def finish(name: str, figures: dict[str, Any], budgets: Sequence[Budget], path: Path | None) -> None:
    """Print the figures and budgets of one script; write them where asked."""
    record = {name: figures, "budgets": [asdict(b) for b in budgets]}
    print(json.dumps(record, indent=2))
    if path is not None:
        record["environment"] = json.loads(_json(environment()))
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)
