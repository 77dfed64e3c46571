"""A network as an ONNX float graph: any named inputs, free batch axis, everything else static, few nodes.

Batch-norm is folded into the convolutions before torch's exporter sees the network, so the result does not hang on the
exporter's optimiser. A module that owns such pairs names them by ``conv_norm_pairs() -> [(owner, attribute of the
convolution, attribute of the norm), ...]``; a batch-norm that follows no convolution becomes a multiplication and an
addition. torch's current exporter makes the graph; one that it cannot take is made by the tracing exporter, and the
result says so.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .blocks.resnet2d import BasicBlock, Bottleneck, ResNet2d
from .blocks.scene_trunk import SmallResNet
from .errors import ExportError
from .models.frame import FrameModel
from .onnx_form import IR_VERSION, OPSET, check_form, foreign, set_output_shapes, tidy

__all__ = [
    "INPUT",
    "IR_VERSION",
    "OPSET",
    "PARITY",
    "Exported",
    "check_outputs",
    "check_parity",
    "export_graph",
    "export_module",
    "fold_batch_norm",
    "open_session",
    "tidy",
]

INPUT = "frames"
PARITY = 1e-4
OTHER_PARITY = 1e-3
"""Of outputs that are no scores, relative to their largest value where that is above 1."""
_BATCH = "batch"
M = TypeVar("M", bound=nn.Module)
Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """A graph.

    Attributes:
        data: ONNX bytes.
        exporter: which of torch's exporters made it; ``reason``: why it was not the current one.
        parts: name of a node with stored weights to the path of the module that they belong to, where it is known.
    """

    data: bytes
    exporter: Literal["current", "tracing"] = "current"
    reason: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)


class _Affine(nn.Module):
    """A batch-norm in evaluation mode: one factor and one summand for each channel."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            factor = factor * norm.weight.detach().double()
        summand = -norm.running_mean.double() * factor
        if norm.bias is not None:
            summand = summand + norm.bias.detach().double()
        self.register_buffer("factor", factor.float())
        self.register_buffer("summand", summand.float())

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,...]`` to the same."""
        shape = (-1, *([1] * (x.dim() - 2)))
        return x * self.get_buffer("factor").reshape(shape) + self.get_buffer("summand").reshape(shape)


def fold_batch_norm(network: M) -> M:
    """A copy in evaluation mode whose batch-norms are folded into the convolutions before them."""
    return _without_norms(_folded(network))


def _folded(network: M) -> M:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    folded = copy.deepcopy(network).cpu().float().eval()
    for module in folded.modules():
        for owner, conv, norm in _pairs(module):
            layer, following = getattr(owner, conv), getattr(owner, norm)
            # A network that was folded or rewritten before still names its pairs.
            if isinstance(layer, nn.modules.conv._ConvNd) and isinstance(following, nn.modules.batchnorm._BatchNorm):
                setattr(owner, conv, fuse_conv_bn_eval(layer, following))
                setattr(owner, norm, nn.Identity())
    return folded


def _without_norms(network: M) -> M:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, _Affine(child))
    return network


def _pairs(module: nn.Module) -> Sequence[tuple[nn.Module, str, str]]:
    named = getattr(module, "conv_norm_pairs", None)
    if callable(named):
        found: Sequence[tuple[nn.Module, str, str]] = named()
        return found
    pairs: list[tuple[nn.Module, str, str]] = []
    if isinstance(module, ResNet2d):
        pairs = [(module, "conv1", "bn1")]
    elif isinstance(module, SmallResNet):
        pairs = [(layer, "conv", "norm") for layer in module.stem]
    elif isinstance(module, (BasicBlock, Bottleneck)):
        pairs = [(module, f"conv{i}", f"bn{i}") for i in (1, 2, 3) if hasattr(module, f"conv{i}")]
        if module.downsample is not None:
            pairs.append((module.downsample, "0", "1"))
    return pairs


def export_graph(network: FrameModel, size: tuple[int, int]) -> bytes:
    """A frame model as ONNX bytes; ``size`` is (height, width) of its input. Raises as :func:`export_module`."""
    examples = {INPUT: torch.zeros(2, 3, *size)}
    return export_module(network, examples, [name for name, _ in network.outputs]).data


def export_module(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    form: Callable[[nn.Module], nn.Module] | None = None,
) -> Exported:
    """A module as an ONNX graph.

    Args:
        module: takes its inputs by position and gives a tuple of tensors.
        examples: input name to float32 ``[B, ...]``, B at least 2, in the module's order; all sizes but B are fixed.
        outputs: names, in the module's order.
        form: makes the module to export of a copy whose batch-norms are folded where they follow a convolution.

    Raises:
        ExportError: neither exporter takes it, ONNX's full checker refuses the graph, or it needs forbidden operators.
    """
    import onnx

    folded: nn.Module = _folded(module)
    folded = _without_norms(folded if form is None else form(folded).eval())
    args = tuple(examples.values())
    with torch.no_grad():
        shapes = [tuple(found.shape) for found in folded(*args)]
    if len(shapes) != len(outputs):
        raise ExportError(f"the module gives {len(shapes)} outputs; expected {len(outputs)}: {', '.join(outputs)}")
    model, reason = _by_current(folded, examples, outputs)
    if model is None:
        model = _by_tracing(folded, examples, outputs, reason)
    if reason or any(not _static(value) for value in model.graph.output):
        set_output_shapes(model, shapes, model.graph.input[0].type.tensor_type.shape.dim[0].dim_param)
    parts = _parts(model, folded)
    tidy(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX's checker refuses the graph: {error}") from None
    check_form(model, {name: tuple(tensor.shape) for name, tensor in examples.items()}, outputs)
    data: bytes = model.SerializeToString(deterministic=True)
    named = {node.name: part for node, part in zip(model.graph.node, parts, strict=True) if part}
    return Exported(data, "tracing" if reason else "current", reason, named)


def _parts(model: Any, module: nn.Module) -> list[str]:
    """For each node the path of the module whose stored weights it reads; empty where there is none."""
    known = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    weights = [next((name for name in node.input if name in known), "") for node in model.graph.node]
    return [name.rpartition(".")[0] for name in weights]


def _static(value: Any) -> bool:
    return all(d.dim_value for d in value.type.tensor_type.shape.dim[1:])


def _by_current(module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[Any, str]:
    """The graph of torch's current exporter; or none, and why."""
    # It tells of every torchvision operator that a machine without torchvision cannot export; no network here has one.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    free = tuple({0: torch.export.Dim(_BATCH)} for _ in examples)
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    any_number = inspect.Parameter.VAR_POSITIONAL in kinds
    try:
        with warnings.catch_warnings():
            # torch warns of its own use of its own deprecated functions.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(examples.values()),
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_shapes=(free,) if any_number else free,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except ImportError as error:
        raise ExportError(
            f"torch's ONNX exporter lacks a package: {error}", fix="pip install 'memedge[export]'"
        ) from None
    except torch.onnx.OnnxExporterError as error:
        return None, _first(error)
    assert program is not None
    model = program.model_proto
    if strange := foreign(model):
        return None, f"it makes {', '.join(strange)}"
    return model, ""


