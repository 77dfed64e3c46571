"""Records that nobody scored, such as a task's test set: in every format that has them, predicted into a run file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from helpers_cli import inside
from helpers_eval import write_checkpoint
from helpers_sets import gray_clips, memento_record, memento_tree, videomem_table
from helpers_training import write_set
from memedge.errors import UsageError
from memedge_export.data.readers import open_data
from memedge_export.errors import DataError
from memedge_export.eval.outputs import Outputs
from memedge_export.eval.session import Request, evaluation


def videomem(root: Path, table: bool) -> Path:
    """Three scored development videos and two test videos, in a table of bare numbers without scores or in none."""
    gray_clips(root / "dev-set" / "sources", (0.2, 0.5, 0.8), seconds=1)
    rows = [f"video{n}.webm,0.{n},36,0.5,12" for n in (1, 2, 3)]
    videomem_table(root / "dev-set" / "ground-truth" / "ground-truth_dev-set.csv", rows)
    first, second = gray_clips(root / "test-set" / "sources", (0.3, 0.7), seconds=1)
    first.rename(first.with_name("video40.webm"))
    second.rename(second.with_name("video5.webm"))
    if table:
        videomem_table(root / "test-set" / "ground-truth" / "ground-truth_test-set.csv", ["40,,,,", "5,,,,"])
    return root


@pytest.mark.parametrize("table", [True, False])
def test_videomems_test_set_can_be_predicted(table: bool, tmp_path: Path) -> None:
    data = open_data(f"videomem:{videomem(tmp_path, table)}")
    assert {record.id for record in data.records} == {"video1.webm", "video2.webm", "video3.webm"}
    assert {(r.id, r.split, r.path.is_file(), np.isnan(r.score)) for r in data.unscored} == {
        ("video40.webm", "test", True, True), ("video5.webm", "test", True, True)
    }  # fmt: skip


def test_mementos_and_ones_own(tmp_path: Path) -> None:
    parts = {
        "train": [memento_record("a", "one", 0.5)],
        "val": [memento_record("a", "two", 0.6)],
        "test": [memento_record("a", "three", None, alpha=None)],
    }
    tree = memento_tree(tmp_path / "m", parts, ["a_one.mp4", "a_two.mp4", "a_three.mp4"])
    data = open_data(f"memento10k:{tree}")
    assert [(r.id, r.split, dict(r.targets), dict(r.extra)) for r in data.unscored] == [("a_three", "test", {}, {})]
    assert data.unscored[0].labels["caption"][0] == "caption 0 of three"
    with pytest.raises(DataError, match=r"no split 'test' with scores; it has train, val .*--split unscored"):
        data.split("test")
    (tmp_path / "own.csv").write_text("file,score,split\na.png,,test\nb.png,,test\n")
    own = open_data(f"folder:{tmp_path / 'own.csv'}")
    assert ([r.id for r in own.records], [r.id for r in own.unscored]) == ([], ["a.png", "b.png"])


def test_a_run_file_of_what_nobody_scored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "run" / "best.safetensors")
    data = f"videomem:{videomem(tmp_path / 'set', table=False)}"
    run_file, table = tmp_path / "run.csv", tmp_path / "predictions.csv"
    words = ["eval", checkpoint, "--data", data, "--split", "unscored", "--target", "long_term"]
    done = inside(capfd, *words, "--run-file", run_file, "--confidence", "1", "--predictions", table)
    assert done.code == 0, done.err
    assert "predictions only" in done.err
    rows = list(csv.reader(run_file.read_text().splitlines()))
    assert [(row[0], row[2]) for row in rows] == [("video40.webm", "1"), ("video5.webm", "1")]
    by_row = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["id"], row["split"], row["human"], row["run"]) for row in by_row] == [
        (name, "test", "", score) for name, score, _ in rows
    ]


@pytest.mark.parametrize("outputs", [Outputs(), Outputs(predictions=Path("p.csv"), scatter=Path("s.png"))])
def test_figures_of_what_nobody_scored(outputs: Outputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no human scores to measure by"):
        evaluation(Request((tmp_path,), ("lnsim:x",), "unscored", outputs=outputs))


def test_a_set_without_such_records(tmp_path: Path) -> None:
    data = f"folder:{write_set(tmp_path, 8)}"
    with pytest.raises(DataError, match="lists no picture without a score"):
        evaluation(Request((tmp_path,), (data,), "unscored", outputs=Outputs(predictions=tmp_path / "p.csv")))
