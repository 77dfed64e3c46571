"""MemNet (A. Khosla, A. S. Raju, A. Torralba, A. Oliva, ICCV 2015): CaffeNet with one output.

Counts: 56,872,321 parameters, 0.720 GMAC a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memedge_engines.manifest import NodeInput, Role, Target

from ..blocks.alex_lrn import AlexLrn, without_groups
from ..blocks.mlp_head import MlpHead
from ..blocks.standardise import Standardise
from ..key_maps import memnet as keys
from ..train.fitting import FittedPart
from .frame import FIRST
from .presets import caffe227, port227
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

if TYPE_CHECKING:
    from ..train.fitting import FitData

_CROP, _WHOLE = 227, 256
# The port clips (x - .7626) * 2 + .65: scores spread for showing, in the same order.
_PORT_GAIN, _PORT_SHIFT = 2.0, 0.65 - 2.0 * 0.7626
_MAP = 451  # eight places in each direction, 32 pixels apart


class MemNet(nn.Module):
    """Frames ``[B,3,227,227]`` to a score ``[B,1]``.

    The network learns scores of mean 0 and deviation 1; ``scale`` brings them back.

    Args:
        view: ``ten-crop``: frames of 256 x 256; the mean of the scores of the four corners, the middle and their
            mirrors. ``map``: frames of 451 x 451; the dense layers slide over them as convolutions, which gives a
            memory map ``[B,1,8,8]`` and its mean.
        port: the scores are spread as the PyTorch port does.
    """

    def __init__(
        self, width: float = 1.0, *, view: str = "single", port: bool = False, lrn_as_convolution: bool = False
    ) -> None:
        super().__init__()
        self.trunk = AlexLrn(width, lrn_as_convolution=lrn_as_convolution)
        self.head = MlpHead((self.trunk.features, 1))
        self.scale = Standardise(1)
        self.view = view
        self.window: nn.Conv2d | None = None
        self.gain, self.shift = (_PORT_GAIN, _PORT_SHIFT) if port else (1.0, 0.0)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Score, and the map where it is wanted."""
        if self.view == "map":
            places = self._score(self._slide(frames))
            return places.mean((2, 3)), places
        if self.view == "single":
            return (self._score(self.head(self.trunk(frames))),)
        scores = self._score(self.head(self.trunk(torch.cat(ten_crops(frames)))))
        return (scores.reshape(10, -1, 1).mean(0),)

    def _score(self, z: Tensor) -> Tensor:
        return z * (self.scale.std * self.gain) + (self.scale.mean * self.gain + self.shift)

    def _slide(self, frames: Tensor) -> Tensor:
        rows = self.trunk.fc7(F.relu(self._first(self.trunk.maps(frames))).permute(0, 2, 3, 1))
        places: Tensor = self.head(rows).permute(0, 3, 1, 2)
        return places

    def _first(self, maps: Tensor) -> Tensor:
        if self.window is not None:
            found: Tensor = self.window(maps)
            return found
        return F.conv2d(maps, _as_kernel(self.trunk.fc6, maps.shape[1]), self.trunk.fc6.bias)

    def with_window(self) -> MemNet:
        """The network itself, the first dense layer of its map a convolution for good: the form that is exported."""
        fc6 = self.trunk.fc6
        kernel = _as_kernel(fc6, self.trunk.conv5.out_channels)
        self.window = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2])
        with torch.no_grad():
            self.window.weight.copy_(kernel)
            self.window.bias.copy_(fc6.bias)  # type: ignore[union-attr]
        del self.trunk.fc6
        return self


def _as_kernel(dense: nn.Linear, channels: int) -> Tensor:
    """Weights of a dense layer over a square map as those of a convolution that sees the whole map."""
    side = math.isqrt(dense.in_features // channels)
    return dense.weight.reshape(dense.out_features, channels, side, side)


def ten_crops(frames: Tensor) -> list[Tensor]:
    """The corners and the middle of ``[B,3,256,256]``, 227 x 227 each, and their mirrors."""
    far = _WHOLE - _CROP
    places = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    crops = [frames[:, :, top : top + _CROP, left : left + _CROP] for top, left in places]
    return [*crops, *(crop.flip(3) for crop in crops)]


@torch.no_grad()
def _fit_scale(network: System, data: FitData) -> None:
    """Mean and deviation of the training scores; the head is changed so that the network's scores stay as they were."""
    scale, last = network.get_submodule("scale"), network.get_submodule("head.0")
    assert isinstance(scale, Standardise)
    assert isinstance(last, nn.Linear)
    mean, std = data.statistics.mean, data.statistics.deviation or 1.0
    last.weight.mul_(scale.std / std)
    last.bias.mul_(scale.std).add_(scale.mean - mean).div_(std)
    scale.mean.fill_(mean)
    scale.std.fill_(std)


def memnet_input(system: str, colors: str, view: str = "single") -> NodeInput:
    """The frame as MemNet takes it. Raises UsageError for options that there are not."""
    check_choice(system, "colors", colors, ("port", "caffe"))
    check_choice(system, "view", view, ("single", "ten-crop", "map"))
    make = port227 if colors == "port" else caffe227
    preset = {"single": make(), "ten-crop": make(None), "map": make(None, _MAP)}[view]
    return NodeInput(name="frames", source="source", preprocess=preset)


_IMPORTS = (
    PartImport(
        "", "MemNet's public weights (Caffe's names or the PyTorch port)", keys.rename, keys.is_memnet, keys.options
    ),
    PartImport("trunk", "CaffeNet's weights (Hybrid-CNN)", keys.rename_trunk, keys.is_other_caffenet),
)


@register_system("memnet", imports=_IMPORTS)
def memnet(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    colors: str = "port",
    view: str = "single",
    port_scores: bool = False,
    lrn_as_convolution: bool = False,
    dense_groups: bool = False,
) -> System:
    """One frame a second, the mean of 7 s. ``colors``: ``port`` (RGB, ImageNet's normalisation) or ``caffe`` (BGR less
    the means), as the weights were trained; ``view``, ``port_scores``: see :class:`MemNet`; ``lrn_as_convolution`` and
    ``dense_groups``: the same function for accelerators without LRN or without grouped convolutions."""
    frames = memnet_input("memnet", colors, view)
    network = MemNet(width, view=view, port=port_scores, lrn_as_convolution=lrn_as_convolution)
    outputs: dict[str, Role] = {"score": "score", "map": "attention"} if view == "map" else {"score": "score"}

    def form(module: nn.Module) -> nn.Module:
        if isinstance(module, MemNet) and view == "map":
            module.with_window()
        return without_groups(module) if dense_groups else module

    return System(
        [graph_node("model", [frames], outputs, 1.0)],
        {"model": Graph(network, form=form, float_layers=("head",))},
        [Target(name=only_target("memnet", targets, cuts), source="model.score", primary=True)],
        last=("head.0",),
        fitted=(FittedPart("scale", _fit_scale),),
    )
