"""The systems on DSVE's embedding, trained for a few steps: what is frozen stays, titles are read, the loss falls."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers_sets import gray_memento
from helpers_steps import use_thin
from memedge.titles import tokenise
from memedge_export.models import dsve, squash_preset
from memedge_export.models.system import build_system, system_entry
from memedge_export.train import start
from memedge_export.word_vectors import read_words

LENGTH = 6


@pytest.fixture(scope="module")
def memento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gray_memento(tmp_path_factory.mktemp("memento"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    rng = np.random.default_rng(0)
    names = [
        "caption",
        "of",
        *(f"{n:02d}" for n in range(20)),
        *(str(n) for n in range(20)),
        *(f"v{n}" for n in range(20)),
    ]
    path.write_text("".join(f"{name} {' '.join(f'{v:.4f}' for v in rng.normal(size=620))}\n" for name in names))
    return path


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems of a 32nd of their width, with four blocks, on pictures of 64 x 64 and titles of six words."""
    monkeypatch.setattr(dsve, "_BACKBONES", {"resnet152": (1, 1, 1, 1)})
    monkeypatch.setattr(dsve, "_PRESETS", dict.fromkeys(dsve._PRESETS, squash_preset(64, 64)))
    monkeypatch.setattr(dsve, "TOKENS", LENGTH)
    for name in ("ic-image-text", "semantic-attention"):
        use_thin(monkeypatch, name, 1 / 32)


def losses_of(run: Path) -> list[tuple[str, float]]:
    with (run / "history.csv").open() as file:
        return [(row["phase"], float(row["loss"])) for row in csv.DictReader(file)]


def test_ic_image_text_reads_titles_and_trains_its_head_alone(memento: Path, words: Path, tmp_path: Path) -> None:
    best = start.training(
        "ic-image-text", [f"memento10k:{memento}"], tmp_path / "run", words=words, epochs=6, batch=4, seed=3, threads=1
    )
    entry = system_entry("ic-image-text")
    assert entry is not None
    before, after = build_system(entry, seed=3), load_file(best)
    state = before.state_dict()
    changed = {name.rpartition(".")[0] for name, tensor in state.items() if not torch.equal(tensor, after[name])}
    assert changed == {"image.head.0", "image.head.1", "text.neutral"}
    vocabulary = read_words(words)
    texts = []
    data = json.loads(next(memento.rglob("memento_train_data.json")).read_text())
    for record in data:
        given = vocabulary.encode(tokenise(record["captions"][0]), LENGTH)
        with torch.no_grad():
            tower = before.get_submodule("text.tower").eval()
            texts.append(tower(*(torch.from_numpy(given[key])[None] for key in ("tokens", "token_mask")))[0])
    assert torch.allclose(after["text.neutral.embedding"], torch.stack(texts).mean(0), atol=1e-5)
    found = losses_of(tmp_path / "run")
    assert found[-1][1] < found[0][1]


def test_towers_are_trained_on_titles(memento: Path, words: Path, tmp_path: Path) -> None:
    best = start.training(
        "ic-image-text",
        [f"memento10k:{memento}"],
        tmp_path / "run",
        words=words,
        recipe="dsve-towers",
        options={"embedding": "true"},
        overrides=["phases.embeddings.epochs=6", "phases.all.epochs=2"],
        epochs=1,
        batch=4,
        threads=1,
    )
    assert best.is_file()
    found = losses_of(tmp_path / "run")
    assert [phase for phase, _ in found] == ["embeddings"] * 6 + ["all"] * 2 + ["head"]
    assert found[7][1] < found[0][1]


def test_semantic_attention_trains_its_head_and_then_everything(memento: Path, tmp_path: Path) -> None:
    shorter = [f"phases.{name}.epochs={n}" for name, n in (("head-l1", 3), ("head-rank", 1), ("all", 2))]
    start.training(
        "semantic-attention", [f"memento10k:{memento}"], tmp_path / "run", overrides=shorter, batch=4, threads=1
    )
    found = losses_of(tmp_path / "run")
    assert [phase for phase, _ in found] == ["head-l1"] * 3 + ["head-rank"] + ["all"] * 2
    assert found[2][1] < found[0][1]
    last = load_file(next((tmp_path / "run").rglob("best.safetensors")))
    assert "trunk.attention.conv.weight" in last
