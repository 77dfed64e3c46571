"""M3-S in tests: small networks of any modules, a film, and the head's outputs for one of its clips by hand."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from helpers_media import pillow_picture
from helpers_offline import tensor
from helpers_video import write_video
from memedge.pictures import picture
from memedge_engines.bundle import Bundle
from memedge_engines.features.flow import flow
from memedge_engines.features.hog import hog_vector
from memedge_engines.features.lowlevel import blurriness_of, brightness_of, contrast_of
from memedge_export import system_bundle
from memedge_export.blocks.distance_measures import Distinctiveness
from memedge_export.models import m3s
from memedge_export.models.presets import csn, plain256
from memedge_export.models.system import System, SystemEntry

RATE = 15
SMALL = m3s.Clip(5, 32)
SLOTS = {"mid": 6, "high": 5}
APART = 0.08
"""Of the two clips' last layers: .02 of the score."""


class Trunk(torch.nn.Module):
    """Stands for HRNet or CSN: 16 features of pictures or clips. ``last``: the layer that recipes train."""

    features = 16

    def __init__(self, conv: type[torch.nn.Conv2d] | type[torch.nn.Conv3d], last: str) -> None:
        super().__init__()
        self.conv = conv(3, 16, 3, 2, 1)
        self.last = last
        self.add_module(last, conv(16, 16, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = torch.relu(self.get_submodule(self.last)(torch.relu(self.conv(x))))
        return (x.mean(tuple(range(2, x.dim()))),)


def network(
    letters: str = "lmhs",
    clip: m3s.Clip = SMALL,
    low_hz: int = 1,
    own: bool = False,
    faithful_labels: bool = False,
    **more: Any,
) -> System:
    """Some modules, small; ``own``: with narrow, shallow copies of their own trunks, else with stand-ins."""
    mid: Any = None
    high: Any = None
    if set(letters) & set("ms"):
        mid = m3s.Mid(4, 8, (1, 1, 1), 1) if own else Trunk(torch.nn.Conv2d, "stage4")
    if set(letters) & set("hs"):
        high = m3s.High(0.125, (1, 1, 1, 1)) if own else Trunk(torch.nn.Conv3d, "layer4")
    trunks = {"mid": mid, "high": high} if "s" in letters else {}
    sims = {
        kind: Distinctiveness(trunk.features, SLOTS[kind], faithful_labels=faithful_labels)
        for kind, trunk in trunks.items()
    }
    return m3s.system(m3s.Parts(letters, mid, high, sims, clip, low_hz=low_hz, **more), "short_term")


@torch.no_grad()
def lively(system: System) -> System:
    """The network with statistics as of the film, and scores of its two clips around .5 and some way apart."""
    for module in system.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.weight.fill_(0.5)
    head = system.get_submodule("head")
    if head.standard is not None:
        head.standard.mean.copy_(torch.tensor([0.0] * 10 + [120, 60, 0.5, 10, 12]))
        head.standard.std.copy_(torch.tensor([1.0] * 10 + [60, 30, 0.5, 20, 2]))
        # As training fits them: on random axes all pictures are alike but for the rounding of their pixels.
        shown = film()[::RATE]
        hogs = torch.from_numpy(np.stack([hog_vector(pillow_picture(one, plain256())) for one in shown]))
        _, deviations, axes = torch.linalg.svd(hogs - hogs.mean(0), full_matrices=False)
        place = torch.arange(10) % (len(shown) - 1)  # the last one has no length, after the mean is gone
        system.get_submodule("pca").set_axes(hogs.mean(0), axes[place], deviations[place] ** 2 / len(shown))
    _tell_clips_apart(system)
    scores = torch.tensor([float(offline(system, film(), begin)[0][0]) for begin in (0, 3 * RATE)])
    first, second = torch.logit(scores)
    gain = APART / (first - second).abs()
    last = head.mlp[-1]
    last.weight *= gain
    last.bias.copy_((last.bias - (first + second) / 2) * gain)
    return system


def _tell_clips_apart(system: System) -> None:
    """Put the film's two clips into two clusters of each kind of features."""
    for sim in system.get_submodule("head").sims.values():
        seen: list[torch.Tensor] = []
        hook = sim.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0][0]))
        for begin in (0, 3 * RATE):
            offline(system, film(), begin)
        hook.remove()
        first, second = seen
        axes, variances = torch.zeros(10, len(first)), torch.zeros(10)
        length = (first - second).norm()
        axes[0], variances[0] = (first - second) / length, (length / 2) ** 2
        sim.pca.set_axes((first + second) / 2, axes, variances)
        hidden, out = torch.zeros_like(sim.measure.hidden_weight), torch.zeros(2, len(sim.measure.hidden_bias))
        hidden[0, 0], hidden[1, 0], out[0, 0], out[1, 1] = 1, -1, 1, 1
        sim.measure.set_layers((hidden, torch.zeros(len(hidden))), (out, torch.zeros(2)), torch.tensor([0, 1]))


