"""Guides and README: every `memedge ...` line has real options; every message of the GPU path is explained."""

from __future__ import annotations

import inspect
import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import helpers_gstreamer
from helpers_modules import ROOT
from memedge import doctor_gpu
from memedge_engines import errors, hardware
from memedge_engines.cuda import driver_errors
from memedge_engines.plans import classify

GUIDES = sorted((ROOT / "engines" / "guides").glob("*.md"))
PAGES = [*GUIDES, ROOT / "README.md"]
_NEEDS_TORCH = ("train", "eval", "export", "data")


def text_of(name: str) -> str:
    """A guide without its code marks, so that a fix with quotes in it is found as it is printed."""
    return " ".join((ROOT / "engines" / "guides" / name).read_text(encoding="utf-8").replace("`", "").split())


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(line, words after `memedge`) of every command line in fenced code and in backticks."""
    found = []
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(memedge [^`\n]+)`", re.sub(r"^```[^\n]*\n.*?^```", "", text, flags=re.M | re.S))
    for line in lines:
        match = re.search(r"(?:^|[ |/])memedge ((?:--|[a-z]).*)$", line)
        words = shlex.split(match[1], comments=True) if match is not None else []
        if words and re.fullmatch(r"[a-z]+|--[a-z]+", words[0]):
            found.append((line, words))
    return found


@lru_cache(maxsize=32)
def options_of(name: str) -> frozenset[str] | None:
    """Option names of a command, or none where it cannot be loaded here."""
    import typer

    from memedge.cli import app

    group: Any = typer.main.get_command(app.build(name))
    command = group.commands.get(name)
    if command is None or command.context_settings.get("ignore_unknown_options"):
        return None
    found = {option for p in command.params for option in (*p.opts, *p.secondary_opts) if option.startswith("-")}
    return frozenset({*found, "--help"})


def test_there_are_guides() -> None:
    names = ["desktop.md", "interop.md", "jetson.md", "one-frame.md", "troubleshooting.md"]
    assert [path.name for path in GUIDES] == names
    for path in GUIDES:
        head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:8])
        assert "Not verified" in head, f"{path.name} must say at its top what nobody has run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_these_options(page: Path) -> None:
    seen = 0
    for line, words in commands(page):
        name = words[0]
        if name.startswith("--"):
            assert name in ("--version", "--help"), line
            continue
        options = options_of(name)
        if options is None:
            assert name in _NEEDS_TORCH, f"{page.name}: no command '{name}': {line}"
            continue
        for word in words[1:]:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options, f"{page.name}: memedge {name} has no {word}: {line}"
        seen += 1
    assert seen or page.name == "interop.md"


def test_every_type_of_error_is_explained() -> None:
    text = text_of("troubleshooting.md")
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, (errors.CudaError, errors.PlanError))
    ]
    assert len(kinds) >= 9
    assert not [kind.__name__ for kind in kinds if kind.__name__ not in text]
    reasons = re.findall(r"``(\w+)``", inspect.getdoc(errors.PlanMismatch) or "")
    assert set(reasons) == {"hash", "header", "version", "architecture", "platform", "schema", "golden"}
    assert not [reason for reason in reasons if f"| {reason} |" not in text]


def test_every_cause_and_fragment_is_explained() -> None:
    text = text_of("troubleshooting.md").lower()
    for cause, fragments in classify._CAUSES:
        assert f"| {cause.code} | {cause.text.lower()} |" in text, cause.code
        assert cause.fix is None or cause.fix.lower() in text, cause.code
        assert not [fragment for fragment in fragments if fragment not in text], cause.code
    for reason, fragments in classify._MISMATCHES:
        assert not [fragment for fragment in fragments if fragment not in text], reason
    for code in ("killed", "crash", "hang"):
        assert code in text


def test_every_number_of_the_driver_is_explained() -> None:
    text = text_of("troubleshooting.md")
    for code, known in driver_errors._TABLE.items():
        assert f"{known.name} ({code}) | {known.kind.__name__} | {known.cause} | {known.fix or 'report it'}" in text


@helpers_gstreamer.quiet
@pytest.mark.parametrize("machine", ["nothing", "jetson", "driver"])
def test_every_fix_of_the_doctor_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str) -> None:
    """On a machine without anything, on a Jetson without anything, and where only a driver is loaded."""
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path))
    release = "R36 (release), REVISION: 3.0, GCID: 1, BOARD: generic"
    monkeypatch.setattr(hardware, "jetpack", lambda: release if machine == "jetson" else "")
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: machine == "driver")
    monkeypatch.setattr(doctor_gpu, "_installed", lambda *names: "")
    monkeypatch.setattr(doctor_gpu, "_there", lambda module: False)
    text = text_of("troubleshooting.md")
    with helpers_gstreamer.without_gi(monkeypatch):
        parts = doctor_gpu.gpu_parts()
    assert sum(not part.usable for part in parts) >= 6
    for part in parts:
        assert f"{part.name}" in text
        if not part.usable and part.name != "CUDA device":  # what the driver's library says depends on the machine
            assert part.fix in text, part.line()
