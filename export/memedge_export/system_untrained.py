"""Untrained systems that behave: scores that differ between pictures, activations of ordinary size.

What :mod:`.untrained` does for a frame model, node by node: residual branches begin small, batch-norm statistics are
re-estimated on what really arrives at a node when the project's generated pictures are shown (moving ones where a
window looks at several), and the layer that gives the scores lies along the first principal component of what it
reads, scaled so that scores vary around the middle of their range. Without residual branches a deep random network
amplifies small differences from layer to layer, the rounding of 8 bits among them, as no trained one does (of an
inceptionv3-mlp an eighth as wide, 12 % of the work could be int8): there each ReLU reads values of mean 1 and
deviation 1, so that it changes few of them. What a file gave is left alone. The scores still mean nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memedge.console import progress
from memedge.pictures import generate
from memedge_engines.manifest import Node
from memedge_engines.trace import Call

from .models.system import System
from .system_clips import Fitted, Fitter, Timeline, run_calls
from .system_graphs import run_module
from .untrained import BRANCH_WEIGHT, MEAN, PICTURE_SEED, PICTURES, STD

CLIPS = 16
"""Pictures where a window looks at several times: their networks are large."""
_BATCH = 8
_MOST_ROWS = 256
_LIFT = 1.0
_GRID = np.linspace(-8, 8, 17)
Norm: TypeAlias = nn.modules.batchnorm._BatchNorm
Conv: TypeAlias = nn.Conv2d | nn.Conv3d


def initialise(network: System, fresh: Collection[str] | None = None) -> None:
    """Set branch weights, batch-norm statistics and the last layers of a network; leaves it in evaluation mode.

    Args:
        fresh: names in the ``state_dict`` that no file gave; none: all of them.
    """
    network.eval()
    new = set(network.state_dict()) if fresh is None else set(fresh)
    names = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}

    def is_new(tensor: Tensor | None) -> bool:
        return tensor is not None and names.get(id(tensor), "") in new

    for module in network.modules():
        last = getattr(module, "last_bn", None)
        if isinstance(last, nn.modules.batchnorm._BatchNorm) and is_new(last.weight):
            nn.init.constant_(last.weight, BRANCH_WEIGHT)
    timeline = Timeline.of(network.dataflow)
    fitter = Fitter(timeline)
    count = CLIPS if timeline.moves else PICTURES
    clips = [fitter.still(picture, number) for number, picture in enumerate(generate(count, PICTURE_SEED))]
    scorers = {target.source.partition(".")[0] for target in network.system_targets}
    with progress("untrained network", len(network.graphs)) as bar:
        for name, graph in network.graphs.items():
            norms = [
                m
                for m in graph.module.modules()
                if isinstance(m, nn.modules.batchnorm._BatchNorm) and is_new(m.running_mean)
            ]
            plain = graph.lowest == "int8" and not any(hasattr(module, "last_bn") for module in graph.module.modules())
            convs = [m for m in graph.module.modules() if isinstance(m, nn.Conv2d | nn.Conv3d) and m.bias is not None
                     and is_new(m.weight) and is_new(m.bias)] if plain else []  # fmt: skip
            if plain:
                for norm in norms:
                    if is_new(norm.bias):
                        nn.init.constant_(norm.bias, _LIFT)
            if norms or convs or name in scorers:
                rows = _arriving(network, timeline, clips, name)
                if convs:
                    _settle(graph.module, convs, rows[0])
                if norms:
                    _reestimate(graph.module, norms, rows)
                if name in scorers:
                    _fit_last(network, network.node(name), rows, is_new)
            bar.advance(1, name)


def _arriving(network: System, timeline: Timeline, clips: Sequence[Fitted], name: str) -> list[list[Tensor]]:
    """Batches of what arrives at a graph node, at most 256 rows, nodes before it being set already."""
    part = timeline.until(name)
    batches: list[list[Tensor]] = []

    def see(call: Call, inputs: dict[str, NDArray[Any]]) -> None:
        if call.node == name and sum(len(one[0]) for one in batches) < _MOST_ROWS:
            batches.append([torch.from_numpy(np.array(array, np.float32)) for array in inputs.values()])

    def run(node: Node, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if node.name == name:  # nothing behind it is asked for
            return {output.name: np.zeros((len(next(iter(inputs.values()))), 1)) for output in node.outputs}
        return run_module(network.graphs[node.name].module, node, inputs)

    for begin in range(0, len(clips), _BATCH):
        run_calls(part, clips[begin : begin + _BATCH], run, see=see)
    return batches


def _settle(module: nn.Module, convs: Sequence[nn.Conv2d | nn.Conv3d], batch: Sequence[Tensor]) -> None:
    """Scale convolutions so that each channel of what they give has mean ``_LIFT`` and all of them together a deviation
    of 1 around it on a batch, from the first to the last in one pass. One factor for a layer: one for each channel
    would make weak channels, and the noise in them, as loud as the others."""
    waiting = {id(conv) for conv in convs}

    def settle(conv: nn.Module, _: Any, given: Tensor) -> Tensor | None:
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        assert conv.bias is not None
        if id(conv) not in waiting:
            return None
        waiting.remove(id(conv))
        mean = given.transpose(0, 1).flatten(1).mean(1)
        centered = given - mean.reshape(-1, *[1] * (given.ndim - 2))
        spread = centered.std().clamp_min(1e-6)
        conv.weight.div_(spread)
        conv.bias.copy_((conv.bias - mean) / spread + _LIFT)
        return centered / spread + _LIFT

    hooks = [conv.register_forward_hook(settle) for conv in convs]
    with torch.no_grad():
        module(*batch)
    for hook in hooks:
        hook.remove()


def _reestimate(module: nn.Module, norms: Sequence[Norm], batches: Sequence[Sequence[Tensor]]) -> None:
    """Set batch-norm statistics to the averages over batches; nothing else is in training mode."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's cumulative average
        norm.train()
    with torch.no_grad():
        for batch in batches:
            if len(batch[0]) > 1:  # a single row has no variance where a norm follows a linear layer
                module(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _fit_last(network: System, node: Node, batches: Sequence[Sequence[Tensor]], is_new: Any) -> None:
    """Lay the layers that give a node's scores along the first principal component of what they read."""
    module = network.graphs[node.name].module
    places = [o.name for o in node.outputs]
    wanted = [t.source.partition(".")[2] for t in network.system_targets if t.source.startswith(f"{node.name}.")]
    layers: list[nn.Linear | None] = [*network.linears] or [_last_linear(module, batches[0])]
    if len(layers) < len(wanted):
        layers = [layers[-1]] * len(wanted)
    for output, layer in zip(wanted, layers, strict=False):
        if layer is not None and is_new(layer.weight):
            _fit(module, layer, places.index(output), batches)


def _last_linear(module: nn.Module, batch: Sequence[Tensor]) -> nn.Linear | None:
    """The linear layer that runs last."""
    called: list[nn.Linear] = []
    hooks = [
        layer.register_forward_hook(lambda found, _, __: called.append(found))
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
    ]
    with torch.no_grad():
        module(*(tensor[:1] for tensor in batch))
    for hook in hooks:
        hook.remove()
    return called[-1] if called else None


def _fit(module: nn.Module, layer: nn.Linear, place: int, batches: Sequence[Sequence[Tensor]]) -> None:
    read: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: read.append(args[0].detach().reshape(-1, layer.in_features)))
    with torch.no_grad():
        for batch in batches:
            module(*batch)
    hook.remove()
    rows = torch.cat(read).double()
    center = rows.mean(0)
    _, _, axes = torch.linalg.svd(rows - center, full_matrices=False)
    # An axis has no direction of its own: its largest component is made positive.
    axis = axes[0] * torch.sign(axes[0][axes[0].abs().argmax()])
    along = (rows - center) @ axis
    spread = float(along.std())
    if not spread > 0:
        return
    # Several outputs (classes) take turns: each as steep as its distance from the middle one.
    slopes = torch.linspace(-1, 1, layer.out_features).double() if layer.out_features > 1 else torch.ones(1).double()
    gain, shift = _solve(_curve(module, layer, place, batches[0], slopes), (along / spread).numpy())
    with torch.no_grad():
        weight = slopes[:, None] * axis[None] * (gain / spread)
        layer.weight.copy_(weight.float())
        offset = slopes * shift - weight @ center
        if layer.bias is not None:
            layer.bias.copy_(offset.float())


