"""Reading the npz files of a bundle: no pickles, and nothing that unpacks to more than a bound."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError

# An array that another machine made must not need more than this to unpack: a picture of 16384 x 16384 RGB.
LARGEST_ARRAY = 1 << 30
# What numpy and zipfile raise for bytes that are no npz, or that claim arrays larger than memory.
_NOT_NPZ = (
    OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_arrays(data: bytes, where: str, what: str) -> dict[str, NDArray[Any]]:
    """All arrays of an npz file by name; ``where`` and ``what`` name the file in errors.

    Raises:
        BundleError: no npz, a pickled array, or one that unpacks to more than 1 GiB.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            _check_sizes(data, where)
            return {name: np.asarray(file[name]) for name in file.files}
    except BundleError:
        raise
    except _NOT_NPZ as error:
        raise BundleError(f"{where} is not a {what}: {error}", fix="export the bundle again") from None


def _check_sizes(data: bytes, where: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.file_size > LARGEST_ARRAY:
                raise BundleError(
                    f"{where}: '{info.filename}' unpacks to {info.file_size} bytes; at most {LARGEST_ARRAY}"
                )
