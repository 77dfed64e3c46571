"""Perceptrons on fixed features, trained by their recipes on released files and on features of the videos."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from helpers_sets import GRAY_LEVELS, gray_videomem
from memedge_export.data.released_inputs import released_inputs
from memedge_export.errors import DataError, ExportError
from memedge_export.models.system import build_system, system_entry
from memedge_export.system_bundle import export_system
from memedge_export.train import start, state


@pytest.fixture(scope="module")
def videomem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen videos with features that follow their scores."""
    root = gray_videomem(tmp_path_factory.mktemp("videomem"))
    folder = root / "dev-set" / "features"
    rng = np.random.default_rng(0)
    for path, level in zip(sorted((root / "dev-set" / "sources").iterdir()), GRAY_LEVELS, strict=True):
        _put(folder / "HMP" / f"{path.stem}.txt", f"1:{level:.4f} 82:{1 - level:.4f} 6075:{rng.random():.4f} \n")
        _put(folder / "C3D" / f"{path.stem}.txt", " ".join(f"{v:.6f}" for v in rng.random(101) * level))
        _put(
            folder / "aesthetic_visual_features" / "aesthetic_feat_dev-set_mean" / f"{path.stem}.txt",
            ",".join(f"{v:.6f}" for v in np.full(109, level)),
        )
        for frame in (0, 56, 112):
            values = rng.random(122) * level
            _put(folder / "LBP" / f"{path.stem}-{frame}.txt", " ".join(f"{v:.6f}" for v in values))
            rows = "\n".join(f"{int(200 * level) + channel}:100 {frame}:300" for channel in range(3))
            _put(folder / "ColorHistogram" / f"{path.stem}-{frame}.txt", rows + "\n")
    return root


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)


def train(name: str, videomem: Path, out: Path, epochs: int, **options: str) -> tuple[list[float], Path]:
    """Losses of the epochs, and the best checkpoint."""
    data = [f"videomem:{videomem}#split=split.csv"]
    best = start.training(name, data, out, epochs=epochs, seed=3, threads=1, options=options)
    with (out / "history.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)], best


def test_released_features_of_a_video(videomem: Path) -> None:
    entry = system_entry("c3d-lbp-aesthetics-mlp")
    assert entry is not None
    system = build_system(entry, options={"features": "files"})
    video = videomem / "dev-set" / "sources" / sorted(p.name for p in (videomem / "dev-set" / "sources").iterdir())[0]
    found = released_inputs(system, video)
    assert {name: array.shape for name, array in found.items()} == {
        "C3D": (101,),
        "LBP": (3, 122),
        "aesthetic_mean": (109,),
    }
    numbers = [float(word) for word in (videomem / "dev-set/features/LBP" / f"{video.stem}-56.txt").read_text().split()]
    np.testing.assert_allclose(found["LBP"][1], numbers, rtol=1e-6)
    assert released_inputs(build_system(entry, options={"features": "live"}, width=0.02), video) == {}
    with pytest.raises(DataError, match="does not lie in a folder 'sources'"):
        released_inputs(system, videomem / "elsewhere" / video.name)


def test_released_colour_counts_become_shares(videomem: Path) -> None:
    entry = system_entry("colorhist-mlp")
    assert entry is not None
    video = next((videomem / "dev-set" / "sources").iterdir())
    shares = released_inputs(build_system(entry, options={"features": "files"}), video)["ColorHistogram"]
    np.testing.assert_allclose(shares.reshape(3, 3, 256).sum(2), 1, rtol=1e-6)
    assert shares.max() == pytest.approx(0.75)


@pytest.mark.parametrize("name", ["hmp-mlp-videomem", "colorhist-mlp"])
def test_trained_on_files(name: str, videomem: Path, tmp_path: Path) -> None:
    losses, best = train(name, videomem, tmp_path / "run", 6, features="files")
    assert min(losses[1:]) < losses[0]
    weights = load_file(best)
    assert (weights["standardise.std"] != 1).any()
    with safe_open(best, "pt") as file:
        assert "mediaeval2018-" in str(file.metadata())
    entry = system_entry(name)
    assert entry is not None
    with pytest.raises(ExportError, match="MediaEval 2018's files"):
        export_system(entry, [str(best)], tmp_path / "bundle")


def test_a_missing_file_is_named(videomem: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(videomem, copy)
    shutil.rmtree(copy / "dev-set" / "features" / "HMP")
    with pytest.raises(DataError, match=r"there is no '.*HMP.*txt'; expected the released feature files there"):
        train("hmp-mlp", copy, tmp_path / "run", 1, features="files")


def test_trained_on_the_videos(videomem: Path, tmp_path: Path) -> None:
    losses, best = train("aesthetics-mlp", videomem, tmp_path / "run", 6)
    assert min(losses[1:]) < losses[0]
    entry = system_entry("aesthetics-mlp")
    assert entry is not None
    fresh = build_system(entry, seed=3).state_dict()
    after = load_file(best)
    assert {name for name, tensor in fresh.items() if not torch.equal(tensor, after[name])} == set(fresh)
