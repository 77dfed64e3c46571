from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memedge_export import stored_tensors
from memedge_export.errors import WeightsError
from memedge_export.weights import read_state

ARGUMENTS = argparse.Namespace(sru=4, dimemb=2400, started=datetime.date(2018, 5, 1))


class Touch:
    """Creates a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shared = torch.randn(4, 3)
    return collections.OrderedDict(
        {
            "module.fc.weight": shared,
            "module.fc.same": shared[1:],
            "cap.half": torch.randn(2).half(),
            "cap.count": torch.tensor(7),
            "cap.parameter": torch.nn.Parameter(torch.randn(2, 2).t()),
        }
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tensors_beside_arguments_of_training(tmp_path: Path, zipped: bool) -> None:
    wanted = state()
    content = {
        "epoch": 12,
        "args_dict": ARGUMENTS,
        "best_rec": np.float64(71.4),
        "history": [collections.deque([1, 2]), {ARGUMENTS.sru}],
        "state_dict": wanted,
    }
    path, out = tmp_path / "best.pth.tar", tmp_path / "best.safetensors"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"python -m memedge_export.stored_tensors \S+ best.pth.safetensors"):
        read_state(path)
    assert stored_tensors.main([str(path), str(out)]) == 0
    found, info = read_state(out)
    assert info is None
    assert list(found) == sorted(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor.detach())
        assert found[name].dtype == tensor.dtype


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_nothing_of_the_file_is_executed(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "bad.pth"
    torch.save({"model": state(), "x": Touch(mark)}, path, _use_new_zipfile_serialization=zipped)
    found = stored_tensors.read(path)
    assert not mark.exists()
    assert set(found) == set(state())


def test_names_of_nested_mappings_are_joined(tmp_path: Path) -> None:
    torch.save({"image": {"w": torch.ones(1), "args": ARGUMENTS}, "text": {"w": torch.zeros(2)}}, tmp_path / "n.pth")
    assert {name: t.numel() for name, t in stored_tensors.read(tmp_path / "n.pth").items()} == {
        "image.w": 1,
        "text.w": 2,
    }


def test_files_that_hold_no_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"args": ARGUMENTS}, tmp_path / "args.pth")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("no pickle")
    whole = io.BytesIO()
    torch.save({"model": state(), "args": ARGUMENTS}, whole)
    (tmp_path / "cut.pth").write_bytes(whole.getvalue()[:-200])
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.ones(1, 2)), str(tmp_path / "program.pth"))
    for name, message in {
        "args.pth": "holds no tensors by name",
        "empty.pth": "is an empty file",
        "text.pth": "is no torch file, or damaged",
        "cut.pth": "is no torch file, or damaged",
        "old.pth": "is a tar archive",
        "program.pth": "is a TorchScript program",
        "absent.pth": "cannot read weights",
    }.items():
        assert stored_tensors.main([str(tmp_path / name), str(tmp_path / "out.safetensors")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    torch.save({"model": state()}, tmp_path / "m.pth")
    (tmp_path / "out.safetensors").write_text("mine")
    with pytest.raises(WeightsError, match="exists already"):
        stored_tensors.convert(tmp_path / "m.pth", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_text() == "mine"
