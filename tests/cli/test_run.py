"""`memedge run`: sources, sampling, outputs, and what goes to stdout and to stderr."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from helpers_bundle import VARIANTS, make_frame_bundle, picture
from helpers_cli import Done, command, inside, jsonl
from helpers_video import write_video

Capture = pytest.CaptureFixture[str]
Lines = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def run(capfd: Capture, source: str | Path, bundle: Path, *words: str | Path) -> Done:
    return inside(capfd, "run", "--source", source, "--bundle", bundle, "-q", "--no-tune", *words)


def readings(capfd: Capture, out: Path, source: str | Path, bundle: Path, *words: str | Path) -> Lines:
    done = run(capfd, source, bundle, "--jsonl", out, *words)
    assert done.code == 0, done.err
    return jsonl(out)


@pytest.fixture(scope="module")
def whole(tiny: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Every frame of the clip, scored without any option."""
    out = tmp_path_factory.mktemp("whole") / "r.jsonl"
    done = command("run", "--source", clip, "--bundle", tiny, "--jsonl", out)
    assert done.code == 0, done.err
    return jsonl(out)


# stdout and stderr --------------------------------------------------------------------------------------------------


def test_json_lines_on_stdout_are_alone_there(tiny: Path, clip: Path) -> None:
    done = command("run", "--source", clip, "--bundle", tiny, "--jsonl", "-")
    entries = [json.loads(line) for line in done.out.splitlines()]
    assert len(entries) == 26
    assert set(entries[-1]) == {"summary"}
    assert "tiny-frame on onnxruntime (fp32)" in done.err
    assert "rolling" in done.err  # the view, as plain lines
    assert "\x1b" not in done.err


def test_csv_on_stdout_is_alone_there(tiny: Path, clip: Path, capfd: Capture) -> None:
    done = run(capfd, clip, tiny, "--csv", "-")
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [int(row["frame_index"]) for row in rows] == list(range(25))


def test_the_result_is_one_line_on_stdout(tiny: Path, clip: Path, capfd: Capture, whole: Lines) -> None:
    done = run(capfd, clip, tiny)
    score = whole[1][0]["video_score"]["short_term"]
    assert done.out == f"{clip}: short_term {score:.4f} (25 of 25 frames scored)\n"
    assert done.err.splitlines() == ["memedge: tiny-frame on onnxruntime (fp32)"]


def test_a_line_has_the_documented_fields(whole: Lines) -> None:
    entries, (summary,) = whole
    assert list(entries[0]) == [
        "time_s", "source", "bundle", "frame_index", "wall_time", "score", "rolling", "percentile", "targets",
        "coverage", "complete", "staleness_s", "latency_ms", "engine", "precision", "flags", "outputs",
    ]  # fmt: skip
    assert {"frames_seen", "frames_scored", "video_score", "rolling_mean", "moments", "latency_ms"} <= set(summary)
    assert entries[0]["wall_time"] is None
    assert (entries[0]["engine"], entries[0]["precision"]) == ("onnxruntime", "fp32")


