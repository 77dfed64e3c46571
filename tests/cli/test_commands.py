"""models, info, verify, doctor, bench and the commands of other packages, through the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memedge
from helpers_bundle import make_frame_bundle
from helpers_cli import ROOT, command, inside

Capture = pytest.CaptureFixture[str]


def test_version_and_help(capfd: Capture) -> None:
    done = inside(capfd, "--version")
    assert (done.code, done.out, done.err) == (0, f"memedge {memedge.__version__}\n", "")
    for words in ([], ["--help"]):
        done = inside(capfd, *words)
        assert (done.code, done.err) == (0, "")
        for name in ("run", "bench", "doctor", "models", "info", "verify", "export", "train", "eval"):
            assert f"\n  {name} " in done.out
        assert "..." not in done.out.replace("[ARGS]...", "")  # whole lines where there is no terminal


@pytest.mark.parametrize("name", ["run", "bench", "doctor", "models", "info", "verify"])
def test_every_command_explains_itself(capfd: Capture, name: str) -> None:
    done = inside(capfd, name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"memedge {name}" in done.out
    assert "--help" in done.out


def test_models(capfd: Capture) -> None:
    done = inside(capfd, "models")
    assert done.code == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert {len(row) for row in rows} == {6}
    assert {"resnet-s", "resnet18", "resnet101"} <= {row[0] for row in rows}
    assert "\x1b" not in done.out
    told = json.loads(inside(capfd, "models", "--json").out)
    assert [card["id"] for card in told["cards"]] == [row[0] for row in rows[1:]]


def test_info(tiny: Path, capfd: Capture) -> None:
    done = inside(capfd, "info", tiny)
    assert (done.code, done.err) == (0, "")
    hashes = re.findall(r"sha256 ([0-9a-f]+)", done.out)
    assert hashes
    assert {len(digest) for digest in hashes} == {64}  # nothing is cut to the width of a terminal
    told = json.loads(inside(capfd, "info", tiny, "--json").out)
    assert "tiny-frame" in json.dumps(told)
    schema = json.loads(inside(capfd, "info", "--schema").out)
    assert "$defs" in schema or "properties" in schema
    assert "no model card" in inside(capfd, "info", tiny, "--card").error


def test_info_of_the_default_bundle(capfd: Capture) -> None:
    assert inside(capfd, "info").code == 0
    card = inside(capfd, "info", "--card")
    assert card.code == 0
    assert card.out.startswith("#")


def test_untrained_is_said_everywhere(tmp_path: Path, clip: Path, capfd: Capture) -> None:
    bundle = make_frame_bundle(tmp_path / "u", untrained=True).path
    assert "UNTRAINED" in inside(capfd, "info", bundle).out
    done = inside(capfd, "run", "--source", clip, "--bundle", bundle, "--jsonl", tmp_path / "r.jsonl")
    assert "UNTRAINED" in done.out
    assert "UNTRAINED" in done.err
    assert '"untrained"' in (tmp_path / "r.jsonl").read_text().splitlines()[0]


def test_verify(tiny: Path, capfd: Capture) -> None:
    done = inside(capfd, "verify", tiny)
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("verified")
    told = json.loads(inside(capfd, "verify", tiny, "--json").out)
    assert told["passed"] is True
    only = json.loads(inside(capfd, "verify", tiny, "--engine", "onnxruntime", "--json").out)
    assert {row["engine"] for row in only["engines"]} == {"onnxruntime"}


def test_doctor(capfd: Capture) -> None:
    done = inside(capfd, "doctor")
    assert (done.code, done.err) == (0, "")
    assert "engine onnxruntime: usable" in done.out
    told = json.loads(inside(capfd, "doctor", "--json").out)
    assert isinstance(told, dict)


def test_doctor_tune_remembers(tiny: Path, capfd: Capture) -> None:
    done = inside(capfd, "doctor", "--tune", "--bundle", tiny)
    assert done.code == 0
    assert "onnxruntime fp32: median" in done.out
    assert "tiny-frame" in inside(capfd, "doctor").out
    told = json.loads(inside(capfd, "doctor", "--tune", "--bundle", tiny, "--json").out)
    assert told["tuned"][0]["engine"]


def test_bench(tiny: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    # The pattern at 720p takes its time to render; what is looked at here does not depend on its size.
    monkeypatch.setattr("memedge.bench.feeds.PREPARED_URI", "test://?size=64x48&seconds=1")
    words = ["bench", tiny, "--frames", "20", "--warmup", "2", "--no-start", "--engine", "onnxruntime"]
    done = inside(capfd, *words, "--out", tmp_path / "b.json")
    assert done.code == 0
    assert "onnxruntime" in done.out
    assert "\x1b" not in done.out
    saved = json.loads((tmp_path / "b.json").read_text())
    told = json.loads(inside(capfd, *words, "--json").out)
    assert set(told) == set(saved)


# Commands of the export package without its libraries ---------------------------------------------------------------

BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from memedge.cli import main
main()
"""


