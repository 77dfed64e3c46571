"""Weights in NumPy's ``.npz``: Theano models and the arrays of a fitted scikit-learn model."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import WeightsError

_NUMBERS = "fiub"


def is_npz(path: Path) -> bool:
    """Whether a zip archive holds NumPy arrays; torch's files are zip archives, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def read_npz(path: Path) -> dict[str, Tensor]:
    """Arrays of numbers by name, as they are; arrays of objects and text are left out and never unpickled.

    Raises:
        WeightsError: damaged, or no numbers in it.
    """
    found = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    array = archive[name]
                except ValueError as error:
                    # What np.load says of an array of objects; another ValueError is a damaged array.
                    if "allow_pickle" in str(error):
                        continue
                    raise
                if array.dtype.kind in _NUMBERS:
                    found[name] = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"weights '{path}' is damaged or cut short: {str(error).splitlines()[0]}") from None
    if not found:
        raise WeightsError(f"weights '{path}' holds no arrays of numbers")
    return found
