"""Systems on fixed features in tests: narrow, with weights that make scores spread, and their offline scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from helpers_features import textured
from helpers_offline import tensor
from helpers_steps import thin
from helpers_video import write_video
from memedge_engines.bundle import Bundle
from memedge_engines.features.aesthetics import aes_lite_vector
from memedge_engines.features.hmp import histogram
from memedge_engines.features.lbp import rotation_invariant
from memedge_engines.manifest import Training
from memedge_export import system_bundle
from memedge_export.blocks.standardise import Standardise
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.models.presets import C3D112, INCEPTION299
from memedge_export.models.system import System, SystemEntry, build_system

RATE = 24
WIDTH = 0.0625
Pictures = Sequence[NDArray[np.uint8]]
Offline = Callable[[System, Pictures], float]


def narrow(name: str, width: float = WIDTH) -> SystemEntry:
    """The system, narrower."""
    return thin(name, width)


@functools.lru_cache(2)
def film(count: int = 7 * RATE, height: int = 64, width: int = 80) -> list[NDArray[np.uint8]]:
    """Pictures that drift, and change their content after each third."""
    found = []
    for i in range(count):
        ground = textured(height + 40, width + count, 3 * i // count, noise=2)
        found.append(np.ascontiguousarray(ground[i // 8 : i // 8 + height, i // 2 : i // 2 + width]))
    return found


def write_film(path: Path, pictures: Pictures) -> Path:
    """The pictures at 24 a second, nothing lost."""
    return write_video(path, pictures, rate=RATE, codec="png", pix_fmt="rgb24")


def vectors(network: System, pictures: Pictures) -> dict[str, NDArray[np.float64]]:
    """Each head input of a system from the frames that the papers name: key frames 0, 56, 112; every tenth frame's
    aesthetics; 12 frames a second for motion patterns; C3D's first 16."""
    keys = [pictures[i] for i in (0, len(pictures) // 3, 2 * len(pictures) // 3)]
    made: Mapping[str, Callable[[], Any]] = {
        "hmp": lambda: histogram([_gray(p) for p in pictures[::2]]),
        "features": lambda: np.stack([_of_key_frame(network, p) for p in keys]),
        "aesthetics_mean": lambda: np.mean([aes_lite_vector(p) for p in pictures[::10]], 0),
        "aesthetics_median": lambda: np.median([aes_lite_vector(p) for p in pictures[::10]], 0),
        "c3d": lambda: _c3d(network, pictures[:16]),
    }
    head = network.node("head")
    return {item.name: np.asarray(made[item.name](), np.float64) for item in head.inputs}


def offline(network: System, pictures: Pictures) -> float:
    """The published score of a clip: one hidden layer in NumPy, the mean over key frames."""
    if "inception" in type(getattr(network, "trunk", None)).__name__.lower():
        keys = [pictures[i] for i in (0, len(pictures) // 3, 2 * len(pictures) // 3)]
        with torch.no_grad():
            module = network.graphs["model"].module.eval()
            return float(torch.cat([module(tensor(p, INCEPTION299))[0] for p in keys]).mean())
    return float(_perceptron(network, _joined(network, pictures)).mean())


def _joined(network: System, pictures: Pictures) -> NDArray[np.float64]:
    """All features side by side, a row a key frame, or one."""
    found = list(vectors(network, pictures).values())
    rows = max((v.shape[0] for v in found if v.ndim == 2), default=1)
    return np.concatenate([np.broadcast_to(v, (rows, v.shape[-1])) for v in found], 1)


def _perceptron(network: System, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    base = network.last[0].rpartition(".")[0]
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    scaler = "head.standardise" if "head.standardise.mean" in state else "standardise"
    x = (rows - state[f"{scaler}.mean"]) / state[f"{scaler}.std"]
    layers = int(network.last[0].rpartition(".")[2]) + 1
    tanh = network.get_submodule(base).act == "tanh"
    for i in range(layers):
        x = x @ state[f"{base}.{i}.weight"].T + state[f"{base}.{i}.bias"]
        if i < layers - 1:
            x = np.tanh(x) if tanh else np.maximum(x, 0)
    return x


def _gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def _of_key_frame(network: System, rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    extractor = network.node("feature").extractor
    if extractor == "colorhist-rgb":
        return np.array(Image.fromarray(rgb).histogram()) / (rgb.shape[0] * rgb.shape[1])
    assert extractor == "lbp122"
    height, width = rgb.shape[:2]
    size = (int(480 * width / height), 480) if width > height else (480, int(480 * height / width))
    gray = _gray(rgb)
    if network.node("feature").inputs[0].preprocess.resize.rule != "none":
        gray = np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BILINEAR))
    return np.bincount(rotation_invariant(gray).ravel(), minlength=122) / gray.size


def _c3d(network: System, pictures: Pictures) -> NDArray[np.float32]:
    frames = [tensor(p, C3D112) for p in pictures]
    with torch.no_grad():
        (found,) = network.graphs["c3d"].module.eval()(torch.stack(frames, 2))
    return found[0].numpy()


def lively(entry: SystemEntry, pictures: Pictures, seed: int = 0, **options: Any) -> System:
    """A network whose features are standardised about as training would, so that the score depends on them."""
    network = build_system(entry, seed=seed, options=options)
    part = next(module for module in network.modules() if isinstance(module, Standardise))
    with torch.no_grad():
        if entry.id == "inceptionv3-mlp":
            keys = torch.cat([tensor(pictures[i], INCEPTION299) for i in (0, 56, 112)])
            seen = network.get_submodule("trunk").eval()(keys)
            part.mean.copy_(seen.mean(0))
            part.std.fill_(4 * float(seen.std()))
        else:
            typical = torch.from_numpy(_joined(network, pictures).mean(0)).float()
            part.mean.copy_(0.9 * typical)
            part.std.copy_(
                0.2 * typical.abs().clamp(min=0.05 * float(typical.abs().max()) if typical.numel() > 400 else 1e-2)
            )
        for layer in network.linears:
            layer.bias.fill_(0.5)
    return network


def bundle_of(entry: SystemEntry, network: System, folder: Path, **options: Any) -> Bundle:
    """Exported with the network's weights and one small golden picture."""
    info = CheckpointInfo(
        model=entry.id, training=Training(status="trained"), options=options, extractors=network.extractors
    )
    save(folder / "weights.safetensors", network.state_dict(), info)
    (folder / "golden").mkdir()
    Image.fromarray(textured(64, 80)).save(folder / "golden" / "0.png")
    return system_bundle.export_system(
        entry, [str(folder / "weights.safetensors")], folder / "bundle", golden_dir=folder / "golden"
    )