def without(names: set[str], *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "engines", "export"))
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=sorted(names)), *words],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": paths}, check=False,
    )  # fmt: skip


HEAVY = {"torch", "torchvision", "onnx", "onnxscript", "safetensors", "scipy"}


@pytest.mark.parametrize(
    "words",
    [
        ["export", "--model", "resnet-s"],
        ["train", "--model", "resnet-s", "--data", "lnsim:/nowhere"],
        ["eval", "resnet-s", "--data", "lnsim:/nowhere"],
    ],
    ids=lambda words: words[0],
)
def test_commands_without_torch_say_what_to_install(words: list[str]) -> None:
    done = without(HEAVY, *words)
    assert done.returncode == 1, done.stderr
    assert "pip install 'memedge[export]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_lists_the_commands_without_torch_too() -> None:
    done = without(HEAVY, "--help")
    assert done.returncode == 0
    for name in ("run", "export", "train", "eval"):
        assert f"\n  {name} " in done.stdout


def test_without_the_export_package_its_commands_say_what_to_install() -> None:
    done = without({"memedge_export"}, "export", "--model", "resnet-s")
    assert done.returncode == 1
    assert "pip install 'memedge[export]'" in done.stderr


def test_a_plugged_command_and_one_that_cannot_be_loaded(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from memedge.cli import app

    points = [
        EntryPoint("hello", "helpers_cli:plugged", "memedge.commands"),
        EntryPoint("broken", "no_such_package:command", "memedge.commands"),
        EntryPoint("run", "helpers_cli:plugged", "memedge.commands"),  # memedge's own goes first
    ]
    monkeypatch.setattr(app, "entry_points", lambda group: points if group == "memedge.commands" else [])
    assert inside(capfd, "hello", "--name", "you").out == "hello you\n"
    broken = inside(capfd, "broken", "--some", "words")
    assert broken.code == 1
    assert "'memedge broken' cannot be loaded" in broken.error
    assert "hello" not in inside(capfd, "run", "--help").out


def test_an_error_nobody_foresaw_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import memedge.doctor

    def boom() -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(memedge.doctor, "doctor_report", boom)
    from memedge.cli import main

    with pytest.raises(RuntimeError, match="a bug"):
        main(["doctor"])


def test_an_interrupted_command_leaves_quietly(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    import memedge.doctor

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(memedge.doctor, "doctor_report", interrupted)
    done = inside(capfd, "doctor")
    assert (done.code, done.out, done.err) == (130, "", "")


def test_importing_memedge_is_light() -> None:
    heavy = "{'av', 'cv2', 'onnxruntime', 'openvino', 'PIL', 'torch', 'typer', 'rich'}"
    code = f"import sys, memedge; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_module_runs_as_a_program() -> None:
    done = command("--version")
    assert (done.code, done.out) == (0, f"memedge {memedge.__version__}\n")
