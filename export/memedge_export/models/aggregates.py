"""Host nodes behind graph nodes, in torch: the aggregates of memedge_engines.extractors so that gradients pass through
them, and any other host node as it is, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from memedge_engines import extractors
from memedge_engines.manifest import Node

Elements = Mapping[str, Tensor]
"""Input name to ``[n, last, ...]``, oldest first."""


def _all(values: Elements) -> Tensor:
    return torch.cat(list(values.values()), 1)


def _mean(values: Elements, node: Node) -> Tensor:
    return _all(values).mean(1)


def _median(values: Elements, node: Node) -> Tensor:
    # torch.median takes the lower of two middle values; the runtime's is their mean.
    ordered = _all(values).sort(1).values
    count = ordered.shape[1]
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2


def _weighted(values: Elements, node: Node) -> Tensor:
    weights = {name: float(node.options.get(f"weight.{name}", 1.0)) for name in values}
    return torch.stack([weights[name] * elements.mean(1) for name, elements in values.items()]).sum(0)


_TWINS: Mapping[str, Callable[[Elements, Node], Tensor]] = {"mean": _mean, "median": _median, "weighted": _weighted}


def differentiable(node: Node) -> bool:
    """Whether gradients pass through a host node."""
    return node.extractor in _TWINS


def run(node: Node, values: Elements) -> dict[str, Tensor]:
    """A host node on n rows: output name to ``[n, ...]``.

    Raises:
        BundleError: this memedge has no such host node.
    """
    twin = _TWINS.get(node.extractor or "")
    if twin is not None:
        return {node.outputs[0].name: twin(values, node)}
    function = extractors.find(node)
    count = len(next(iter(values.values())))
    arrays = {name: elements.detach().cpu().numpy() for name, elements in values.items()}
    rows = [function({name: list(array[row]) for name, array in arrays.items()}, node) for row in range(count)]
    device = next(iter(values.values())).device
    return {o.name: torch.stack([torch.from_numpy(row[o.name]) for row in rows]).to(device) for o in node.outputs}
