"""The out-of-domain flag: a bundle's own statistics, on pictures and on a stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import memedge
from helpers_bundle import edit_manifest, make_frame_bundle
from memedge.cli import main
from memedge.domain import distance
from memedge.pictures import generate


def embeddings(folder: Path, pictures: list[np.ndarray]) -> np.ndarray:
    with memedge.load(folder) as scorer:
        return np.stack([score.outputs["model.embedding"].ravel() for score in scorer.score_batch(pictures)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows bright pictures."""
    folder = make_frame_bundle(tmp_path_factory.mktemp("domain") / "b").path
    known = embeddings(folder, [np.clip(p.astype(int) // 4 + 180, 0, 255).astype(np.uint8) for p in generate(24, 3)])
    block = {
        "from": "model.embedding",
        "mean": known.mean(0).tolist(),
        "std": (known.std(0) + 1e-3).tolist(),
        "threshold": 3.0,
    }

    def add(manifest: dict) -> None:
        manifest["domain"] = block

    edit_manifest(folder, add)
    return folder


def test_distance_is_the_standardised_root_mean_square() -> None:
    assert distance([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], [1.0, 0.5, 3.0]) == pytest.approx(np.sqrt((0 + 4 + 1) / 3))


def test_pictures_unlike_the_known_ones_are_flagged(bundle: Path) -> None:
    bright = np.full((60, 80, 3), 220, np.uint8) - np.arange(80, dtype=np.uint8)[:, None] // 3
    dark = np.zeros((60, 80, 3), np.uint8)
    with memedge.load(bundle) as scorer:
        known, unknown = scorer.score_batch([bright, dark])
    assert "out_of_domain" not in known.flags
    assert "out_of_domain" in unknown.flags


def test_readings_of_a_stream_carry_it(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    for number, value in enumerate((215, 0)):
        from PIL import Image

        Image.fromarray(np.full((60, 80, 3), value, np.uint8)).save(tmp_path / f"{number}.png")
        arguments = ["run", "--source", str(tmp_path / f"{number}.png"), "--bundle", str(bundle), "--quiet"]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--no-tune", "--jsonl", str(out)])
        assert not ended.value.code
        reading, last = [json.loads(line) for line in out.read_text().splitlines()]
        assert ("out_of_domain" in reading["flags"]) == (value == 0)
        assert last["summary"]["flags"].get("out_of_domain", 0) == (value == 0)


def test_statistics_of_another_length_are_an_error(bundle: Path, tmp_path: Path) -> None:
    folder = make_frame_bundle(tmp_path / "b").path
    edit_manifest(
        folder, lambda m: m.update(domain={"from": "model.embedding", "mean": [0.0], "std": [1.0], "threshold": 1.0})
    )
    with memedge.load(folder) as scorer, pytest.raises(memedge.MemedgeError, match="domain block has 1"):
        scorer.score(np.zeros((60, 80, 3), np.uint8))
