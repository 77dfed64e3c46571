"""A network of 3-D layers rewritten as one of 2-D operators, for export (block B16)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import ExportError
from .conv3d_as_2d import AvgPool3dAs2d, Conv3dAs2d, MaxPool3dAs2d, fold, unfold

# They work on single values, whatever the shape.
_POINTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Mish, nn.Softplus),
    *(nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Dropout),
)


@runtime_checkable
class Foldable(Protocol):
    """A module that looks at time or place and therefore brings a form of its own for folded clips."""

    def folded(self, frames: int) -> nn.Module:
        """The same on ``[B*frames,C,H,W]`` instead of ``[B,C,frames,H,W]``; other inputs and outputs as they are."""


@dataclass
class _Seen:
    """What passed a module in one run: T of the clips that came in, none for other tensors."""

    frames: set[int] = field(default_factory=set)
    clips: bool = False


class As2d(nn.Module):
    """The 2-D form of a network: same inputs and outputs, clips ``[B,C,T,H,W]`` among them, same numbers.

    Attributes:
        network: what works on ``[B*T,C,H,W]``.
    """

    def __init__(self, network: nn.Module, out_frames: Sequence[int | None], single: bool) -> None:
        super().__init__()
        self.network = network
        self.out_frames, self.single = tuple(out_frames), single

    def forward(self, *inputs: Tensor) -> Any:
        """Outputs of the network: a tuple where it gives one."""
        found = self.network(*(fold(x.transpose(1, 2)) if x.dim() == 5 else x for x in inputs))
        outputs = tuple(
            x if frames is None else unfold(x, frames).transpose(1, 2)
            for x, frames in zip((found,) if self.single else found, self.out_frames, strict=True)
        )
        return outputs[0] if self.single else outputs


def as_2d(network: nn.Module, *shapes: Sequence[int]) -> As2d:
    """The network's 2-D form, in evaluation mode; the network itself stays as it is and shares all other weights.

    Every 3-D layer is replaced; adding, joining channels and activations work on folded clips as they stand. What else
    looks at time or place (a mean over them, an uneven padding) must be a module with a ``folded`` method; those of
    ``clip_layers`` are.

    Args:
        shapes: of each input without the batch axis, (C, T, H, W) for a clip; they fix T of every layer.

    Raises:
        ExportError: a layer has no 2-D form, is used at two lengths, or the rewritten network gives other shapes.
    """
    shared = {id(value): value for value in (*network.parameters(), *network.buffers())}
    made = copy.deepcopy(network, shared).eval()
    seen, expected = _run(made, shapes)
    root = _rewrite(made, "", seen)
    outputs = (expected,) if isinstance(expected, Tensor) else tuple(expected)
    frames = [x.shape[2] if x.dim() == 5 else None for x in outputs]
    found = As2d(root, frames, isinstance(expected, Tensor)).eval()
    problem = ""
    try:
        _, given = _run(found, shapes)
        shapes_given = [tuple(x.shape) for x in ((given,) if found.single else given)]
        if shapes_given != [tuple(x.shape) for x in outputs]:
            problem = f"it gives {shapes_given}; expected {[tuple(x.shape) for x in outputs]}"
    except (RuntimeError, IndexError) as error:
        problem = str(error).splitlines()[0]
    if problem:
        raise ExportError(
            f"{type(network).__name__} has an operation outside a module that needs the 3-D form: {problem}"
        )
    return found


def _run(network: nn.Module, shapes: Sequence[Sequence[int]]) -> tuple[dict[nn.Module, _Seen], Any]:
    """What passes each module when inputs of these shapes do, without memory or arithmetic; and the outputs."""
    seen: dict[nn.Module, _Seen] = {}

    def note(module: nn.Module, args: tuple[Any, ...], _: Any) -> None:
        entry = seen.setdefault(module, _Seen())
        for value in args:
            if isinstance(value, Tensor) and value.dim() == 5:
                entry.frames.add(value.shape[2])

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    values = {name: value.to("meta") for name, value in (*network.named_parameters(), *network.named_buffers())}
    dtype = next((value.dtype for value in values.values() if value.is_floating_point()), None)
    inputs = tuple(torch.empty(2, *shape, device="meta", dtype=dtype) for shape in shapes)
    try:
        with torch.no_grad():
            return seen, torch.func.functional_call(network, values, inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _rewrite(module: nn.Module, path: str, seen: dict[nn.Module, _Seen]) -> nn.Module:
    frames = seen[module].frames if module in seen else set()
    make = _form(module)
    if make is None:
        if frames and not isinstance(module, _POINTWISE) and not any(True for _ in module.children()):
            raise ExportError(f"'{path}' ({type(module).__name__}) has no 2-D form")
        for name, child in list(module.named_children()):
            setattr(module, name, _rewrite(child, f"{path}.{name}".lstrip("."), seen))
        return module
    if not frames:
        return module
    if len(frames) > 1:
        raise ExportError(f"'{path}' is used on clips of {sorted(frames)} frames; a 2-D form has one length")
    return make(next(iter(frames)))


def _form(module: nn.Module) -> Callable[[int], nn.Module] | None:
    """What makes the 2-D form of a module for T frames; none when it has none of its own."""
    if isinstance(module, Foldable):
        return module.folded
    if isinstance(module, nn.Conv3d):
        return lambda frames: Conv3dAs2d(module, frames)
    if isinstance(module, nn.MaxPool3d):
        return lambda frames: MaxPool3dAs2d(module, frames)
    if isinstance(module, nn.AvgPool3d):
        return lambda frames: AvgPool3dAs2d(module, frames)
    if isinstance(module, nn.BatchNorm3d):
        return lambda frames: _batch_norm(module)
    if isinstance(module, nn.Dropout3d):
        return lambda frames: nn.Identity()
    return None


def _batch_norm(norm: nn.BatchNorm3d) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta")
    made.weight, made.bias = norm.weight, norm.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        made._buffers[name] = norm._buffers[name]
    return made.eval()
