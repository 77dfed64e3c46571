from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from memedge_export.errors import WeightsError
from memedge_export.npz_state import is_npz
from memedge_export.weights import read_state


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


def test_numbers_are_read_and_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    weight = np.arange(6.0).reshape(2, 3)
    bombs = np.array([_Bomb()], dtype=object)
    np.savez_compressed(path, W=weight.astype(">f8"), gamma=np.float64(0.5), options=bombs, text=np.array("x"))
    state, info = read_state(path)
    assert info is None
    assert set(state) == {"W", "gamma"}
    assert torch.equal(state["W"], torch.from_numpy(weight))
    assert state["gamma"].shape == ()


def test_torchs_own_archives_are_still_torchs(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(2)}, path)
    assert not is_npz(path)
    assert torch.equal(read_state(path)[0]["a"], torch.ones(2))


def test_damaged_files_and_files_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, W=np.random.default_rng(0).normal(size=(50, 50)))
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 255
    path.write_bytes(middle)
    with pytest.raises(WeightsError, match="damaged"):
        read_state(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        read_state(path)
    np.savez(path, name=np.array("vgg"))
    with pytest.raises(WeightsError, match="holds no arrays of numbers"):
        read_state(path)
