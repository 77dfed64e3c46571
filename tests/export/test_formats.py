"""From every data set's format to a score: train, eval, the export that train names, run; through the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers_cli import inside, jsonl
from helpers_sets import gray_memento, gray_videomem, lamem_tree, lnsim_tree, sun_tree
from helpers_training import shrink, write_set

Capture = pytest.CaptureFixture[str]


def lamem(root: Path) -> str:
    return f"lamem:{lamem_tree(root, 40, 16, 8, (1, 2))}#2"


def videomem(root: Path) -> str:
    return f"videomem:{gray_videomem(root)}#split=split.csv"


def memento10k(root: Path) -> str:
    return f"memento10k:{gray_memento(root)}"


def lnsim(root: Path) -> str:
    lnsim_tree(root, 120)
    return f"lnsim:{root}"


def sun(root: Path) -> str:
    sun_tree(root, 240)
    return f"sun:{root}#3"


def folder(root: Path) -> str:
    return f"folder:{write_set(root, 96)}"


def whole_way(
    capfd: Capture,
    tmp_path: Path,
    model: str,
    tree: Callable[[Path], str],
    *how: str,
    fold: str | None = None,
    int8: bool = True,
) -> None:
    """One model on one format, in this process, from the checked set to readings; every command must succeed.

    ``int8``: the export is the one that train names; else the same without its int8 part, which takes most of the time.
    """

    def done(*words: str | Path) -> tuple[str, str]:
        found = inside(capfd, *words)
        assert found.code == 0, (words, found.err)
        return found.out, found.err

    data = tree(tmp_path / "a set")  # a blank in its name, as people have them
    if tree is sun:
        done("data", "unpack", data)
    else:
        # The figures differ from the published ones; but everything is there.
        assert "missing" not in inside(capfd, "data", "check", data).out
    run = tmp_path / "run"
    words = ["--model", model, "--data", data, "--out", run, "--seed", "3", "--threads", "1", *how]
    out, err = done("train", *words, *(("--fold", fold) if fold else ()))
    assert out == f"{run / 'best.safetensors'}\n"
    assert {"best.safetensors", "history.csv", "curves.png"} <= {path.name for path in run.iterdir()}
    (told,) = (line for line in err.splitlines() if line.startswith("next: memedge export "))

    drawn = [
        "--page",
        tmp_path / "page.html",
        "--scatter",
        tmp_path / "scatter.svg",
        "--predictions",
        tmp_path / "p.csv",
    ]
    of_network = json.loads(done("eval", run, "--data", data, "--json", "--record", *drawn)[0])["results"][0]
    assert of_network["split"].startswith("test")
    assert of_network["figures"]["count"] >= 4

    # Small sets cannot calibrate as many frames as real ones do.
    few = ["--calib-frames", "32", "--gate-frames", "8", "--allow-small-gate", "--calib-method", "minmax", "--allow"]
    export = shlex.split(told.removeprefix("next: memedge "))
    bundle = tmp_path / "bundle"
    assert export[-3:] == ["--int8", "--calib", data]
    done(*(export + few if int8 else export[:-3]), "--out", bundle)
    done("verify", bundle)
    of_bundle = json.loads(done("eval", bundle, "--data", data, "--json", "--precision", "fp32")[0])["results"][0]
    assert of_bundle["figures"]["mse"] == pytest.approx(of_network["figures"]["mse"], abs=1e-4)

    suffixes = {".webm", ".mp4", ".png", ".jpg"}
    source = next(path for path in sorted((tmp_path / "a set").rglob("*")) if path.suffix in suffixes)
    done("run", "--source", source, "--bundle", bundle, "--jsonl", tmp_path / "readings.jsonl", "--quiet")
    readings, (summary,) = jsonl(tmp_path / "readings.jsonl")
    assert all(0 <= reading["score"] <= 1 for reading in readings)
    assert summary["frames_scored"] == len(readings) >= 1


def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    """One format on a small network."""
    shrink(monkeypatch)
    whole_way(capfd, tmp_path, "resnet-s", folder, int8=False)


@pytest.mark.slow
@pytest.mark.parametrize("tree", [lamem, videomem, memento10k, lnsim, sun, folder])
@pytest.mark.parametrize(("model", "fold"), [("resnet-s", None), ("resnet18", "1/2")])
def test_the_whole_way_of_every_format(
    model: str, fold: str | None, tree: Callable[[Path], str], tmp_path: Path, capfd: Capture
) -> None:
    """The networks at their full size, resnet18 on a fold."""
    how = ["--epochs", "1", "--set", "phases.head.epochs=1", "--batch", "8"]
    whole_way(capfd, tmp_path, model, tree, *how, fold=fold)