def bundle_of(system: System, folder: Path, letters: str = "lmhs", **how: Any) -> Bundle:
    """The exported network; ``how``: as it was made."""
    file = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in system.state_dict().items()}, file)
    entry = SystemEntry("m3s-small", lambda *a, **b: network(letters, **how))
    return system_bundle.export_system(entry, [str(file)], folder / "bundle")


@functools.cache
def film() -> list[NDArray[np.uint8]]:
    """Six seconds at 15 frames a second; another picture each second, moving. Textured all over: gradients of flat
    areas, and logarithms of theirs, would be those of rounding errors."""
    rng = np.random.default_rng(0)
    pictures = []
    for second in range(6):
        still = np.asarray(Image.fromarray(picture(200 + second)).resize((192, 128)), np.float64)
        texture = np.kron(rng.normal(size=(32, 48, 1)), np.ones((4, 4, 1))) * 25
        still = np.clip(0.7 * still + 38 + texture, 0, 255).astype(np.uint8)
        pictures += [np.roll(still, 2 * step, 1) for step in range(RATE)]
    return pictures


def write_film(path: Path) -> Path:
    """The film as a file."""
    return write_video(path, film(), rate=RATE, options={"crf": "8"})


@torch.no_grad()
def offline(
    system: System, frames: list[NDArray[np.uint8]], begin: int, bytes_per_s: float = 0.0
) -> list[NDArray[np.float32]]:
    """Outputs of the head for the clip that begins at frame ``begin``: frames by their times, Pillow and torch."""
    module = {name: graph.module.eval() for name, graph in system.graphs.items()}
    given = _raw(module["pca"], frames, begin, bytes_per_s) if "pca" in module else []
    if "mid" in module:
        item = system.node("mid").inputs[0].preprocess
        assert item is not None
        given.append(module["mid"](tensor(frames[begin], item))[0])
    if "high" in module:
        shown = [begin + round(0.6 * k * RATE) for k in range(5)]
        clip = torch.stack([tensor(frames[at], csn(SMALL.side))[0] for at in shown], 1)[None]
        given.append(module["high"](clip)[0])
    return [one.numpy()[0] for one in module["head"](*given)]


def _raw(pca: Any, frames: list[NDArray[np.uint8]], begin: int, bytes_per_s: float) -> list[torch.Tensor]:
    """Low-level values once a second, motion from the frame before, and the size."""
    rgb = [pillow_picture(frames[begin + RATE * second], plain256()) for second in range(3)]
    pairs = [
        [pillow_picture(frames[begin + RATE * second + at], plain256("gray")).squeeze() for at in (-1, 0)]
        for second in (1, 2)
    ]
    hogs = torch.from_numpy(np.stack([hog_vector(one) for one in rgb]))
    found = [pca(hogs)[0].mean(0, keepdim=True)]
    for values in (
        [brightness_of(one) for one in rgb],
        [contrast_of(one) for one in rgb],
        [np.log1p(np.hypot(*flow(*pair, "farneback").astype(np.float64)).mean()) for pair in pairs],
        [blurriness_of(one) for one in rgb],
    ):
        found.append(torch.tensor([[np.mean(values)]], dtype=torch.float32))
    return [*found, torch.tensor([[bytes_per_s]])]
