"""Checkpoints and bundles evaluated on real pictures and videos that the tests write."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.stats

from helpers_eval import write_checkpoint, write_clips
from helpers_training import write_set
from memedge.errors import UsageError
from memedge.loading import DEFAULT_BUNDLE
from memedge.loop import Loop
from memedge.scorer import Scorer
from memedge.sources import open_source
from memedge_engines.bundle import Bundle
from memedge_export import export_bundle, weights
from memedge_export.data import readers
from memedge_export.data.records import DataSet, Record
from memedge_export.errors import DataError, WeightsError
from memedge_export.eval import contenders
from memedge_export.eval.evaluate import HeldOut, held_out, record_result
from memedge_export.eval.parts import Part
from memedge_export.eval.report import Report, read, to_json
from memedge_export.eval.session import Request, evaluation


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("runs") / "first" / "best.safetensors")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle.export("resnet-s", str(checkpoint), tmp_path_factory.mktemp("bundles") / "own").path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures with both targets; every fourth has no long-term score."""
    path = write_set(tmp_path_factory.mktemp("set"), 48)
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    rows = [[f, s, "" if i % 4 == 0 else f"{1 - float(s):.4f}", p] for i, (f, s, p) in enumerate(rows)]
    path.write_text("\n".join(["file,score,long_term,split", *(",".join(row) for row in rows)]) + "\n")
    return path


def figures(report: Report, label: str, target: str = "short_term") -> object:
    return next(row for row in report.results if (row.model, row.target) == (label, target)).figures


def test_checkpoint_and_its_bundle_agree_on_both_targets(checkpoint: Path, bundle: Path, table: Path) -> None:
    request = Request((checkpoint.parent, bundle), (f"folder:{table}",), split="all", precisions=("fp32",))
    report, (part,) = evaluation(request)
    assert [m.label for m in report.models] == ["first", "own onnxruntime fp32"]
    assert [(row.target, row.figures.count) for row in report.results] == [
        ("short_term", 48), ("short_term", 48), ("long_term", 36), ("long_term", 36)
    ]  # fmt: skip
    for target in ("short_term", "long_term"):
        by_torch, by_bundle = part.models(target).values()
        assert np.ptp(by_torch) > 1e-3
        np.testing.assert_allclose(by_bundle, by_torch, atol=1e-3)
        known = np.isfinite(part.human[target])
        rho = scipy.stats.spearmanr(by_torch[known], part.human[target][known]).statistic
        assert figures(report, "first", target).spearman == pytest.approx(rho)
        (compared,) = (c for c in report.comparisons if c.target == target)
        assert abs(compared.difference.spearman) < 0.02
        assert (compared.first, compared.second) == ("first", "own onnxruntime fp32")


def test_a_report_is_read_back(checkpoint: Path, table: Path, tmp_path: Path) -> None:
    report, _ = evaluation(Request((checkpoint,), (f"folder:{table}",), split="test", target="long_term"))
    path = tmp_path / "one.eval.json"
    path.write_bytes(to_json(report))
    assert read(path) == report
    assert str(tmp_path) not in path.read_text()
    path.write_bytes(to_json(report).replace(b'"model": "first",\n      "data"', b'"model": "other",\n      "data"'))
    with pytest.raises(DataError, match="does not describe"):
        read(path)
    path.write_bytes(to_json(msgspec.structs.replace(report, schema=2)))
    with pytest.raises(DataError, match="schema 2"):
        read(path)


def test_two_precisions_of_a_bundle(table: Path) -> None:
    request = Request((DEFAULT_BUNDLE,), (f"folder:{table}",), "all", "short_term", precisions=("fp32", "int8"))
    report, (part,) = evaluation(request)
    assert [model.precision for model in report.models] == ["fp32", "int8"]
    fp32, int8 = part.models("short_term").values()
    assert 0 < np.abs(fp32 - int8).max() < 0.05
    (compared,) = report.comparisons
    assert compared.difference.spearman_interval is not None
    assert compared.difference.spearman == pytest.approx(
        report.results[1].figures.spearman - report.results[0].figures.spearman
    )


