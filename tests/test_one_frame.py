"""``engines/guides/one-frame.md``: what it names exists, and a frame passes through it in that order."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from helpers_bundle import make_frame_bundle
from helpers_cli import inside
from helpers_gpu import desktop, fake_gpu
from helpers_modules import ROOT

PAGE = (ROOT / "engines" / "guides" / "one-frame.md").read_text(encoding="utf-8")
Row = tuple[str, str]
# Which of the two threads comes first is open; what a GPU's executor runs to warm up is over by then.
_BEGIN: frozenset[Row] = frozenset(
    {("memedge/sources/playback.py", "Playback.__iter__"), ("memedge/mailbox.py", "Reader.take")}
)


def rows() -> dict[str, list[Row]]:
    """Section number to the (file, function) of its table."""
    found: dict[str, list[Row]] = {}
    section = ""
    for line in PAGE.splitlines():
        heading = re.match(r"## (\d\w?)\.", line)
        section = heading[1] if heading else section
        row = re.match(r"\| `([^`]+)` \| `([^`]+)` \|", line)
        if row:
            found.setdefault(section, []).append((row[1], row[2]))
    return found


@lru_cache(maxsize=128)
def defined(path: str) -> dict[str, int]:
    """Functions and methods of a module, and where each begins (with its decorators)."""
    found: dict[str, int] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                found[prefix + node.name] = min([node.lineno, *(d.lineno for d in node.decorator_list)])

    visit(ast.parse((ROOT / path).read_text(encoding="utf-8")).body, "")
    return found


def test_what_is_named_exists() -> None:
    sections = rows()
    assert list(sections) == ["1", "2", "3a", "3b", "4"]
    assert all(len(section) >= 5 for section in sections.values())
    for path, name in (row for section in sections.values() for row in section):
        assert name in defined(path), f"{path} has no {name}"
    files = set(re.findall(r"`([\w/]+/[\w.-]+\.(?:py|cu|cpp|h))`", PAGE))
    assert len(files) >= 35
    assert not [path for path in files if not (ROOT / path).is_file()]


@contextmanager
def recorded() -> Iterator[list[Row]]:
    """Functions of the page in the order of their first call, from when the source is read on."""
    wanted = {
        (str(ROOT / path), defined(path)[name]): (path, name) for section in rows().values() for path, name in section
    }
    calls: list[Row] = []
    begun = threading.Event()

    def look(frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call":
            return
        row = wanted.get((frame.f_code.co_filename, frame.f_code.co_firstlineno))
        if row is None:
            return
        if row in _BEGIN:
            begun.set()
        if begun.is_set() and row not in calls:
            calls.append(row)

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def check(calls: list[Row], *sections: str) -> None:
    """Each section is one thread's work, so its order is the order of the calls."""
    for section in sections:
        wanted = rows()[section]
        assert [row for row in calls if row in wanted] == wanted


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
def test_a_frame_goes_this_way(
    gpu: bool, capfd: pytest.CaptureFixture[str], tmp_path: Path, demo_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))
    bundle = make_frame_bundle(tmp_path / "bundle")
    engine = "tensorrt" if gpu else "onnxruntime"
    words = ["--source", demo_clip, "--to", 1, "--bundle", bundle.path, "--engine", engine, "-q"]
    words += ["--jsonl", tmp_path / "r.jsonl"]
    if not gpu:
        with recorded() as calls:
            assert inside(capfd, "run", *words).code == 0
        check(calls, "1", "2", "3a", "4")
        return
    # Without graphs: replayed, launch and inference are one call of the driver.
    with fake_gpu(devices=[desktop()], graphs=False) as machine:
        machine.build(bundle, "fp32", 1)
        with recorded() as calls:
            assert inside(capfd, "run", *words).code == 0
    check(calls, "1", "2", "3b", "4")
