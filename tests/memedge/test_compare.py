"""``compare``: figures against onnx's reference evaluator and SciPy, on pictures, folders, videos and patterns."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from helpers_bundle import make_clip_bundle, make_frame_bundle, make_window_bundle, picture, reference_outputs
from helpers_video import write_video
from memedge.compare import CompareReport, Side, compare
from memedge.correlation import ranks, spearman
from memedge.errors import BundleError, EngineError, MemedgeError, PictureError, SourceError, UsageError
from memedge_engines.bundle import Bundle

COUNT = 24


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("a") / "b", lowerings=("fp32", "cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for i in range(COUNT):
        Image.fromarray(picture(i)).save(path / f"{i:02}.png")
    return path


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlation_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 70) / 8, rng.normal(size=70)
    assert np.array_equal(ranks(a), scipy.stats.rankdata(a))
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


def test_what_has_no_rank_correlation() -> None:
    line = [0.1, 0.2, 0.3]
    assert spearman([0.5, 0.5, 0.5], line) is None
    assert spearman(line, [0.5, 0.5, 0.5]) is None
    assert spearman([0.1], [0.2]) is None
    assert spearman([0.1, np.nan, 0.3], line) is None


def test_figures_of_a_folder_are_those_of_the_reference(bundle: Bundle, folder: Path) -> None:
    report = compare(bundle, data=str(folder), precision_a="fp32", precision_b="int8")
    a = np.array([reference_outputs(bundle, picture(i), "fp32")["model.score"].item() for i in range(COUNT)])
    b = np.array([reference_outputs(bundle, picture(i), "cpu")["model.score"].item() for i in range(COUNT)])
    # Preprocessing rounds to 8 bits; the reference takes Pillow's picture, which is the same within a level.
    np.testing.assert_allclose(report.a_scores, a, atol=0.003)
    np.testing.assert_allclose(report.b_scores, b, atol=0.003)
    assert [Path(name).name for name in report.names] == [f"{i:02}.png" for i in range(COUNT)]
    x, y = report.a_scores, report.b_scores
    assert report.spearman == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert report.mean_abs == pytest.approx(np.mean(np.abs(x - y)))
    assert report.max_abs == pytest.approx(np.max(np.abs(x - y)))
    assert report.std_ratio == pytest.approx(scipy.stats.tstd(y) / scipy.stats.tstd(x))
    for q, value in report.percentiles.items():
        assert value == pytest.approx(scipy.stats.scoreatpercentile(np.abs(x - y), int(q[1:])))
    order = sorted(range(COUNT), key=lambda i: -abs(x[i] - y[i]))
    assert report.worst(3) == order[:3]
    assert 0 < report.max_abs < 0.05
    assert (report.a.engine, report.a.precision, report.b.precision) == ("onnxruntime", "fp32", "int8")
    assert report.a.ms > 0


def test_json_holds_every_score_and_lines_are_whole(bundle: Bundle, folder: Path) -> None:
    report = compare(bundle, data=str(folder), precision_a="fp32", precision_b="int8")
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["frames"] == len(told["scores"]) == COUNT
    assert told["spearman"] == report.spearman
    assert [row["b"] for row in told["scores"]] == list(report.b_scores)
    assert told["a"]["bundle"] == "tiny-frame"
    text = "\n".join(report.lines())
    assert f"Spearman: {report.spearman:.4f}" in text
    assert f"max |difference|: {report.max_abs:.4f}" in text
    assert text.count("worst: ") == 5
    assert "WARNING 24 pictures are few" in text


def test_two_bundles_on_generated_pictures(bundle: Bundle, tmp_path: Path) -> None:
    other = make_frame_bundle(tmp_path / "other", name="other", seed=3, untrained=True)
    report = compare(bundle, other.path, precision_a="fp32")
    assert len(report.names) == 200
    assert report.b.bundle == "other"
    assert abs(report.spearman or 0) < 0.95
    assert report.warnings == ["B is UNTRAINED: its scores mean nothing"]
    few = compare(bundle, other, frames=7, precision_a="fp32")
    np.testing.assert_array_equal(few.a_scores, report.a_scores[:7])


def test_two_engines_of_one_bundle(bundle: Bundle, folder: Path) -> None:
    report = compare(bundle, None, str(folder), engine_a="onnxruntime", engine_b="synthetic", frames=5)
    assert (report.a.engine, report.b.engine) == ("onnxruntime", "synthetic")


def test_frames_of_a_video_are_spread_over_it(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "c.mp4", [picture(i) for i in range(40)], rate=10)
    report = compare(bundle, data=str(clip), frames=5, precision_a="fp32", precision_b="int8")
    assert [name.split()[-2] for name in report.names] == ["0.00", "1.00", "2.00", "2.90", "3.90"]
    whole = compare(bundle, data=str(clip), precision_a="fp32", precision_b="int8")
    assert len(whole.names) == 40
    np.testing.assert_array_equal(report.a_scores, whole.a_scores[[0, 10, 20, 29, 39]])


def test_a_folder_of_videos_and_pictures_shares_the_frames(bundle: Bundle, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [picture(i) for i in range(30)], rate=10)
    write_video(tmp_path / "b.mp4", [picture(i) for i in range(30)], rate=10)
    Image.fromarray(picture(1)).save(tmp_path / "c.png")
    report = compare(bundle, data=str(tmp_path), frames=11, precision_a="fp32", precision_b="int8")
    names = [Path(name.split()[0]).name for name in report.names]
    assert {name: names.count(name) for name in set(names)} == {"a.mp4": 4, "b.mp4": 4, "c.png": 1}


def test_an_endless_pattern_ends(bundle: Bundle) -> None:
    report = compare(bundle, data="test://?size=64x48&live=0", frames=12, precision_a="fp32", precision_b="int8")
    assert len(report.names) == 12


def test_bundles_that_need_several_frames(tmp_path: Path, folder: Path) -> None:
    clip, window = make_clip_bundle(tmp_path / "c"), make_window_bundle(tmp_path / "w")
    video = write_video(tmp_path / "v.mp4", [picture(i) for i in range(100)], rate=10)
    report = compare(clip, window, str(video))
    # Only where both look at their whole window: 4 embeddings at 2 s are whole at 6 s and 8 s.
    assert [name.split()[-2] for name in report.names] == ["6.00", "8.00"]
    still = compare(clip, window, str(folder), frames=3)
    expected = [[reference_outputs(b, picture(i))["model.score"].item() for i in (0, 12, 23)] for b in (clip, window)]
    np.testing.assert_allclose([still.a_scores, still.b_scores], expected, atol=0.01)


def test_pictures_that_cannot_be_read_are_counted_and_named(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report = compare(bundle, data=str(tmp_path), precision_a="fp32", precision_b="int8")
    assert (len(report.names), report.skipped) == (2, 1)
    assert "1.png" in capfd.readouterr().err
    assert "1 could not be read" in "\n".join(report.lines())
    for i in (0, 2):
        (tmp_path / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(PictureError, match=r"2\.png"):
        compare(bundle, data=str(tmp_path), precision_a="fp32", precision_b="int8")


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({}, UsageError, "nothing to compare"),
        ({"precision_a": "fp32", "engine_b": "onnxruntime", "precision_b": "fp32"}, UsageError, "both sides are"),
        ({"precision_b": "fp32", "frames": 0}, UsageError, "--frames 0"),
        ({"precision_b": "fp32", "frames": 10**9}, UsageError, "expected 1 to 100000"),
        ({"precision_b": "fp64"}, EngineError, "no precision 'fp64'"),
        ({"precision_b": "fp16"}, EngineError, "has no fp16 lowering"),
        ({"engine_b": "onyx"}, EngineError, "no engine 'onyx'"),
        ({"precision_b": "fp32", "data": " "}, UsageError, "--data is empty"),
        ({"precision_b": "fp32", "data": "/no/such/file.mp4"}, SourceError, "no such file"),
        ({"precision_b": "fp32", "b": "/no/such/bundle"}, BundleError, "no bundle at"),
    ],
)
def test_bad_input(bundle: Bundle, options: dict[str, Any], error: type[MemedgeError], told: str) -> None:
    with pytest.raises(error, match=told):
        compare(bundle, **options)


def report_of(a: np.ndarray, b: np.ndarray, source: str = "made") -> CompareReport:
    side = Side(
        bundle="x", path="p", hash="0", engine="none", precision="fp32", target="short_term", untrained=False, ms=1
    )
    return CompareReport(side, side, source, tuple(f"n{i}" for i in range(len(a))), a, b)


def test_constant_scores_are_said_and_not_divided_by() -> None:
    report = report_of(np.full(300, 0.4), np.linspace(0, 1, 300))
    assert (report.spearman, report.std_ratio) == (None, None)
    assert "scores of A are all but constant" in report.warnings[0]
    assert "Spearman: none" in report.lines()
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("case", ["many", "one", "equal", "names"])
def test_the_plot_is_a_picture(tmp_path: Path, case: str) -> None:
    a = np.random.default_rng(0).uniform(0.2, 0.8, 1 if case == "one" else 300)
    b = a if case == "equal" else np.clip(a + np.random.default_rng(1).normal(0, 0.01, len(a)), 0, 1)
    path = tmp_path / "p.png"
    report_of(a, b, "odd $names$ {of} 映画 \\files" if case == "names" else "made").plot(path)
    with Image.open(path) as image:
        image.load()
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_plots_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(np.array([0.1, 0.2]), np.array([0.1, 0.3]))
    with pytest.raises(UsageError, match="does not end in one of"):
        report.plot(tmp_path / "p.bmp")
    with pytest.raises(MemedgeError, match="cannot write"):
        report.plot(tmp_path / "none" / "p.png")
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MemedgeError, match=r"pip install 'memedge\[plot\]'"):
        report.plot(tmp_path / "p.png")