def test_a_stderr_that_nobody_reads_does_not_end_the_run(tiny: Path, clip: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = command("run", "--source", clip, "--bundle", tiny, "--jsonl", tmp_path / "r.jsonl", stderr=write)
    models = command("models", stderr=write)
    os.close(write)
    assert (done.code, models.code) == (0, 0), "120 would mean something left in the buffer"
    assert len(jsonl(tmp_path / "r.jsonl")[0]) == 25
    assert "memnet" in models.out


# which frames -------------------------------------------------------------------------------------------------------


def test_a_part_keeps_file_time_and_numbers(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, whole: Lines
) -> None:
    part, (summary,) = readings(capfd, tmp_path / "r", clip, tiny, "--from", "0.55", "--to", "1.5")
    assert [r["frame_index"] for r in part] == list(range(6, 15))
    assert [r["time_s"] for r in part] == pytest.approx([i / 10 for i in range(6, 15)])
    assert [r["score"] for r in part] == pytest.approx([r["score"] for r in whole[0][6:15]], abs=1e-6)
    assert summary["frames_seen"] == 9


def test_max_seconds(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    part, (summary,) = readings(capfd, tmp_path / "r", clip, tiny, "--max-seconds", "0.75")
    assert [r["frame_index"] for r in part] == list(range(8))
    assert summary["ended"] == "limit"


@pytest.mark.parametrize("rate", ["0.5", "2", "4", "100"])
def test_a_rate_leaves_lines_and_the_video_score_alone(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, whole: Lines, rate: str
) -> None:
    some, (summary,) = readings(capfd, tmp_path / "r", clip, tiny, "--rate", rate)
    assert len(some) == 25
    scored = [r["frame_index"] for r in some if r["score"] is not None]
    ticks = {round(k / float(rate) * 10) for k in range(int(2.5 * float(rate)) + 1)}
    assert set(scored) == {t for t in ticks | {0, 10, 20} if t < 25}
    assert all(r["flags"] == ["not_due"] for r in some if r["score"] is None)
    assert summary["video_score"] == pytest.approx(whole[1][0]["video_score"], abs=1e-6)
    assert summary["frames_scored"] == len(scored)


def test_the_last_published_sample_may_be_the_last_frame(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    # 1.0 s lies inside the film and after the middle of its last frame.
    film = write_video(tmp_path / "a.mp4", [picture(i) for i in range(3)], stamps=[0, 27000, 70200], rate=3)
    every, (one,) = readings(capfd, tmp_path / "r", film, tiny)
    assert (every[-1]["time_s"] + one["duration_s"]) / 2 < 1.0 < one["duration_s"]
    some, (two,) = readings(capfd, tmp_path / "s", film, tiny, "--rate", "0.1")
    assert [r["score"] is not None for r in some] == [True, False, True]
    expected = np.mean([every[i]["score"] for i in (0, 2)])
    for summary in (one, two):
        assert summary["video_score"]["short_term"] == pytest.approx(expected, abs=1e-6)
    assert one["duration_s"] == two["duration_s"]


@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_window_and_aggregate(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, whole: Lines, aggregate: str
) -> None:
    some, _ = readings(capfd, tmp_path / "r", clip, tiny, "--window", "0.5", "--aggregate", aggregate)
    scores = [r["score"] for r in whole[0]]
    for i, entry in enumerate(some):  # (t - 0.5, t] holds five frames at ten a second
        expected = getattr(np, aggregate)(scores[max(0, i - 4) : i + 1])
        assert entry["rolling"] == pytest.approx(expected, abs=1e-6)
        assert entry["complete"] == (i >= 4)


# which sources ------------------------------------------------------------------------------------------------------


def test_standard_input(tiny: Path, clip: Path, tmp_path: Path, whole: Lines) -> None:
    with open(clip, "rb") as film:
        done = command("run", "--source", "-", "--bundle", tiny, "-q", "--jsonl", tmp_path / "r.jsonl", stdin=film)
    assert done.code == 0, done.err
    piped, _ = jsonl(tmp_path / "r.jsonl")
    assert [r["score"] for r in piped] == pytest.approx([r["score"] for r in whole[0]], abs=1e-6)
    assert {r["source"] for r in piped} == {"-"}


def test_the_pattern(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    address = "test://?size=160x90&fps=10&seconds=2.5"
    first, (summary,) = readings(capfd, tmp_path / "a", address, tiny)
    again, _ = readings(capfd, tmp_path / "b", address, tiny)
    assert [r["time_s"] for r in first] == pytest.approx([i / 10 for i in range(25)])
    assert [r["score"] for r in first] == [r["score"] for r in again]
    assert summary["duration_s"] == pytest.approx(2.5)


def test_a_live_pattern_has_wall_time_and_keeps_the_newest(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    some, (summary,) = readings(
        capfd, tmp_path / "r", "test://?size=160x90&fps=40", tiny, "--max-seconds", "0.6", "--skip-frozen"
    )
    assert summary["ended"] == "limit"
    stamps = [r["wall_time"] for r in some]
    assert all(stamps)
    assert stamps == sorted(stamps)
    indices = [r["frame_index"] for r in some]
    assert indices == sorted(set(indices))
    assert indices[-1] + 1 <= len(some) + sum(summary["drops"].values()) + 2
    assert all(r["staleness_s"] == 0 for r in some if r["score"] is not None)


def test_a_folder_and_a_glob(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("b.mp4", "a.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    Image.fromarray(picture(9)).save(folder / "c.png")
    (folder / "notes.txt").write_text("not media")
    for source, files in ((folder, ["a.mp4", "b.mp4", "c.png"]), (f"{folder}/*.mp4", ["a.mp4", "b.mp4"])):
        done = run(capfd, source, tiny, "--jsonl", tmp_path / "r.jsonl", "--summary-csv", tmp_path / "s.csv")
        assert done.code == 0, done.err
        lines, summaries = jsonl(tmp_path / "r.jsonl")
        assert [Path(s["source"]).name for s in summaries] == files
        assert len(lines) == sum(s["frames_seen"] for s in summaries)
        rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
        assert [Path(row["file"]).name for row in rows] == files
        for row, summary in zip(rows, summaries, strict=True):
            assert float(row["short_term"]) == pytest.approx(summary["video_score"]["short_term"])
            assert int(row["frames_scored"]) == summary["frames_scored"]
        assert [line.partition(":")[0] for line in done.out.splitlines()] == [str(folder / name) for name in files]


# which bundles ------------------------------------------------------------------------------------------------------


def test_two_bundles_are_labelled(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, whole: Lines) -> None:
    fused = VARIANTS["fused"](tmp_path / "fused").path
    out = tmp_path / "r.jsonl"
    done = run(capfd, clip, tiny, "--bundle", fused, "--jsonl", out, "--summary-csv", tmp_path / "s.csv")
    assert done.code == 0, done.err
    lines, summaries = jsonl(out)
    assert [(r["bundle"], r["frame_index"]) for r in lines] == [
        (b, i) for i in range(25) for b in ("tiny-frame", "tiny-fused")
    ]
    assert [r["score"] for r in lines[::2]] == pytest.approx([r["score"] for r in whole[0]], abs=1e-6)
    assert [s["bundle"] for s in summaries] == ["tiny-frame", "tiny-fused"]
    assert set(summaries[1]["video_score"]) == {"short_term", "long_term"}
    (row,) = csv.DictReader((tmp_path / "s.csv").read_text().splitlines())
    assert {"tiny-frame:short_term", "tiny-fused:short_term", "tiny-fused:long_term"} <= set(row)
    assert [line.partition("[")[2].partition("]")[0] for line in done.out.splitlines()] == ["tiny-frame", "tiny-fused"]


def test_two_bundles_of_one_name_are_told_apart(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    other = make_frame_bundle(tmp_path / "other", seed=7).path
    lines, _ = readings(capfd, tmp_path / "r.jsonl", clip, tiny, "--bundle", other)
    assert [r["bundle"] for r in lines[:2]] == ["tiny-frame", "tiny-frame#2"]
    assert lines[0]["score"] != lines[1]["score"]


@pytest.mark.parametrize("variant", ["window", "clip"])
def test_bundles_that_need_several_frames(variant: str, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    bundle = VARIANTS[variant](tmp_path / "b").path
    lines, (summary,) = readings(capfd, tmp_path / "r.jsonl", clip, bundle)
    assert len(lines) == 25
    assert summary["frames_scored"] == sum(r["score"] is not None for r in lines) > 0
    assert summary["video_score"]["short_term"] is not None


# outputs ------------------------------------------------------------------------------------------------------------


def test_every_output_at_once(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    names = {"--jsonl": "r.jsonl", "--csv": "r.csv", "--summary-csv": "s.csv", "--video": "o.mp4", "--moments": "m"}
    words = [str(part) for flag, name in names.items() for part in (flag, tmp_path / name)]
    done = inside(capfd, "run", "--source", clip, "--bundle", tiny, "--no-tune", "--moments-count", "2", *words)
    assert done.code == 0, done.err
    lines, (summary,) = jsonl(tmp_path / "r.jsonl")
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + len(lines) == 26
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
    moments = json.loads((tmp_path / "m" / "moments.json").read_text())["moments"]
    assert [(m["time_s"], m["score"]) for m in moments] == [(m["time_s"], m["score"]) for m in summary["moments"]]
    assert 1 <= len(moments) <= 2
    best = max(lines, key=lambda r: r["score"])
    assert moments[0]["time_s"] == best["time_s"]
    assert len(list((tmp_path / "m").glob("*.jpg"))) == len(moments)


def test_rotation_of_json_lines(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "r.jsonl"
    done = run(capfd, "test://?size=64x48&seconds=2&fps=20", tiny, "--jsonl", out, "--rotate-mb", "0.005")
    assert done.code == 0, done.err
    files = [*(tmp_path / f"r.jsonl.{n}" for n in range(9, 0, -1)), out]
    parts = [jsonl(path) for path in files if path.exists()]
    assert len(parts) > 2
    numbers = [r["frame_index"] for lines, _ in parts for r in lines]
    assert numbers == list(range(numbers[0], 40))
    assert all(path.stat().st_size <= 5000 for path in files if path.exists())
    assert len(parts[-1][1]) == 1


def test_an_earlier_output_is_replaced(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "r.jsonl"
    out.write_text("old\n" * 10_000)
    lines, _ = readings(capfd, out, clip, tiny)
    assert len(lines) == 25
