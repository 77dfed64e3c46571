"""Outputs of a system's frozen parts, computed once and kept, while a phase trains only what stands behind them.

Each record's are computed alone, so that they do not depend on which others were in a batch, and a run that is killed
and resumed gives the same bytes.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from memedge.console import status

from ..models.system import System
from .assembly import RowKey

_MEMORY = 2 << 30
_DISK = 32 << 30


class Memo:
    """Outputs of frozen parts by node and row.

    Args:
        parts: node to the dotted paths of its frozen parts.
        limit_bytes: kept in memory; ``disk_bytes``: further ones in a temporary file; beyond both, parts run each time.
    """

    def __init__(self, parts: Mapping[str, Sequence[str]], limit_bytes: int = _MEMORY, disk_bytes: int = _DISK) -> None:
        self.parts = dict(parts)
        self._limit = limit_bytes
        self._most = limit_bytes + disk_bytes
        self._bytes = 0
        self._kept: dict[tuple[str, RowKey], list[list[Tensor]] | tuple[int, list[list[torch.Size]]]] = {}
        self._file: IO[bytes] | None = None
        self._full = False
        self._bare: dict[str, list[bool]] = {}

    def knows(self, node: str, keys: Sequence[RowKey]) -> bool:
        """Whether the parts of a node need not run for these rows."""
        return node in self.parts and all((node, key) in self._kept for key in keys)

    def agrees(self, other: Memo) -> bool:
        """Whether it knows something that the other knows too, and all such outputs are the same."""
        both = [key for key in self._kept if key in other._kept]
        flat = [[t for key in both for call in memo._get(key) for t in call] for memo in (self, other)]
        return bool(both) and all(torch.equal(one, two) for one, two in zip(*flat, strict=True))

    @contextmanager
    def learning(self, network: System, rows: Mapping[str, Sequence[RowKey]]) -> Iterator[None]:
        """While the network runs each of these nodes once, with gradients, keep what its parts give. A node is dropped
        where that hangs on trained parameters, or has other rows."""
        found: dict[str, list[list[Tensor]]] = {node: [] for node in rows if node in self.parts}
        bare: dict[str, list[bool]] = {node: [] for node in found}
        trained: set[str] = set()

        def listening(node: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_: nn.Module, inputs: Any, output: Any) -> None:
                if any(isinstance(value, Tensor) and value.requires_grad for value in inputs):
                    trained.add(node)
                bare[node].append(isinstance(output, Tensor))
                outputs = [output] if isinstance(output, Tensor) else list(output)
                found[node].append([tensor.detach().cpu() for tensor in outputs])

            return hook

        handles = [
            network.get_submodule(path).register_forward_hook(listening(node))
            for node in found
            for path in self.parts[node]
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for node, calls in found.items():
            if node in trained or any(len(tensor) != len(rows[node]) for call in calls for tensor in call):
                del self.parts[node]
                continue
            self._bare[node] = bare[node]
            for number, key in enumerate(rows[node]):
                self._put((node, key), [[tensor[number].clone() for tensor in call] for call in calls])

    @contextmanager
    def recalling(self, network: System, rows: Mapping[str, Sequence[RowKey]], device: torch.device) -> Iterator[None]:
        """While the network runs each of these nodes once, its parts give what is kept instead of running."""
        patched: list[nn.Module] = []

        def waiting(node: str, keys: Sequence[RowKey]) -> Iterator[Any]:
            kept = [self._get((node, key)) for key in keys]
            for bare, call in zip(self._bare[node], zip(*kept, strict=True), strict=True):
                outputs = tuple(torch.stack(list(column)).to(device) for column in zip(*call, strict=True))
                yield outputs[0] if bare else outputs

        try:
            for node, keys in rows.items():
                if self.knows(node, keys):
                    outputs = waiting(node, keys)
                    for path in self.parts[node]:
                        part = network.get_submodule(path)
                        part.forward = lambda *_, given=outputs: next(given)  # type: ignore[method-assign]
                        patched.append(part)
            yield
        finally:
            for part in patched:
                del part.forward  # the class's own shows again

    def _put(self, key: tuple[str, RowKey], calls: list[list[Tensor]]) -> None:
        size = sum(tensor.nbytes for call in calls for tensor in call)
        if self._full or key in self._kept:
            return
        if self._bytes + size > self._most:
            self._full = True
            status(f"{self._bytes >> 20} MiB of frozen parts' outputs are kept; further ones are computed each time")
            return
        self._bytes += size
        if self._bytes <= self._limit:
            self._kept[key] = calls
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="memedge-")  # noqa: SIM115 - as long as the memo lives
            weakref.finalize(self, self._file.close)
        begin = self._file.seek(0, 2)
        for call in calls:
            for tensor in call:
                self._file.write(tensor.float().numpy().tobytes())
        self._kept[key] = (begin, [[tensor.shape for tensor in call] for call in calls])

    def _get(self, key: tuple[str, RowKey]) -> list[list[Tensor]]:
        kept = self._kept[key]
        if isinstance(kept, list):
            return kept
        begin, shapes = kept
        assert self._file is not None
        self._file.seek(begin)
        return [[self._read(shape) for shape in call] for call in shapes]

    def _read(self, shape: torch.Size) -> Tensor:
        assert self._file is not None
        array = np.frombuffer(self._file.read(4 * shape.numel()), np.float32)
        return torch.from_numpy(array.reshape(shape).copy())


def frozen_parts(network: System) -> dict[str, tuple[str, ...]]:
    """Node to the largest parts of it none of whose parameters is trained and whose outputs depend on their inputs
    alone; parts that several nodes share, and those with a batch-norm in training mode, are left out."""
    owners: dict[nn.Module, list[str]] = {}
    for name, graph in network.graphs.items():
        for module in graph.module.modules():
            owners.setdefault(module, []).append(name)
    found: dict[str, list[str]] = {}
    _collect(network, "", owners, found)
    return {node: tuple(paths) for node, paths in found.items()}


def _collect(
    module: nn.Module, prefix: str, owners: Mapping[nn.Module, list[str]], found: dict[str, list[str]]
) -> None:
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if not parameters:
            continue
        if any(parameter.requires_grad for parameter in parameters):
            _collect(child, f"{prefix}{name}.", owners, found)
        elif len(owners.get(child, ())) == 1 and not any(_moves(inner) for inner in child.modules()):
            found.setdefault(owners[child][0], []).append(prefix + name)


def _moves(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
