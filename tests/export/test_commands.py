from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from helpers_training import write_set
from memedge.errors import UsageError
from memedge.loading import DEFAULT_BUNDLE
from memedge_export import models
from memedge_export.commands import eval as eval_command
from memedge_export.commands import export as export_command
from memedge_export.commands import train as train_command
from memedge_export.errors import TrainingError
from memedge_export.train import recipes, sorter


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The three commands in an empty folder, on a resnet-s of a quarter of its width and 16 pixels."""
    entry = models.entry("resnet-s")
    small = models.ModelEntry(entry.id, lambda width: entry.build(0.25 * width), models.squash_preset(16, 16))
    monkeypatch.setitem(models._entries, "resnet-s", small)
    ours = recipes.named()["resnet-s"]
    first, last = ours.phases
    short = msgspec.structs.replace(ours, phases=(msgspec.structs.replace(first, epochs=1), last), batch=8)
    monkeypatch.setitem(recipes.named(), "resnet-s", short)
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    for name, module in (("train", train_command), ("eval", eval_command), ("export", export_command)):
        app.command(name)(module.command)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


def test_train_evaluate_export_evaluate(run: Callable[..., Result], tmp_path: Path) -> None:
    table = write_set(tmp_path / "set", 80)
    data = f"folder:{table}"
    trained = run("train", "--model", "resnet-s", "--data", data, "--epochs", "2", "--seed", "4", "--threads", "1")
    assert trained.exit_code == 0, trained.output
    best = Path(trained.stdout.strip())
    assert best == Path("runs/resnet-s/list-seed4/best.safetensors")
    figures = run("eval", str(best), "--data", data, "--json", "--record")
    assert figures.exit_code == 0, figures.output
    by_torch: dict[str, Any] = json.loads(figures.stdout)["results"][0]["figures"]
    assert by_torch["count"] == 20
    exported = run("export", "--model", "resnet-s", "--fp32")
    assert exported.exit_code == 0, exported.output
    assert exported.stdout.strip() == "resnet-s-fp32"
    assert f"weights of the newest run: {best}" in exported.stderr
    by_bundle = run("eval", "resnet-s-fp32", "--data", data, "--split", "test")
    assert f"{by_torch['spearman']:.3f}" in by_bundle.stdout
    card = (tmp_path / "resnet-s-fp32" / "model_card.md").read_text()
    assert "list test (20 pictures)" in card
    assert "memedge train --model resnet-s --data folder:list.csv --epochs 2 --seed 4" in card
    assert str(tmp_path) not in card
    again = run("train", "--model", "resnet-s", "--data", data, "--epochs", "2", "--seed", "4", "--resume")
    assert again.exit_code == 0
    assert again.stdout == trained.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--model", "resnet-s", "--precision", "int4"], "precision 'int4'"),
        (["export", "--model", "resnet-s", "--calib", "x"], "belong to --int8 or --fp16"),
        (["export", "--model", "resnet-s", "--int8", "--calib-method", "best"], "--calib-method best"),
        (["export", "--model", "resnet-s", "--int8", "--calib-frames", "3"], "expected at least 32"),
        (["export", "--model", "resnet-s", "--int8", "--gate-frames", "0"], "expected at least 8"),
        (["export", "--model", "resnet-s", "--int8", "--trt-body", "fp8"], "--trt-body fp8"),
        (["export", "--model", "resnet-s", "--int8", "--ranges", "r", "--calib-method", "minmax"], "--ranges"),
        (["export", "--model", "resnet-s", "--fp32", "--precision", "int8"], "contradicts --fp32"),
        (["export", "--model", "resnet-x"], "did you mean"),
        (["export", "--model", "resnet-s", "--seed", "-1"], "expected 0 or more"),
        (["export", "--model", "resnet-s", "--name", "a/b"], "bundle name 'a/b'"),
        (["train", "--model", "resnet-s", "--data", "lnsim:x", "--epochs", "0"], "--epochs 0"),
        (["train", "--model", "resnet-s", "--data", "lnsim:x", "--batch", "-1"], "--batch -1"),
        (["train", "--model", "resnet-s", "--data", "lnsim:x", "--threads", "-1"], "--threads -1"),
        (["train", "--model", "resnet-s", "--data", "lnsim:x", "--data", "tiny32:y"], "stands alone"),
        (["train", "--model", "resnet-s", "--data", "tiny32:y", "--init", "x"], "exclude each other"),
        (["train", "--model", "resnet-s", "--data", "tiny32:y", "--devices", "2"], "not to pretraining"),
        (["train", "--model", "resnet-s"], "--model and --data are needed"),
        (["train", "--sorter", "s.safetensors", "--model", "resnet-s"], "--sorter trains no model"),
        (["train", "--sorter", "s.safetensors", "--resume"], "--sorter trains no model"),
        (["train", "--sorter", "s.pt"], "ends in .safetensors"),
        (["train", "--sorter", "none/s.safetensors"], "in an existing folder"),
        (["train", "--sorter", "s.safetensors", "--batch", "1"], "--batch 1; expected 2 or more"),
        (["eval", "x", "--data", "lnsim:x", "--split", "dev"], "--split dev"),
        (["eval", str(DEFAULT_BUNDLE), "--data", "lnsim:x", "--record"], "a bundle cannot be changed"),
        (["eval", "x", "--data", "lnsim:x", "--data", "lnsim:y", "--record"], "--record takes one checkpoint"),
        (["eval", "x", "--data", "lnsim:x", "--sampling", "S9"], "--sampling S9"),
    ],
)
def test_bad_usage(run: Callable[..., Result], arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_sorter_is_trained_and_used(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch,
                                      tmp_path: Path) -> None:  # fmt: skip
    """A small one for a few steps; the recipe's batch must be the length that it was trained for."""
    monkeypatch.setattr(sorter, "train_sorter", functools.partial(sorter.train_sorter, hidden=8, steps=3))
    trained = run("train", "--sorter", "s.safetensors", "--batch", "8", "--device", "cpu", "--seed", "2")
    assert trained.exit_code == 0, trained.output
    assert trained.stdout == "s.safetensors\n"
    assert "use it with --batch 8" in trained.stderr
    words = ["train", "--model", "resnet-s", "--data", f"folder:{write_set(tmp_path / 'set', 24)}", "--epochs", "1"]
    words += ["--set", "phases.all.loss.kind=sodeep", "--set", "phases.all.loss.sorter=s.safetensors"]
    used = run(*words)
    assert used.exit_code == 0, used.output
    other = run(*words, "--batch", "4", "--out", "other")
    assert isinstance(other.exception, TrainingError)
    assert "takes 8 scores, the batch has 4" in str(other.exception)


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from memedge_export.commands import train, eval, export, table;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'onnx', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


@pytest.mark.parametrize(("model", "suits"), [("resnet18", True), ("c3d-mlp", True), ("colorhist-mlp", False)])
def test_what_follows_a_training_names_int8_only_where_it_is_made(model: str, suits: bool) -> None:
    from memedge_export.commands.train import _suits_int8

    assert _suits_int8(model, {}) is suits
