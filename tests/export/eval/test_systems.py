"""Checkpoints of systems evaluated: on videos as a device scores them, on pictures, beside frame models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from helpers_eval import write_checkpoint, write_clips
from helpers_systems import ENTRIES
from helpers_training import write_set
from memedge.errors import UsageError
from memedge_engines.manifest import Training
from memedge_export.checkpoint import CheckpointInfo, read_info, save
from memedge_export.commands import train as train_command
from memedge_export.data import open_data
from memedge_export.eval.session import Request, evaluation
from memedge_export.models import system
from memedge_export.models.system import build_system
from memedge_export.train import recipes, start, state
from memedge_export.train.recipe import Phase, Recipe
from memedge_export.train.system_feed import SystemValidationFeed
from memedge_export.weights import read_state


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for entry in ENTRIES.values():
        monkeypatch.setitem(system._systems, entry.id, entry)


def checkpoint(path: Path, key: str) -> Path:
    network = build_system(ENTRIES[key], seed=4)
    with torch.no_grad():
        network.linears[0].bias.fill_(0.4)
    info = CheckpointInfo(model=f"tiny-{key}", training=Training(status="trained"), extractors=network.extractors)
    save(path, network.state_dict(), info)
    return path


def test_videos_are_scored_as_in_validation_and_beside_frame_models(tmp_path: Path) -> None:
    table = write_clips(tmp_path / "clips")
    paths = [checkpoint(tmp_path / f"{key}.safetensors", key) for key in ENTRIES]
    paths.append(write_checkpoint(tmp_path / "frames.safetensors", targets=("short_term",)))
    report, (part,) = evaluation(Request(targets=tuple(paths), data=(f"folder:{table}",), split="all"))
    records = open_data(f"folder:{table}").split("all")
    for key in ENTRIES:
        network = system.build_system(ENTRIES[key])
        state_of, _ = read_state(tmp_path / f"{key}.safetensors")
        network.load_state_dict(state_of)
        expected = SystemValidationFeed(network, records).predict(network)[:, 0]
        assert part.predicted[key]["short_term"] == pytest.approx(expected, abs=1e-6)
        assert np.ptp(expected) > 0
    sampling = {result.model: result.sampling for result in report.results}
    assert (sampling["sequence"], sampling["frame"], sampling["frames"]) == ("S4", "S7", "S7")


def test_pictures_are_scored_and_the_result_is_recorded(tmp_path: Path) -> None:
    from memedge_export.eval.session import run

    table = write_set(tmp_path, 12)
    path = checkpoint(tmp_path / "hybrid.safetensors", "hybrid")
    report = run(Request(targets=(path,), data=(f"folder:{table}",), split="all", record=True, as_json=True))
    assert report.results[0].figures.count == 12
    _, info = read_state(path)
    assert info is not None
    assert info.training.spearman == report.results[0].figures.spearman
    assert read_info(None, path) is None


def test_the_command_line_trains_a_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)
    tiny = Recipe(phases=(Phase(name="head", epochs=1, rates={"head": 1e-2}),), models=("tiny-hybrid",), batch=4)
    monkeypatch.setitem(recipes.named(), "tiny", tiny)
    table = write_set(tmp_path, 16)
    words = ["--model", "tiny-hybrid", "--data", f"folder:{table}", "--option", "weight=0.5"]
    app = typer.Typer()
    app.command()(train_command.command)
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run"), "--seed", "3"])
    assert result.exception is None, result.output
    _, info = read_state(tmp_path / "run" / "best.safetensors")
    assert info is not None
    assert info.options == {"weight": 0.5}
    assert "--model tiny-hybrid --data folder:list.csv --option weight=0.5 --seed 3" in info.training.notes
    again = [*words[:4], "--init", str(tmp_path / "run/best.safetensors"), "--out", str(tmp_path / "more")]
    result = CliRunner().invoke(app, again)
    assert result.exception is None, result.output
    _, info = read_state(tmp_path / "more" / "best.safetensors")
    assert info is not None
    assert info.options == {"weight": 0.5}
    for wrong in (
        ["--option", "weight"],
        ["--option", "weight=1", "--option", "weight=2"],
        ["--option", "weight=much"],
    ):
        result = CliRunner().invoke(app, [*words[:4], *wrong, "--out", str(tmp_path / "wrong")])
        assert isinstance(result.exception, UsageError)


def test_frame_models_have_no_options(tmp_path: Path) -> None:
    table = write_set(tmp_path, 16)
    for more in ({"options": {"a": "b"}}, {"init": ("a", "b")}, {"words": Path("words.txt")}):
        with pytest.raises(UsageError, match="has no options, takes no words and one --init"):
            start.training("resnet-s", [f"folder:{table}"], tmp_path / "run", **more)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"model 'tiny-frm' is not known; did you mean 'tiny-frame'\?"):
        start.training("tiny-frm", [f"folder:{table}"], tmp_path / "run")
    with pytest.raises(UsageError, match="'tiny-frame' is a system of nodes"):
        start.pretraining("tiny-frame", f"tiny32:{tmp_path}", tmp_path / "run")
