"""Host nodes: feature extractors and aggregates that run on the CPU beside the graphs, found by name.

A host node takes its gathered inputs and returns named outputs. Other packages register theirs with :func:`register`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError
from .manifest import Node

Values = Mapping[str, Sequence[NDArray[Any]]]
HostNode = Callable[[Values, Node], dict[str, NDArray[np.float32]]]
_REGISTRY: dict[str, HostNode] = {}


def register(name: str) -> Callable[[HostNode], HostNode]:
    """Register a host node: a function of (input name -> elements, oldest first; the node) to output name -> array."""

    def keep(function: HostNode) -> HostNode:
        _REGISTRY[name] = function
        return function

    return keep


def find(node: Node) -> HostNode:
    """The function behind an extractor or aggregate node.

    Raises:
        BundleError: this memedge has none of that name, or another version of it.
    """
    from . import features  # it registers its own here

    name = node.extractor or ""
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise BundleError(f"node '{node.name}': no host node '{name}'{hint} There are {', '.join(sorted(_REGISTRY))}")
    features.check(node)
    return _REGISTRY[name]


def _stacked(values: Values) -> NDArray[np.float64]:
    return np.stack([np.asarray(v, np.float64) for elements in values.values() for v in elements])


@register("mean")
def mean(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """Arithmetic mean over all elements of all inputs; one output."""
    return {node.outputs[0].name: _stacked(values).mean(0).astype(np.float32)}


@register("median")
def median(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """Median over all elements of all inputs; one output."""
    return {node.outputs[0].name: np.median(_stacked(values), 0).astype(np.float32)}


@register("weighted")
def weighted(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """Sum of each input's mean times the option ``weight.<input>`` (1 where not given); one output."""
    total: NDArray[np.float64] | float = 0.0
    for name, elements in values.items():
        weight = float(node.options.get(f"weight.{name}", 1.0))
        total = total + weight * np.stack([np.asarray(v, np.float64) for v in elements]).mean(0)
    return {node.outputs[0].name: np.asarray(total, np.float32)}
