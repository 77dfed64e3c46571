"""Systems: networks that are a dataflow of nodes, as their bundles are.

A frame model (:mod:`.frame`) is one graph and one picture. Everything else in the zoo is a :class:`System`: graph nodes
that are modules, host nodes that are extractors of memedge_engines, windows between them. Its nodes are the manifest's
own, so the runtime's schedule says what training and offline evaluation show it (:mod:`memedge_engines.trace`).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from memedge.errors import UsageError
from memedge_engines.manifest import Manifest, Node, NodeInput, NodeOutput, Role, Target

from ..train.fitting import FittedPart
from . import aggregates
from .frame import FIRST

Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Graph:
    """A graph node's module and how it may be exported.

    Attributes:
        module: takes the node's inputs in order, float32 with a batch axis, and gives a tuple of its outputs in order.
        lowest: the lowest precision that is tried; ``reason`` says why it is not int8.
        form: makes the module to export of a copy of ``module`` (3-D convolutions as 2-D ones), or none.
        float_layers: parts of the module (dotted paths) that stay float in int8 lowerings beside the heads.
    """

    module: nn.Module
    lowest: Literal["int8", "fp16", "fp32"] = "int8"
    reason: str = ""
    form: Callable[[nn.Module], nn.Module] | None = None
    float_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Feed:
    """What one node is run on, n times: input name to float32 ``[n, ...]`` as its module takes it (of a host node
    ``[n, last, ...]``), or, for values of nodes that run too, int64 ``[n, last]``: rows of that node's output."""

    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class PartImport:
    """A public checkpoint that fits a part of a system.

    Attributes:
        part: dotted path of the submodule; empty: the whole system.
        origin: what the file is, for people.
        rename: its names and layouts to those of the part's ``state_dict``.
        detect: whether a state looks like such a file; several imports of one part are told apart by it.
        options: what such a file says of the system's options; what is typed goes before it.
    """

    part: str
    origin: str
    rename: Rename
    detect: Callable[[Mapping[str, Tensor]], bool] = lambda state: True
    options: Callable[[Mapping[str, Tensor]], Mapping[str, Any]] = lambda state: {}


