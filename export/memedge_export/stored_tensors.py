"""The tensors of a torch file that holds other objects besides, without executing anything of it.

Some public checkpoints (DSVE, SoDeep) store their training arguments as a Python object beside the weights; training
and export refuse such files. This converter writes the tensors to a safetensors file::

    python -m memedge_export.stored_tensors FILE OUT.safetensors

A torch file is a pickle: a program that names functions to call. Here the names of the functions that rebuild tensors
are looked up, and every other name becomes an object that keeps nothing and does nothing. No code of the file's authors
is imported or run; what an object held is lost.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import sys
import tarfile
import types
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memedge.console import print_error, status
from memedge.errors import MemedgeError

from . import checkpoint
from .errors import WeightsError

_STATES = ("model", "state_dict")
_REBUILD = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
_STORAGES = {
    name: getattr(torch, name)
    for name in ("FloatStorage", "HalfStorage", "DoubleStorage", "LongStorage", "IntStorage", "ByteStorage")
}


class _Nothing:
    """Stands for any object that is no tensor: takes whatever a pickle does with it, keeps none of it."""

    dump_patches = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Nothing:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Of a list's subclass."""

    def extend(self, values: Any) -> None:
        """Of a list's subclass."""

    def add(self, value: Any) -> None:
        """Of a set's subclass."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What rebuilds tensors, or :class:`_Nothing`."""
        # CUDA storages are mapped to the CPU's; torch's own unpickler on top of this one knows its storages by name.
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        return _REBUILD.get((module, name), _Nothing)


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of the file's state dict by name: of ``model`` or ``state_dict`` where it has one, else all, under
    the names of the mappings that they lie in, joined by dots.

    Raises:
        WeightsError: it cannot be read, is no torch file, is damaged, or holds no tensors.
    """
    try:
        if path.stat().st_size == 0:
            raise WeightsError(f"weights '{path}' is an empty file")
        _refuse_others(path)
        # torch takes the parts of the pickle module that it uses from here.
        safe: Any = types.ModuleType("pickle")
        safe.Unpickler, safe.load, safe.UnpicklingError = _Unpickler, _load, pickle.UnpicklingError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", pickle_module=safe, weights_only=False)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror or error}") from None
    except Exception as error:  # a pickle can end in any exception, by damage or by intent
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"weights '{path}' is no torch file, or damaged: {what}") from None
    if isinstance(content, Mapping):
        content = next((content[name] for name in _STATES if isinstance(content.get(name), Mapping)), content)
    found = dict(_tensors(content, ""))
    if not found:
        raise WeightsError(f"weights '{path}' holds no tensors by name")
    return found


def _refuse_others(path: Path) -> None:
    """Raise WeightsError for what torch would take on another way than the pickle's: programs and old archives."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise WeightsError(f"weights '{path}' is a TorchScript program; expected a state dict")
    elif tarfile.is_tarfile(path):
        raise WeightsError(f"weights '{path}' is a tar archive; expected a file of torch.save")


def _tensors(content: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content.detach()
    elif isinstance(content, Mapping) and depth < 8:
        for name, value in content.items():
            yield from _tensors(value, f"{prefix}.{name}" if prefix else str(name), depth + 1)


def convert(source: Path, out: Path) -> int:
    """Write the tensors of ``source`` to the safetensors file ``out``; their number.

    Raises:
        WeightsError: see :func:`read`; or ``out`` exists or cannot be written.
    """
    if out.exists():
        raise WeightsError(f"'{out}' exists already; it is left as it is", fix="choose another name")
    state = read(source)
    # Tensors that share memory in the file are separate ones in safetensors.
    checkpoint.save(out, {name: tensor.clone() for name, tensor in state.items()}, None)
    return len(state)


def main(arguments: Sequence[str] | None = None) -> int:
    """The converter as a program; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m memedge_export.stored_tensors",
        description="Write the tensors of a torch file that holds other objects to a safetensors file; run nothing.",
    )
    parser.add_argument("file", type=Path, help="what torch.save wrote")
    parser.add_argument("out", type=Path, help="the safetensors file to write")
    given = parser.parse_args(arguments)
    try:
        count = convert(given.file, given.out)
    except MemedgeError as error:
        print_error(error)
        return 1
    status(f"{count} tensors of '{given.file}' written to '{given.out}'; everything else in it was left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
