"""Offline scores of frame systems: a clip read with plain PyAV, prepared with Pillow, run through torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import memedge
from helpers_media import pillow_picture, swscale_rgb
from helpers_video import write_video
from memedge.pictures import picture
from memedge_engines.bundle import Bundle
from memedge_engines.frame import ColorMatrix, ColorRange
from memedge_engines.manifest import NodeInput, Preprocess
from memedge_export.models.system import System

RATE = 4
SECONDS = 9


def still(second: int) -> NDArray[np.uint8]:
    """The picture of a second: darker ones, brighter ones and negatives, so that scores differ by more than rounding
    of pixels does."""
    shown = picture(100 + second) * (0.7, 1.0, 0.85)[second % 3]
    return (255 - shown if second % 2 else shown).astype(np.uint8)


def write_clip(path: Path) -> Path:
    """Nine seconds at 4 frames a second; the picture changes with every second and moves within it."""
    pictures = [np.roll(still(second), 8 * step, 1) for second in range(SECONDS) for step in range(RATE)]
    return write_video(path, pictures, rate=RATE)


def decode(path: Path) -> list[NDArray[np.uint8]]:
    """All frames, RGB."""
    with av.open(str(path)) as container:
        return [swscale_rgb(f, ColorMatrix.BT601, ColorRange.LIMITED) for f in container.decode(video=0)]


def tensor(rgb: NDArray[np.uint8], contract: Preprocess) -> torch.Tensor:
    """One frame as the contract says, float32 ``[1,3,H,W]``."""
    pixels = pillow_picture(rgb, contract).astype(np.float32) * np.float32(contract.scale)
    normal = (pixels - np.float32(contract.mean)) / np.float32(contract.std)
    return torch.from_numpy(normal.transpose(2, 0, 1)[None].astype(np.float32))


def offline(network: System, frames: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    """Every output of an only graph node on each of the frames: name to ``[n, ...]``."""
    (node,) = network.nodes

    def view(item: NodeInput, rgb: NDArray[np.uint8]) -> torch.Tensor:
        assert item.preprocess is not None
        return tensor(rgb, item.preprocess)

    module = network.graphs[node.name].module.eval()
    rows = []
    with torch.no_grad():
        for rgb in frames:
            rows.append([found.numpy() for found in module(*(view(item, rgb) for item in node.inputs))])
    return {o.name: np.concatenate([row[k] for row in rows]) for k, o in enumerate(node.outputs)}


@torch.no_grad()
def lively(network: System, last: str, file: Path) -> str:
    """Save weights whose scores depend on the picture and lie around .5: the last layer of a regression is scaled, that
    of classes sharpened. Returns the file's name, for ``weights``."""
    layer = network.get_submodule(last)
    assert isinstance(layer, torch.nn.Linear)
    frames = [still(second) for second in range(6)]
    read: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, given: read.append(given.clone()))
    offline(network, frames)
    hook.remove()
    rows = torch.cat([given.reshape(-1, layer.out_features) for given in read])
    spread = float(rows.std(0).mean())
    wanted = 0.02 if layer.out_features == 1 else 0.1
    layer.weight *= wanted / spread
    layer.bias += (0.5 if layer.out_features == 1 else 0.0) - layer.bias - (rows.mean(0) - layer.bias) * wanted / spread
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return str(file)


def readings(bundle: Bundle, clip: Path, **how: Any) -> list[memedge.Reading]:
    """What the runtime reads of the clip."""
    with memedge.load(bundle.path, engine="onnxruntime", **how) as scorer, memedge.stream(str(clip), scorer) as stream:
        return list(stream)


def check_streamed(
    network: System, bundle: Bundle, folder: Path, step: int = RATE
) -> tuple[dict[str, NDArray[np.float32]], list[memedge.Reading]]:
    """Check what the runtime reads of a clip against torch on every ``step``-th frame, one a second where nothing else
    is said; a frame goes through the node once.

    Returns the offline outputs of these frames and the readings that were scored.
    """
    clip = write_clip(folder / "clip.mp4")
    every = readings(bundle, clip)
    expected = offline(network, decode(clip)[::step])
    scored = [reading for reading in every if reading.score is not None]
    assert [reading.frame_index for reading in scored] == list(range(0, SECONDS * RATE, step))
    scores = expected["score"][:, 0]
    assert scores.std() > 0.002, "scores that never change would prove nothing"
    # Pixels may be rounded one level apart, and a network of random weights hears that.
    assert np.allclose([reading.score for reading in scored], scores.clip(0, 1), atol=2e-3)
    assert abs(every[-1].rolling - float(scores[-7 * RATE // step :].clip(0, 1).mean())) < 1e-3
    return expected, scored
