"""What data sets say to systems beside pictures: released features, titles as word vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch

from helpers_sets import gray_videomem
from memedge.errors import UsageError
from memedge_engines.manifest import NodeInput
from memedge_export import weights
from memedge_export.data import Record, open_data
from memedge_export.errors import DataError
from memedge_export.train import state
from memedge_export.train.callers import caller_of
from memedge_export.train.loop import Job, train
from memedge_export.train.recipes import recipe_for
from memedge_export.train.state import Run


def test_heads_learn_from_released_features_without_reading_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)
    root = gray_videomem(tmp_path / "set")
    data = open_data(f"videomem:{root}#split=split.csv")
    folder = root / "dev-set" / "features" / "HMP"
    folder.mkdir(parents=True)
    for record in data.records:
        (folder / f"{record.path.stem}.txt").write_text(f"1:{record.score:.4f} 7:{1 - record.score:.4f} 6075:0.5")
        record.path.write_bytes(b"no video")
    recipe = recipe_for("hmp-mlp-videomem")
    recipe = msgspec.structs.replace(recipe, phases=(msgspec.structs.replace(recipe.phases[0], epochs=4),))
    runs: list[Run] = []
    made = Job("hmp-mlp-videomem", [data], recipe, tmp_path / "run", options={"features": "files"})
    best = train(made, after_epoch=runs.append)
    assert float(runs[-1].history[-1]["loss"]) < 0.8 * float(runs[-1].history[0]["loss"])
    assert runs[-1].best > 0.9
    trained, info = weights.read_state(best)
    assert info is not None
    assert info.options["features"] == "files"
    assert list(info.extractors) == ["mediaeval2018-HMP"]
    # Constants are those of the training part's files.
    scores = np.array([record.score for record in data.split("train")])
    mean = next(tensor for name, tensor in trained.items() if name.endswith("standardise.mean"))
    assert mean[0].item() == pytest.approx(scores.mean(), abs=1e-3)
    assert mean[6].item() == pytest.approx(1 - scores.mean(), abs=1e-3)
    (folder / f"{data.records[0].path.stem}.txt").unlink()
    made.out = tmp_path / "other"
    with pytest.raises(DataError, match="expected the released feature files there"):
        train(made)


def test_titles_become_word_vectors(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a 1 0 0\ncat 0 1 0\nunk 0 0 9\n")
    inputs = (
        NodeInput(name="tokens", source="caller", shape=(4, 3), default=[0.0]),
        NodeInput(name="token_mask", source="caller", shape=(4,), default=[0.0]),
    )
    network = SimpleNamespace(dataflow=SimpleNamespace(nodes=[SimpleNamespace(inputs=inputs)]), extractors={}, nodes=[])
    record = Record("x", tmp_path / "x.webm", 0.5, "train", labels={"caption": ("A-cat-walks",)})
    values = caller_of(network, words)(record)  # type: ignore[arg-type]
    assert values["tokens"].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 9], [0, 0, 0]]
    assert values["token_mask"].tolist() == [1, 1, 1, 0]
    assert caller_of(network, words)(replace(record, labels={})) == {}  # type: ignore[arg-type]
    assert caller_of(network)(record) == {}  # type: ignore[arg-type]
    words.write_text("a 1 0\n")
    with pytest.raises(DataError, match="vectors of 2 numbers; the system takes 3"):
        caller_of(network, words)  # type: ignore[arg-type]
    network.dataflow.nodes = []
    with pytest.raises(UsageError, match="takes no title"):
        caller_of(network, words)  # type: ignore[arg-type]