def test_videos_have_the_score_that_run_states(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    data = f"folder:{write_clips(tmp_path / 'clips')}"
    report, (part,) = evaluation(Request((checkpoint, bundle), (data,), precisions=("fp32",), sampling="S7"))
    assert {row.unit for row in report.results} == {"video"}
    assert {row.sampling for row in report.results} == {"S7"}
    by_torch, by_bundle = part.models("short_term").values()
    with Scorer(Bundle.open(bundle), precision="fp32") as scorer:
        stated = [
            Loop(open_source(str(record.path)), {"b": scorer}).run()["b"].video_score["short_term"]
            for record in part.records
        ]
    np.testing.assert_allclose(by_bundle, stated, atol=1e-9)
    np.testing.assert_allclose(by_torch, by_bundle, atol=1e-3)
    # S4 looks at 0 s and 2 s only: another score, from the frames nearest to these times.
    _, (coarse,) = evaluation(Request((checkpoint,), (data,), sampling="S4"))
    assert np.abs(coarse.models("short_term")["first"] - by_torch).max() > 1e-4


def test_human_consistency_of_the_records_that_are_evaluated(
    checkpoint: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = readers.open_data(f"folder:{table}")
    rng = np.random.default_rng(0)
    scores = np.array([record.score for record in real.records])
    halves = scores + rng.normal(0, 0.1, (2, 5, len(scores)))
    data = DataSet(**{**vars(real), "halves": halves})
    monkeypatch.setattr("memedge_export.eval.parts.open_data", lambda *a, **k: data)
    report, (part,) = evaluation(Request((checkpoint,), (f"folder:{table}",), split="test"))
    (people,) = report.people
    places = [i for i, record in enumerate(data.records) if record.split == "test"]
    each = [scipy.stats.spearmanr(a[places], b[places]).statistic for a, b in zip(*halves, strict=True)]
    assert people.target == "short_term"
    assert people.consistency.spearman == pytest.approx(np.mean(each))
    own = part.models("short_term")["first"]
    against = [scipy.stats.spearmanr(own, half[places]).statistic for half in halves.reshape(10, -1)]
    assert people.consistency.models["first"] == pytest.approx(np.mean(against))


def test_what_cannot_be_read_is_named_or_counted(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    table = write_set(tmp_path, 20)
    (tmp_path / "pictures" / "007.png").write_bytes(b"no picture")
    request = Request((checkpoint, bundle), (f"folder:{table}",), split="all")
    with pytest.raises(DataError, match=r"pictures/007\.png.*--skip-unreadable"):
        evaluation(request)
    (tmp_path / "pictures" / "011.png").unlink()
    with pytest.raises(DataError, match=r"1 of 20 pictures are not there, first '.*011\.png'"):
        evaluation(request)
    report, (part,) = evaluation(altered(request, skip_unreadable=True))
    assert sorted(part.skipped) == [7, 11]
    assert {(row.figures.count, row.skipped) for row in report.results} == {(18, 2)}
    for values in part.models("short_term").values():
        assert list(np.flatnonzero(np.isnan(values))) == [7, 11]
    for path in (tmp_path / "pictures").glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="can be read"):
        evaluation(altered(request, skip_unreadable=True))


def altered(request: Request, **changes: object) -> Request:
    return Request(**{**vars(request), **changes})  # type: ignore[arg-type]


def test_wrong_requests(checkpoint: Path, bundle: Path, table: Path, tmp_path: Path) -> None:
    data = (f"folder:{table}",)
    short = write_checkpoint(tmp_path / "short.safetensors", targets=("short_term",))
    for request, error, message in (
        (Request((tmp_path / "none",), data), UsageError, "nothing to evaluate"),
        (Request((tmp_path,), data), UsageError, "neither a bundle nor the folder of a run"),
        (Request((checkpoint,), data, engines=("onnxruntime",)), UsageError, "belong to bundles"),
        (Request((bundle, short), data, target="long_term"), UsageError, "'short' predicts short_term; expected long"),
        (Request((checkpoint,), data, target="brand"), DataError, "no scores of 'brand'; it has short_term, long_term"),
        (Request((checkpoint,), (f"folder:{tmp_path / 'x.csv'}",)), DataError, "x.csv"),
        (Request((bundle, bundle), data), None, ""),
        (Request((bundle,), data, precisions=("fp32", "auto")), UsageError, "asked for twice"),
    ):
        if error is None:
            report, _ = evaluation(request)
            assert len({model.label for model in report.models}) == 2
            continue
        with pytest.raises(error, match=message):
            evaluation(request)
    from safetensors.torch import save_file

    save_file(weights.load("resnet-s", str(short)).model.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="does not say which model"):
        evaluation(Request((tmp_path / "w.safetensors",), data))


def test_an_empty_part_says_what_there_is(checkpoint: Path, tmp_path: Path) -> None:
    table = write_set(tmp_path, 8)
    table.write_text(table.read_text().replace(",test", ",train"))
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        evaluation(Request((checkpoint,), (f"folder:{table}",)))


def test_pictures_it_was_trained_on_are_warned_of(checkpoint: Path, table: Path) -> None:
    report, _ = evaluation(Request((checkpoint,), (f"folder:{table}",), split="train", target="short_term"))
    assert any("not held-out" in warning for warning in report.results[0].warnings)
    report, _ = evaluation(Request((checkpoint,), (f"folder:{table}",), target="short_term"))
    assert report.results[0].warnings == ("12 pictures are few: the interval is wide",)


def test_a_recorded_result_reaches_the_metadata(checkpoint: Path, table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    report, (part,) = evaluation(Request((copy,), (f"folder:{table}",), target="short_term"))
    record_result(copy, report.results[0])
    training = weights.load("resnet-s", str(copy)).training
    assert training.held_out == "list test (12 pictures)"
    assert held_out(training.held_out) == HeldOut("list", "test", 12)
    assert training.spearman == report.results[0].figures.spearman
    again, (other,) = evaluation(Request((copy,), (f"folder:{table}",), target="short_term"))
    assert np.array_equal(other.models("short_term")["copy"], part.models("short_term")["copy"])
    weightless = tmp_path / "w.safetensors"
    from safetensors.torch import save_file

    save_file(weights.load("resnet-s", str(copy)).model.state_dict(), weightless)
    with pytest.raises(WeightsError, match="not a checkpoint"):
        record_result(weightless, again.results[0])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "lnsim val (263 pictures; the epoch was chosen on it)",
            HeldOut("lnsim", "val", 263, "the epoch was chosen on it"),
        ),
        ("lamem#2 test (10000 pictures)", HeldOut("lamem#2", "test", 10000)),
        ("a set test", None),
        (None, None),
    ],
)
def test_what_was_held_out_is_taken_apart(text: str | None, found: HeldOut | None) -> None:
    assert held_out(text) == found


