"""Runs in the lean environment alone: see `tests/test_lean_py310.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from helpers_lean import command


def test_this_environment_is_lean() -> None:
    assert sys.version_info[:2] == (3, 10)
    assert int(np.__version__.split(".")[0]) == 1
    assert onnxruntime.__version__ == "1.23.2"
    for name in ("torch", "onnx", "cv2", "scipy", "matplotlib", "openvino"):
        assert importlib.util.find_spec(name) is None, f"{name} is installed"


@pytest.mark.parametrize("name", ["train", "eval", "export"])
def test_commands_of_the_export_extra_say_what_to_install(name: str, tmp_path: Path) -> None:
    words: dict[str, tuple[str | Path, ...]] = {
        "train": ("--model", "resnet18", "--data", f"lnsim:{tmp_path}"),
        "eval": (tmp_path, "--data", f"lnsim:{tmp_path}"),
        "export": ("--model", "resnet18", "--out", tmp_path / "bundle"),
    }
    done = command(name, *words[name], code=1)
    assert "pip install 'memedge[export]'" in done.stderr
