"""Published figures as data, recorded results, and the table of both."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import msgspec
import pytest

from helpers_eval import write_checkpoint
from memedge import models
from memedge.errors import UsageError
from memedge.loading import DEFAULT_BUNDLE
from memedge_engines.bundle import Bundle
from memedge_export import checkpoint, weights
from memedge_export.commands import table as command
from memedge_export.errors import DataError
from memedge_export.eval.metrics import Result
from memedge_export.eval.recorded import collect
from memedge_export.eval.report import Measured, Model, Report, to_json
from memedge_export.eval.table import rows, to_csv, to_markdown


def report(model: str, data: str, value: float, **changes: str) -> Report:
    what = {
        "label": "own",
        "precision": "int8",
        "split": "test",
        "target": "short_term",
        "created": "2026-01-01",
        **changes,
    }
    described = Model(
        label=what["label"], kind="bundle", model=model, name="own", sha256="0", engine="onnxruntime",
        precision=what["precision"], targets=("short_term",), untrained="untrained" in changes,
    )  # fmt: skip
    figures = Result(
        count=2000, spearman=value, spearman_interval=(value - 0.04, value + 0.04), pearson=value + 0.01, mse=0.01
    )
    row = Measured(
        model=what["label"], data=data, split=what["split"], target=what["target"], unit="video", figures=figures
    )
    return Report(created=what["created"], resamples=1000, seed=0, models=(described,), results=(row,))


def save(path: Path, found: Report) -> Path:
    path.write_bytes(to_json(found))
    return path


def test_the_cards_words_and_their_figures_agree() -> None:
    """Every number in a card's words is one of its figures, of the data set, target and split that precede it."""
    numbers = 0
    for card in models.cards():
        known = {(f.data, f.target, f.split, f.value) for f in card.figures if f.metric == "spearman"}
        data = target = ""
        for word in re.findall(
            r"LaMem|VideoMem|Memento10k|short-term|long-term|\.\d+ ?(?:val|test500|test)?", card.published
        ):
            if word in ("LaMem", "VideoMem", "Memento10k"):
                data, target = word, "short_term"
            elif word.endswith("-term"):
                target = word.replace("-", "_")
            else:
                value, _, split = word.strip().partition(" ")
                assert any(k[:2] == (data, target) and k[3] == float(value) and split in ("", k[2]) for k in known), (
                    card.id, word,
                )  # fmt: skip
                numbers += 1
        assert all(figure.source for figure in card.figures)
        assert bool(card.figures) != (card.ours or "no figure was published" in card.published)
    assert numbers == 69
    assert {r.data for r in models.references()} >= {"LaMem", "VideoMem", "LNSIM"}


def test_ours_stands_beside_the_published_figure(tmp_path: Path) -> None:
    save(tmp_path / "a.eval.json", report("resnet101", "videomem", 0.47))
    found = rows(collect([tmp_path]), data="VideoMem")
    mine = [row for row in found if row.model == "resnet101"]
    assert [(row.split, row.target, row.published, row.ours) for row in mine] == [
        ("val", "short_term", "0.498", ""), ("test", "short_term", "0.46", "0.470"),
        ("val", "long_term", "0.198", ""), ("test", "long_term", "0.219", ""),
    ]  # fmt: skip
    beside = mine[1]
    assert (beside.low, beside.high, beside.n, beside.of, beside.data) == ("0.430", "0.510", "2000", "own", "VideoMem")
    assert beside.source.startswith("Technicolor")
    assert all(row.data == "VideoMem" for row in found)
    line = next(line for line in to_markdown(found).splitlines() if "0.470" in line)
    assert "| 0.46 | Technicolor" in line
    assert "0.470 [0.430, 0.510] | 2000 | own |" in line
    parsed = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert len(parsed) == len(found)
    pearson = rows(collect([tmp_path], "pearson"), "pearson", model="resnet101")
    assert ("0.491", "0.480") in {(row.published, row.ours) for row in pearson}


def test_what_nobody_published_has_a_row_of_its_own(tmp_path: Path) -> None:
    save(tmp_path / "a.eval.json", report("resnet18", "folder set", 0.3))
    save(tmp_path / "b.eval.json", report("resnet18", "other", 0.3, untrained="yes"))
    found = [row for row in rows(collect([tmp_path])) if row.ours]
    assert [(row.model, row.data, row.published, row.source) for row in found] == [("resnet18", "folder set", "", "")]


def test_the_newest_result_of_the_same_weights_counts(tmp_path: Path) -> None:
    save(tmp_path / "b.eval.json", report("resnet18", "lnsim", 0.31, created="2026-02-01"))
    save(tmp_path / "a.eval.json", report("resnet18", "lnsim", 0.30, created="2026-03-01"))
    save(tmp_path / "c.eval.json", report("resnet18", "lnsim", 0.32, label="own fp32", precision="fp32"))
    found = rows(collect([tmp_path]), model="resnet18", data="lnsim")
    assert [(row.ours, row.of) for row in found] == [("0.300", "own"), ("0.320", "own fp32")]


def test_lamems_five_splits_have_a_mean(tmp_path: Path) -> None:
    for number in range(1, 6):
        name = "lamem" if number == 1 else f"lamem#{number}"
        found = report("amnet", name, 0.6 + number / 100, label=f"own-{number} onnxruntime int8")
        save(tmp_path / f"{number}.eval.json", found)
    mean = [row for row in rows(collect([tmp_path]), model="amnet") if "mean" in row.ours_note]
    assert [(row.data, row.published, row.ours, row.low, row.n) for row in mean] == [
        ("LaMem", "0.677", "0.630", "", "")
    ]
    assert mean[0].ours_note == "mean of the five splits, standard deviation 0.016"
    (tmp_path / "3.eval.json").unlink()
    assert not [row for row in rows(collect([tmp_path]), model="amnet") if "mean" in row.ours_note]


def test_checkpoints_and_bundles_state_their_own(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "runs" / "resnet-s" / "first" / "best.safetensors")
    state, info = weights.read_state(path)
    training = msgspec.structs.replace(
        info.training, held_out="lnsim val (263 pictures; the epoch was chosen on it)", spearman=0.41,
        spearman_interval=(0.3, 0.5),
    )  # fmt: skip
    checkpoint.save(path, state, msgspec.structs.replace(info, training=training))
    found = rows(collect([tmp_path / "runs", DEFAULT_BUNDLE]))
    first = next(row for row in found if row.of == "checkpoint first")
    assert (first.data, first.split, first.ours, first.low, first.n) == ("LNSIM", "val", "0.410", "0.300", "263")
    assert first.ours_note == "the epoch was chosen on it"
    stated = Bundle.open(DEFAULT_BUNDLE).manifest.provenance.training
    assert any(row.of.startswith("bundle ") and row.ours == f"{stated.spearman:.3f}" for row in found)


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no"):
        collect([tmp_path / "none"])
    (tmp_path / "x.eval.json").write_text("{}")
    with pytest.raises(DataError, match=r"x\.eval\.json' is no result"):
        collect([tmp_path])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command.command(data="lnsim")
    out = capsys.readouterr().out
    assert out.startswith("| Model |")
    assert "people, one half against the other" in out
    command.command(as_csv=True, out=tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().startswith("model,data,split,target,metric,published,")
    assert capsys.readouterr().out == ""
    for arguments, message in (
        ({"metric": "mse"}, "--metric mse"),
        ({"data": "nothing"}, "nothing was published"),
        ({"out": tmp_path / "none" / "t.md"}, "existing folder"),
    ):
        with pytest.raises(UsageError, match=message):
            command.command(**arguments)
