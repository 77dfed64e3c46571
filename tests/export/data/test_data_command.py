"""``memedge data``: kinds, checks against published figures, SUN's pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from helpers_sets import lamem_tree, sun_tree
from helpers_training import write_set
from memedge.errors import UsageError
from memedge_export.commands import data as data_command
from memedge_export.data.readers import KINDS


@pytest.fixture
def run() -> Callable[..., Result]:
    app = typer.Typer()
    app.command("data")(data_command.command)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_kinds(run: Callable[..., Result]) -> None:
    lines = run().stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(KINDS)
    assert json.loads(run("list", "--json").stdout)["lamem"]["form"] == "lamem:DIR[#1..5]"


def test_the_command_line_finds_it(project_root: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 and newer")
    points = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]["entry-points"]["memedge.commands"]
    assert EntryPoint("data", points["data"], "memedge.commands").load() is data_command.command


def test_lnsim_agrees_with_the_published_figures(run: Callable[..., Result], lnsim: Path) -> None:
    result = run("check", f"lnsim:{lnsim}")
    assert result.exit_code == 0, result.output
    assert "differs" not in result.stdout
    assert "the same file: 0277.jpg, 1219.jpg" in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.endswith(" ok")]
    assert len(rows) == 10
    assert any(row.startswith("human consistency") and " 0.7789 " in row for row in rows)


def test_a_part_of_lamem_differs(run: Callable[..., Result], tmp_path: Path) -> None:
    root = lamem_tree(tmp_path / "lamem", 12, 4, 6, (1, 2, 3, 4, 5))
    (root / "images" / "00000002.jpg").unlink()
    (root / "images" / "00000004.jpg").write_bytes((root / "images" / "00000003.jpg").read_bytes())
    result = run("check", f"lamem:{root}#2", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["passed"]
    assert [Path(path).name for path in found["missing"]] == ["00000002.jpg"]
    assert [sorted(group) for group in found["duplicates"]] == [["00000003.jpg", "00000004.jpg"]]
    figures = {row["what"]: row for row in found["figures"]}
    assert (figures["train"]["found"], figures["train"]["published"], figures["train"]["agrees"]) == (
        12, [45000, 45000], False
    )  # fmt: skip
    assert "mean of five splits mean" in figures
    text = run("check", f"lamem:{root}#2").stdout
    assert "missing: 1 of 22 pictures: '" in text
    assert "published 45,000" in text
    (root / "splits" / "val_4.txt").unlink()
    assert "the mean of the five splits was not formed: lamem: there is no" in run("check", f"lamem:{root}").stdout


def test_ones_own_set_has_nothing_published(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("check", f"folder:{write_set(tmp_path, 8)}")
    assert result.exit_code == 0, result.output
    assert "published figures: none" in result.stdout
    assert " ok" not in result.stdout


def test_suns_pictures(run: Callable[..., Result], tmp_path: Path) -> None:
    sun_tree(tmp_path)
    result = run("unpack", f"sun:{tmp_path}")
    assert result.exit_code == 0, result.output
    assert "30 pictures were written; next: memedge data check" in result.stderr
    figures = {row["what"]: row for row in json.loads(run("check", f"sun:{tmp_path}", "--json").stdout)["figures"]}
    assert figures["scored pictures"]["published"] == [2222, 2222]
    assert figures["short_term responses each"]["found"] > 40
    assert figures["human consistency"]["agrees"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc", "lamem:x"], "memedge data chekc; expected list, check, unpack"),
        (["check"], "memedge data check; expected KIND:PATH"),
        (["list", "lamem:x"], "expected nothing more"),
        (["check", "lamen:x"], "did you mean 'lamem'"),
        (["check", "tiny32:x"], "has labels, no scores"),
        (["unpack", "lamem:x"], "only sun:DIR keeps its pictures in a matrix"),
    ],
)
def test_bad_usage(run: Callable[..., Result], arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