def _curve(
    module: nn.Module, layer: nn.Linear, place: int, batch: Sequence[Tensor], slopes: Tensor
) -> NDArray[np.float64]:
    """The score, float64 ``[17]``, when the layer gives ``slopes`` times each value of the grid."""
    one = [tensor[:1] for tensor in batch]
    found = []
    for value in _GRID:
        with _giving(layer, (slopes * value).float()), torch.no_grad():
            found.append(float(module(*one)[place].reshape(-1)[0]))
    return np.array(found)


@contextmanager
def _giving(layer: nn.Linear, values: Tensor) -> Iterator[None]:
    hook = layer.register_forward_hook(lambda _, __, given: values.expand_as(given))
    try:
        yield
    finally:
        hook.remove()


def _solve(curve: NDArray[np.float64], units: NDArray[np.float64]) -> tuple[float, float]:
    """(gain, shift) so that scores of ``gain * units + shift`` vary by .05 around .5, or around the middle of what the
    curve reaches within 0..1 where it does not reach .5; ``units`` has mean 0 and deviation 1."""
    inside = curve.clip(0, 1)
    low, high = float(inside.min()), float(inside.max())
    if not high > low:
        return STD, MEAN
    middle = MEAN if low < MEAN < high else (low + high) / 2
    rising = curve if curve[-1] >= curve[0] else curve[::-1]
    grid = _GRID if curve[-1] >= curve[0] else _GRID[::-1]
    shift = float(np.interp(middle, rising, grid))
    step = 1e-2
    slope = float(np.interp(shift + step, _GRID, curve) - np.interp(shift - step, _GRID, curve)) / (2 * step)
    if slope == 0:
        return STD, shift
    wanted = min(STD, (high - low) / 6)
    gain = wanted / abs(slope)
    for _ in range(20):
        scores = np.interp(gain * units + shift, _GRID, curve)
        found = float(scores.std())
        if found > 0:
            gain *= min(2.0, max(0.5, wanted / found))
        shift += (middle - float(scores.mean())) / slope
        shift, gain = float(np.clip(shift, -7, 7)), min(gain, 3.0)
    return gain, shift