def test_scores_that_are_not_finite_end_an_evaluation(table: Path, tmp_path: Path) -> None:
    from memedge.errors import EngineError

    path = write_checkpoint(tmp_path / "broken.safetensors")
    network = contenders.Network(path, "resnet-s", "broken")
    network._network.linear.weight.data.fill_(float("inf"))
    network.add(0, np.zeros((30, 30, 3), np.uint8), Record("black", path, 0.5, "test"))
    with pytest.raises(EngineError, match="not finite"):
        network.finish()


def test_a_part_names_its_scored_records() -> None:
    human = {"short_term": np.array([0.1, np.nan, 0.3])}
    part = Part(DataSet("x", ()), "x", "test", [], [], human, skipped={2: "damaged"})
    assert part.scored("short_term").tolist() == [True, False, False]


def test_a_run_file_of_two_runs_is_refused_before_anything_is_scored(
    checkpoint: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memedge_export.eval import session
    from memedge_export.eval.outputs import Outputs

    monkeypatch.setattr(session, "score", lambda *a, **k: pytest.fail("scored"))
    request = Request((checkpoint,), (f"folder:{table}",), outputs=Outputs(run_file=tmp_path / "r.csv"))
    with pytest.raises(UsageError, match="found 2: first on list, short_term; first on list, long_term"):
        evaluation(request)


def test_an_interrupted_evaluation_leaves_nothing(
    checkpoint: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memedge_export.eval import scoring
    from memedge_export.eval.outputs import Outputs
    from memedge_export.eval.session import run

    read_picture, calls = scoring.read_picture, []

    def interrupted(path: Path) -> object:
        calls.append(path)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return read_picture(path)

    monkeypatch.setattr(scoring, "read_picture", interrupted)
    outputs = Outputs(save=tmp_path / "r.eval.json", predictions=tmp_path / "p.csv", page=tmp_path / "p.html")
    with pytest.raises(KeyboardInterrupt):
        run(Request((checkpoint,), (f"folder:{table}",), outputs=outputs))
    assert len(calls) == 5
    assert list(tmp_path.iterdir()) == []
