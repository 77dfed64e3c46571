"""Outputs that cannot be written: one clear line, exit code 1, and every other output whole and closed."""

from __future__ import annotations

import csv
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from helpers_bundle import picture
from helpers_cli import Done, command, inside, jsonl, start
from helpers_video import write_video

Capture = pytest.CaptureFixture[str]
FULL = Path("/dev/full")
# Nobody may make a file there, not even root.
READ_ONLY = Path("/sys")

needs_full = pytest.mark.skipif(not FULL.is_char_device(), reason="this system has no /dev/full")
needs_read_only = pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write to")


def run(capfd: Capture, tiny: Path, clip: Path, *words: str | Path) -> Done:
    return inside(capfd, "run", "--bundle", tiny, "--source", clip, "--quiet", "--no-tune", *words)


@needs_full
@pytest.mark.parametrize("flag", ["--jsonl", "--csv", "--summary-csv", "--video"])
def test_full_disk(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, flag: str) -> None:
    other = "--csv" if flag == "--jsonl" else "--jsonl"
    done = run(capfd, tiny, clip, flag, FULL, other, tmp_path / "whole")
    assert done.code == 1
    assert "'/dev/full': No space left on device" in done.error
    assert "free some space" in done.error
    if other == "--jsonl":
        readings, (summary,) = jsonl(tmp_path / "whole")
        assert summary["frames_seen"] >= len(readings) >= 1
        assert [r["frame_index"] for r in readings] == list(range(len(readings)))
    else:
        rows = list(csv.reader((tmp_path / "whole").read_text().splitlines()))
        assert len({len(row) for row in rows}) <= 1


def small_files(size: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_file_that_may_not_grow_keeps_its_whole_lines(tiny: Path, clip: Path, tmp_path: Path) -> None:
    done = command(
        "run", "--source", clip, "--bundle", tiny, "-q", "--jsonl", tmp_path / "r.jsonl", "--csv", tmp_path / "r.csv",
        before=small_files(5000),
    )  # fmt: skip
    assert done.code == 1
    assert "r.jsonl': File too large" in done.error
    readings, summaries = jsonl(tmp_path / "r.jsonl")
    assert 3 <= len(readings) < 25
    assert [r["frame_index"] for r in readings] == list(range(len(readings)))
    assert summaries == []
    # The CSV was open, too, and has every row up to then.
    assert len((tmp_path / "r.csv").read_text().splitlines()) >= len(readings)


def test_a_video_that_may_not_grow_is_readable_so_far(tiny: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "in.mp4", [picture(i, 320, 240) for i in range(40)], rate=10)
    out = tmp_path / "out.mp4"
    done = command(
        "run", "--source", film, "--bundle", tiny, "-q", "--video", out, "--jsonl", tmp_path / "r.jsonl",
        before=small_files(150_000),
    )  # fmt: skip
    assert done.code == 1
    assert "out.mp4': File too large" in done.error
    with av.open(str(out)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    readings, (summary,) = jsonl(tmp_path / "r.jsonl")
    assert 5 <= frames < 40
    assert len(readings) >= frames
    assert summary["ended"] == "failed"


@needs_read_only
@pytest.mark.parametrize("flag", ["--jsonl", "--csv", "--summary-csv", "--video", "--moments"])
def test_read_only_output(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, flag: str) -> None:
    other = "--csv" if flag == "--jsonl" else "--jsonl"
    done = run(capfd, tiny, clip, flag, READ_ONLY / "memedge_out.mp4", other, tmp_path / "whole")
    assert done.code == 1
    assert "cannot write '/sys/memedge_out.mp4'" in done.error
    assert "fix:" in done.error


@pytest.mark.parametrize("flag", ["--jsonl", "--csv", "--summary-csv", "--video"])
def test_an_output_in_a_folder_that_is_not_there(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, flag: str
) -> None:
    done = run(capfd, tiny, clip, flag, tmp_path / "absent" / "out.mp4")
    assert done.code == 1
    assert "create the folder first" in done.error
    assert not (tmp_path / "absent").exists()


def test_an_output_under_a_file(tiny: Path, clip: Path, capfd: Capture) -> None:
    before = clip.read_bytes()
    done = run(capfd, tiny, clip, "--moments", clip / "moments")
    assert done.code == 1
    assert "cannot write" in done.error
    assert clip.read_bytes() == before


def test_a_reader_that_leaves_is_no_traceback(tiny: Path, clip: Path, tmp_path: Path) -> None:
    with start("run", "--source", clip, "--bundle", tiny, "-q", "--jsonl", "-", "--csv", tmp_path / "r.csv") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert json.loads(first)["frame_index"] == 0
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    # A short run may have written everything into the pipe before its reader left.
    assert process.returncode in (0, 1)
    assert len((tmp_path / "r.csv").read_text().splitlines()) >= 2


@pytest.mark.parametrize("words", [["models"], ["run", "--help"], ["doctor"]])
def test_lists_into_a_closed_pipe(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = command(*words, stdout=write)
    os.close(write)
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err
    assert done.code == 1
