"""Bundles, weights and models that are wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_bundle import edit_manifest
from helpers_cli import inside

Capture = pytest.CaptureFixture[str]


def cut(path: Path, name: str) -> None:
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])


def alter(path: Path, name: str) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 0x10
    (path / name).write_bytes(bytes(data))


def edited(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        edit_manifest(path, edit)

    return change


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda p: shutil.rmtree(p), "no such folder"),
    "a file instead": (lambda p: (shutil.rmtree(p), p.write_text("x")), "folder"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json"),
    "empty manifest": (lambda p: (p / "manifest.json").write_bytes(b""), "manifest"),
    "truncated manifest": (lambda p: cut(p, "manifest.json"), "manifest"),
    "manifest is no JSON": (lambda p: (p / "manifest.json").write_text("nodes: []"), "manifest"),
    "newer schema": (edited(lambda m: m.update(schema=2)), "schema"),
    "unknown field": (edited(lambda m: m.update(colour="blue")), "colour"),
    "missing field": (edited(lambda m: m.pop("targets")), "targets"),
    "path out of the folder": (
        edited(lambda m: m["nodes"][0]["files"]["fp32"].update(file="../model.onnx")), "../model.onnx",
    ),
    "missing graph": (lambda p: (p / "model.onnx").unlink(), "model.onnx"),
    "truncated graph": (lambda p: cut(p, "model.onnx"), "model.onnx"),
    "altered graph": (lambda p: alter(p, "model.onnx"), "altered"),
    "empty graph": (lambda p: (p / "model.onnx").write_bytes(b""), "model.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_bundle_never_scores(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, kind: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny, bundle)
    spoil, message = BROKEN[kind]
    spoil(bundle)
    done = inside(capfd, "run", "--source", clip, "--bundle", bundle, "-q", "--jsonl", tmp_path / "r.jsonl")
    assert done.code == 1
    assert message in done.error
    assert done.out == ""
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize("command", ["info", "verify", "bench"])
def test_other_commands_say_the_same(tmp_path: Path, capfd: Capture, command: str) -> None:
    done = inside(capfd, command, tmp_path / "nowhere")
    assert done.code == 1
    assert "no such folder" in done.error


def test_the_second_of_two_bundles_is_wrong(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    done = inside(capfd, "run", "--source", clip, "--bundle", tiny, "--bundle", tmp_path / "other", "-q")
    assert done.code == 1
    assert "other" in done.error


@pytest.mark.parametrize("name", ["golden.npz", "model.onnx"])
def test_verify_finds_an_altered_file(tiny: Path, tmp_path: Path, capfd: Capture, name: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny, bundle)
    alter(bundle, name)
    done = inside(capfd, "verify", bundle)
    assert done.code == 1
    assert name in done.error
    assert "altered" in done.error


def golden_of(bundle: Path) -> tuple[Path, dict[str, Any]]:
    entry = json.loads((bundle / "manifest.json").read_text())["golden"]["file"]
    path = bundle / entry["file"]
    with np.load(path) as arrays:
        return path, dict(arrays)


def test_verify_finds_a_score_that_was_altered_consistently(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny, bundle)
    assert inside(capfd, "verify", bundle).code == 0
    path, arrays = golden_of(bundle)
    names = [name for name in arrays if "score" in name]
    assert names, sorted(arrays)
    for name in names:
        arrays[name] = np.clip(arrays[name] + 0.1, 0, 1)
    np.savez(path, **arrays)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(bundle, lambda m: m["golden"]["file"].update(sha256=digest))
    done = inside(capfd, "verify", bundle)
    assert done.code == 1
    assert "FAILED" in done.out
    assert "NOT verified" in done.out
    assert "error" not in done.err
    told = json.loads(inside(capfd, "verify", bundle, "--json").out)
    assert told["passed"] is False
    assert any(row["status"] == "failed" for row in told["engines"])


def test_an_engine_that_cannot_run_the_bundle(tiny: Path, clip: Path, capfd: Capture) -> None:
    done = inside(capfd, "run", "--source", clip, "--bundle", tiny, "-q", "--precision", "int8")
    assert done.code == 1
    assert "no int8 lowering; it has fp32" in done.error


def test_a_caller_value_that_no_bundle_takes(tiny: Path, clip: Path, capfd: Capture) -> None:
    done = inside(capfd, "run", "--source", clip, "--bundle", tiny, "-q", "--caller", "size=1")
    assert done.code == 1
    assert "size" in done.error


def test_unknown_model_and_wrong_weights(tmp_path: Path, capfd: Capture) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    done = inside(capfd, "export", "--model", "resnet19", "--out", out)
    assert done.code == 2
    assert "did you mean" in done.error
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("text.pth", "text.safetensors", "empty.pth", "absent.pth"):
        done = inside(capfd, "export", "--model", "resnet-s", "--weights", tmp_path / name, "--out", out)
        assert done.code == 1
        assert name in done.error
    from safetensors.numpy import save_file

    save_file({"fc.weight": np.zeros((1, 3), np.float32)}, tmp_path / "other.safetensors")
    done = inside(capfd, "export", "--model", "resnet-s", "--weights", tmp_path / "other.safetensors", "--out", out)
    assert done.code == 1
    assert "other.safetensors" in done.error
    assert not out.exists()
