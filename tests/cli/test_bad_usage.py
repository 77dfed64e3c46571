"""Command lines that cannot be meant: exit code 2 and one line that names the flag."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers_cli import inside

Capture = pytest.CaptureFixture[str]

# Values that do mean something: all cores, from the start, no warm-up, to the end.
ALLOWED = {
    ("run", "--threads", "0"), ("run", "--from", "0"), ("run", "--to", "inf"),
    ("bench", "--threads", "0"), ("bench", "--warmup", "0"),
}  # fmt: skip
# What a flag must come with to be meant at all.
COMPANY = {"--rotate-mb": ["--jsonl", "{tmp}/r.jsonl"], "--camera-fps": []}


def numeric_flags(command: str) -> Iterator[tuple[str, type]]:
    """(flag, int or float) of every numeric option of a command, read off its signature."""
    function = importlib.import_module(f"memedge.cli.{command}").command
    hints = typing.get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        kind, option = typing.get_args(hints[name])[:2]
        kinds = {kind, *typing.get_args(kind)}
        for number in (int, float):
            if number in kinds:
                declared = [d for d in (option.default, *(option.param_decls or ())) if str(d).startswith("--")]
                yield str((declared or ["--" + name.replace("_", "-")])[0]), number


BAD_NUMBERS = [
    (command, flag, value)
    for command in ("run", "bench")
    for flag, number in numeric_flags(command)
    for value in (["0", "-1"] if number is int else ["0", "-1", "-0.5", "nan", "inf", "-inf"])
    if (command, flag, value) not in ALLOWED
]


@pytest.mark.parametrize(("command", "flag", "value"), BAD_NUMBERS)
def test_numbers_that_make_no_sense(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, command: str, flag: str, value: str
) -> None:
    source = "camera0" if flag.startswith("--camera") else clip
    target = ["--bundle", tiny, "--source", source] if command == "run" else [tiny]
    company = [word.format(tmp=tmp_path) for word in COMPANY.get(flag, [])]
    done = inside(capfd, command, *target, flag, value, *company)
    assert done.code == 2
    assert flag in done.error
    assert "expected" in done.error
    assert done.out == ""
    assert not list(tmp_path.iterdir())


def test_the_list_of_numeric_flags_is_not_empty() -> None:
    flags = {flag for _, flag, _ in BAD_NUMBERS}
    assert {"--rate", "--window", "--max-seconds", "--moments-count", "--threads", "--connect-timeout"} <= flags


@pytest.mark.parametrize("size", ["0x0", "1280", "-1x5", "1280x", "axb", "1280x720x3"])
def test_camera_sizes(capfd: Capture, size: str) -> None:
    done = inside(capfd, "run", "--source", "camera0", "--camera-size", size)
    assert done.code == 2
    assert "--camera-size" in done.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rotate-mb", "5"], "it needs --jsonl FILE"),
        (["--jsonl", "-", "--rotate-mb", "5"], "it needs --jsonl FILE"),
        (["--jsonl", "{tmp}/a", "--csv", "{tmp}/a"], "--jsonl and --csv have the same path"),
        (["--jsonl", "{tmp}/a", "--video", "{tmp}/x/../a"], "have the same path"),
        (["--jsonl", "-", "--csv", "-"], "cannot both be written to stdout"),
        (["--jsonl", "{clip}"], "would overwrite the source"),
        (["--video", "{clip}"], "would overwrite the source"),
        (["--csv", "{tmp}"], "is a folder"),
        (["--video", "{tmp}"], "is a folder"),
        (["--moments", "{clip}"], "is a file"),
        (["--camera-size", "64x48"], "belong to a camera"),
        (["--camera-fps", "30"], "belong to a camera"),
        (["--camera-format", "mjpeg"], "belong to a camera"),
        (["--wait"], "waits for a camera or a network source"),
        (["--from", "3", "--to", "2"], "expected 0 <= from < to"),
        (["--aggregate", "mode"], "expected one of mean"),
        (["--engine", "onnxruntime", "--bf16"], "option of the engine openvino"),
        (["--precision", "int8", "--bf16"], "contradict"),
        (["--engine", "onxruntime"], "did you mean 'onnxruntime'"),
        (["--engine", "abacus"], "no engine 'abacus'"),
        (["--precision", "int4"], "int4"),
        (["--caller", "title"], "expected NAME=NUMBER"),
        (["--caller", "title=nan"], "expected NAME=NUMBER"),
        (["--caller", "=3"], "expected NAME=NUMBER"),
        (["--rate", "fast"], "--rate"),
        (["--sorce", "x"], "--source"),
        (["extra"], "extra"),
    ],
)  # fmt: skip
def test_contradictions_and_unknown_names(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, words: list[str], message: str
) -> None:
    before = clip.read_bytes()
    (tmp_path / "x").mkdir()
    filled = [word.format(tmp=tmp_path, clip=clip) for word in words]
    done = inside(capfd, "run", "--source", clip, "--bundle", tiny, "--quiet", *filled)
    assert done.code == 2
    assert message in done.error
    assert clip.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "rtps://camera/1"], "did you mean rtsp"),
        (["--source", "gopher://old"], "unknown scheme 'gopher://'"),
        (["--source", "test://?sise=3x3"], "unknown 'sise'"),
        (["--source", "test://?fps=0"], "fps"),
        (["--source", "test://?seconds=-1"], "seconds"),
        (["--source", "camera0", "--from", "3"], "use --max-seconds"),
        (["--source", "rtsp://127.0.0.1/x", "--to", "3"], "use --max-seconds"),
        (["--source", "-", "--wait"], "waits for a camera"),
        ([], "--source"),
        (["--source"], "--source"),
        (["--source", ""], "--source is empty"),
        (["--source", "test://", "--jsonl", ""], "--jsonl is empty"),
    ],
)
def test_sources_that_cannot_be_meant(tiny: Path, capfd: Capture, words: list[str], message: str) -> None:
    done = inside(capfd, "run", "--bundle", tiny, *words)
    assert done.code == 2
    assert message in done.error


def test_a_video_of_a_folder(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(clip.read_bytes())
    done = inside(capfd, "run", "--source", tmp_path, "--bundle", tiny, "--video", tmp_path / "a.mp4")
    assert done.code == 2
    assert (tmp_path / "a.mp4").read_bytes() == clip.read_bytes()


def test_a_file_named_like_a_camera_is_a_file(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "camera_left.mp4").write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    words = ["--source", "camera_left.mp4", "--bundle", str(tiny), "--quiet", "--no-tune"]
    assert inside(capfd, "run", *words, "--from", "1").code == 0
    assert inside(capfd, "run", *words, "--camera-fps", "5").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "--nonsense"),
        (["verify", "--engine", "opnvino"], "did you mean 'openvino'"),
        (["bench", "--engine", "opnvino"], "openvino"),
        (["bench", "--all", "--engine", "openvino"], "--all"),
        (["doctor", "--bundle", "x"], "--tune"),
    ],
)
def test_other_commands(capfd: Capture, words: list[str], message: str) -> None:
    done = inside(capfd, *words)
    assert done.code == 2
    assert message in done.error
