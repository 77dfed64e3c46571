"""MATLAB files, version 5 to 7; version 7.3 is HDF5 and is refused with what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_variable(path: Path, name: str) -> Any:
    """One variable; structs are dicts, cells and struct arrays are arrays of them.

    Raises:
        DataError: no such file, another kind of file, a damaged one, or none with this variable.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"there is no '{path}'; expected a MATLAB file with the variable {name}")
    try:
        with path.open("rb") as file:
            head = file.read(520)
        if head.startswith(_HDF5) or head[512:].startswith(_HDF5):
            raise DataError(
                f"'{path}' is of MATLAB version 7.3 (HDF5), which is not read",
                fix="save it from MATLAB with -v7, or take the copy of the original release",
            )
        found = loadmat(path, variable_names=[name], simplify_cells=True)
    except DataError:
        raise
    except Exception as error:  # SciPy raises whatever a damaged file leads to
        raise DataError(f"'{path}' cannot be read as a MATLAB file: {error or type(error).__name__}") from None
    if name not in found:
        raise DataError(f"'{path}' has no variable {name}; expected it there")
    return found[name]


def read_matrix(path: Path, name: str, columns: int | None = None) -> NDArray[np.float64]:
    """A matrix of numbers, float64 ``[R, columns]``; one row is a matrix, too.

    Raises:
        DataError: as :func:`read_variable`, or another shape.
    """
    found = np.atleast_2d(np.asarray(read_variable(path, name)))
    if found.ndim != 2 or found.dtype.kind not in "iuf" or (columns is not None and found.shape[1] != columns):
        wanted = f"[R, {columns}]" if columns is not None else "a matrix"
        raise DataError(f"'{path}': {name} is {found.dtype} {list(found.shape)}; expected numbers {wanted}")
    return found.astype(np.float64)


def read_halves(folder: Path, columns: int | None = None) -> NDArray[np.float64]:
    """``subject_hrs1.mat`` and ``subject_hrs2.mat``: scores by two halves of the people, float64 ``[2, R, columns]``.

    Raises:
        DataError: as :func:`read_matrix`, or the two differ in shape.
    """
    one, two = (read_matrix(folder / f"subject_hrs{n}.mat", f"subject_hrs{n}", columns) for n in (1, 2))
    if one.shape != two.shape:
        raise DataError(
            f"'{folder}': subject_hrs1 {list(one.shape)}, subject_hrs2 {list(two.shape)}; expected the same"
        )
    return np.stack([one, two])