def _by_tracing(module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str], reason: str) -> Any:
    import onnx

    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(examples.values()),
                buffer,  # type: ignore[arg-type]  # files that are open are taken, too
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_axes={name: {0: _BATCH} for name in (*examples, *outputs)},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the tracer runs the module and many rewrites; nothing common is raised
        raise ExportError(
            f"torch cannot export this network: {reason}; and the tracing exporter: {_first(error)}"
        ) from error
    return onnx.load_from_string(buffer.getvalue())


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def open_session(graph: bytes, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU for a graph given as bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def check_parity(network: FrameModel, graph: bytes, tensors: NDArray[np.float32]) -> float:
    """Largest difference of any target's score between torch and ONNX Runtime on float32 ``[N,3,H,W]``, N >= 3, at
    batch 1 and 3.

    Raises:
        ExportError: it is above 1e-4, or the two batch sizes differ by more.
    """
    scores = [(name, role == "score") for name, role in network.outputs if role == "score"]
    return check_outputs(network, graph, {INPUT: tensors}, scores)


def check_outputs(module: nn.Module, graph: bytes, inputs: Arrays, outputs: Sequence[tuple[str, bool]]) -> float:
    """Compare a graph with its module at batch 1 (each row) and 3 (the first rows).

    Args:
        inputs: float32 ``[N, ...]`` each, N at least 3, in the module's order.
        outputs: the module's first outputs: name, and whether it is a score.

    Returns:
        The largest difference of a score, or of any output where none is a score.

    Raises:
        ExportError: a score differs by more than 1e-4, another output by more than 1e-3 of its largest value (at least
            1e-3).
    """
    module.eval()
    session = open_session(graph)
    names = [name for name, _ in outputs]
    with torch.inference_mode():
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()]
        expected = [found.numpy() for found in module(*given)[: len(names)]]

    def run(rows: slice) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = session.run(names, {name: array[rows] for name, array in inputs.items()})
        return found

    count = len(expected[0])
    singles = [np.concatenate(parts) for parts in zip(*(run(slice(i, i + 1)) for i in range(count)), strict=True)]
    several = run(slice(0, 3))
    found: dict[bool, list[float]] = {True: [], False: []}
    for number, (name, is_score) in enumerate(outputs):
        want = expected[number]
        worst = max(_difference(singles[number], want), _difference(several[number], want[:3]))
        limit = PARITY if is_score else OTHER_PARITY * max(1.0, float(np.abs(want).max()))
        if not worst <= limit:
            what = "scores differ" if is_score else f"output '{name}' differs"
            raise ExportError(f"the graph's {what} from torch's by {worst:.2g}; expected at most {limit:.2g}")
        found[is_score].append(worst)
    return max(found[True] or found[False])


def _difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.shape != b.shape:
        raise ExportError(f"the graph gives shape {list(a.shape)} where torch gives {list(b.shape)}")
    return float(np.abs(a - b).max())