class System(nn.Module):
    """A published system as a dataflow.

    Parameters of a system with a single graph node have the names of that module's children (``trunk.``, ``head.``);
    with several, they stand under the node's name (``mid.stage4.``).

    Args:
        nodes: of the manifest, in order, without files.
        graphs: graph node name to its module.
        targets: of the manifest; the first one is primary.
        cuts: between classes, where a score is aggregated from class probabilities.

    Attributes:
        last: dotted paths of the linear layers that give the scores, in the order of the targets: untrained networks
            and the start of training set them to the mean score.
        extractors: host extractors, name to version, that the parameters belong to.
        fitted: parts that are fitted to training data, in this order (:mod:`memedge_export.train.fitting`).
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        graphs: Mapping[str, Graph],
        targets: Sequence[Target],
        *,
        last: Sequence[str] = (),
        cuts: Sequence[float] = (),
        extractors: Mapping[str, str] | None = None,
        fitted: Sequence[FittedPart] = (),
    ) -> None:
        super().__init__()
        wanted = [node.name for node in nodes if node.kind == "graph"]
        if list(graphs) != wanted:
            raise ValueError(f"graphs {list(graphs)}; expected {wanted}")
        self.nodes = tuple(nodes)
        self.graphs = dict(graphs)
        self.system_targets = tuple(targets)
        self.targets = tuple(target.name for target in targets)
        self.last = tuple(last)
        self.cuts = tuple(cuts)
        self.extractors = dict(extractors or {})
        self.fitted = tuple(fitted)
        if len(graphs) == 1:
            module = next(iter(graphs.values())).module
            if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False)):
                raise ValueError("the module of an only graph node keeps its parameters in children, not in itself")
            for name, child in module.named_children():
                self.add_module(name, child)
        else:
            for name, graph in graphs.items():
                self.add_module(name.replace("-", "_"), graph.module)

    def train(self, mode: bool = True) -> System:
        """As :meth:`torch.nn.Module.train`; the modules of an only graph node, too."""
        super().train(mode)
        for graph in self.graphs.values():
            graph.module.training = mode
        return self

    @property
    def dataflow(self) -> Manifest:
        """The nodes and targets as a manifest that has no files: what :func:`memedge_engines.trace.trace` reads."""
        blank: Any = None
        return Manifest(
            schema=1, name="", nodes=self.nodes, targets=self.system_targets, golden=blank, provenance=blank
        )

    def node(self, name: str) -> Node:
        """The node called ``name``; KeyError when there is none."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers that give the scores, in the order of the targets."""
        found = [self.get_submodule(path) for path in self.last]
        return [layer for layer in found if isinstance(layer, nn.Linear)]

    @property
    def embedding(self) -> bool:
        """Whether an output has the role of an embedding."""
        return self.output_of("embedding") is not None

    def output_of(self, role: Role) -> str | None:
        """``node.output`` of the last output with a role, or none."""
        found = [f"{node.name}.{output.name}" for node in self.nodes for output in node.outputs if output.role == role]
        return found[-1] if found else None

    def forward(self, feeds: Mapping[str, Feed], values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Run the graph nodes, and the host nodes behind them, on what they are fed.

        Args:
            feeds: node name to its feed; nodes without one do not run.
            values: ``node.output`` to rows that are known already.

        Returns:
            ``node.output`` to ``[n, ...]``, one row a call.
        """
        found: dict[str, Tensor] = dict(values or {})
        for node in self.nodes:
            if node.name not in feeds:
                continue
            elements: dict[str, Tensor] = {}
            for item in node.inputs:
                rows = feeds[node.name].inputs[item.name]
                if not rows.is_floating_point():
                    rows = found[item.source][rows]
                    rows = rows[:, 0] if node.kind == "graph" and item.last == 1 else rows
                elements[item.name] = rows
            if node.kind == "graph":
                results = self.graphs[node.name].module(*elements.values())
                outputs = {o.name: result for o, result in zip(node.outputs, results, strict=True)}
            else:
                outputs = aggregates.run(node, elements)
            found.update({f"{node.name}.{name}": result for name, result in outputs.items()})
        return found

    def for_loss(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of :meth:`forward` as losses take them: ``score`` ``[B,T]``, and by role and name what the target's
        node gives besides: ``class_logits``, ``alpha``, ``attn``, ``step_scores``."""
        found = {"score": torch.cat([outputs[t.source].float().reshape(-1, 1) for t in self.system_targets], 1)}
        node = self.node(self.system_targets[0].source.partition(".")[0])
        for output in node.outputs:
            rows = outputs[f"{node.name}.{output.name}"].float()
            if output.role == "class_probs":
                found["class_logits"] = rows.clamp(min=1e-12).log()
            elif output.role == "decay":
                found["alpha"] = rows
            else:
                found.setdefault(output.name, rows)
        return found


@dataclass(frozen=True)
class SystemEntry:
    """A registered system.

    Attributes:
        id: as typed after ``--model``.
        build: ``build(width, targets=..., cuts=..., **options)`` makes the network with torch's present random state.
        options: names of its options and their defaults.
        imports: public checkpoints that fit a part of it.
        torchvision: part to the name of torchvision's model whose ImageNet weights fit it (``--weights imagenet``).
    """

    id: str
    build: Callable[..., System]
    options: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[PartImport, ...] = ()
    torchvision: Mapping[str, str] = field(default_factory=dict)


_systems: dict[str, SystemEntry] = {}
_COMMON = ("width", "targets", "cuts")


def register_system(
    *ids: str, imports: Sequence[PartImport] = (), torchvision: Mapping[str, str] | None = None, **fixed: Any
) -> Callable[[Callable[..., System]], Callable[..., System]]:
    """Decorator: register the builder below it under an id, or several with ``fixed`` options set.

    The builder is ``build(width=1.0, *, targets=("short_term",), cuts=(), <option>=<default>, ...)``. Several
    decorators may stand on one builder.
    """

    def decorate(build: Callable[..., System]) -> Callable[..., System]:
        parameters = inspect.signature(build).parameters
        options = {n: p.default for n, p in parameters.items() if n not in _COMMON and n not in fixed}

        def with_fixed(*args: Any, **given: Any) -> System:
            return build(*args, **{**fixed, **given})

        for name in ids:
            if name in _systems:
                raise ValueError(f"system '{name}' is registered twice")
            _systems[name] = SystemEntry(name, with_fixed, options, tuple(imports), dict(torchvision or {}))
        return build

    return decorate


def system_names() -> list[str]:
    """All registered systems, sorted."""
    _load()
    return sorted(_systems)


def system_entry(name: str) -> SystemEntry | None:
    """The system called ``name``, or none."""
    _load()
    return _systems.get(name)


def build_system(
    entry: SystemEntry,
    *,
    seed: int = 0,
    width: float = 1.0,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    options: Mapping[str, Any] | None = None,
) -> System:
    """The network with the initialisation of ``seed``; torch's random state is left as it was.

    Raises:
        UsageError: an option that the system does not have, or a value of another type than the default's.
    """
    given = checked_options(entry, options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry.build(width, targets=tuple(targets), cuts=tuple(cuts), **given).eval()


def checked_options(entry: SystemEntry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a system, values given as text (of ``--option KEY=VALUE``) turned into the default's type.

    Raises:
        UsageError: an unknown option, or text that is no such value.
    """
    found = {}
    for name, value in given.items():
        if name not in entry.options:
            near = difflib.get_close_matches(name, entry.options, 1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            known = ", ".join(sorted(entry.options)) or "none"
            raise UsageError(f"{entry.id} has no option '{name}'{hint} It has {known}")
        found[name] = _value(entry, name, value)
    return found


def read_options(words: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as typed; UsageError for another form or a key that stands twice."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals) or key in found:
            raise UsageError(f"--option '{word}'; expected KEY=VALUE, each key once")
        found[key] = value
    return found


def _value(entry: SystemEntry, name: str, value: Any) -> Any:
    default = entry.options[name]
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
        return type(default)(value)
    except (KeyError, ValueError, TypeError):
        raise UsageError(f"{entry.id}: option {name}={value}; expected a {type(default).__name__}") from None


def graph_node(name: str, inputs: Sequence[NodeInput], outputs: Mapping[str, Role], period_s: float = 0.0) -> Node:
    """A graph node without its files."""
    made = tuple(NodeOutput(name=output, role=role) for output, role in outputs.items())
    return Node(name=name, kind="graph", inputs=tuple(inputs), outputs=made, period_s=period_s)


def _load() -> None:
    from importlib import import_module

    from . import SYSTEM_FILES

    for name in SYSTEM_FILES:
        import_module(f"{__package__}.{name}")
