"""Several processes of one training, on the CPU: who speaks, how they end together, and that a killed run goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers_cli import command, start
from helpers_training import write_set
from memedge_export import weights
from memedge_export.errors import TrainingError
from memedge_export.train import processes
from memedge_export.train.processes import first_speaks, together


def fabric(rank: int, size: int) -> SimpleNamespace:
    return SimpleNamespace(global_rank=rank, world_size=size, is_global_zero=rank == 0)


@pytest.mark.parametrize(("name", "number", "heard"), [("LOCAL_RANK", "0", True), ("LOCAL_RANK", "1", False),
                                                       ("RANK", "3", False), ("RANK", "", True)])  # fmt: skip
def test_only_the_first_speaks(
    name: str, number: str, heard: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, number)

    @first_speaks()
    def speak() -> None:
        print("result")
        print("status", file=sys.stderr)
        raise TrainingError("left")

    with pytest.raises(TrainingError):
        speak()
    print("after")
    out, err = capsys.readouterr()
    assert (out, err) == ("result\nafter\n", "status\n") if heard else ("after\n", "")


def test_a_lost_process_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_ENDING_S", 0.0)
    lost = RuntimeError("Connection closed by peer\nmore")
    with pytest.raises(RuntimeError, match="more"), together(fabric(0, 1)):
        raise lost
    for rank in (0, 1):
        with (
            pytest.raises(TrainingError, match=rf"^process {rank + 1} of 2 .*closed by peer \(fix"),
            together(fabric(rank, 2)),
        ):
            raise lost
    # A first process that is gone has said why, or was killed.
    parents = iter([7, 1])
    monkeypatch.setattr(processes.os, "getppid", lambda: next(parents))
    with pytest.raises(SystemExit), together(fabric(1, 2)):
        raise lost


def helpers(parent: int) -> list[int]:
    """Ids of the processes that ``parent`` started."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in text.split()]


def until(what: str, path: Path, least_s: float = 120) -> None:
    end = time.monotonic() + least_s
    while what not in path.read_text():
        assert time.monotonic() < end, path.read_text()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the second process in /proc")
def test_two_processes_agree_and_go_on_after_a_kill(tmp_path: Path) -> None:
    """The whole command line, gloo between the processes: one voice, and the bytes of an uninterrupted run."""
    data = f"folder:{write_set(tmp_path / 'set', 32)}"
    words = ["train", "--model", "resnet-s", "--data", data, "--device", "cpu", "--devices", "2", "--threads", "1"]
    words += ["--epochs", "2", "--batch", "8", "--set", "phases.head.epochs=1", "--set", "phases.all.batch_norm=train"]
    whole = command(*words, "--out", tmp_path / "whole", timeout=400)
    assert whole.code == 0, whole.err
    assert whole.out == f"{tmp_path / 'whole/best.safetensors'}\n"
    assert whole.err.count("16 train, 8 val pictures") == whole.err.count("next: memedge export") == 1

    with (tmp_path / "err").open("w") as err, start(*words, "--out", tmp_path / "cut", stderr=err) as process:
        until("epoch 2 (all 1/2)", tmp_path / "err")
        (other,) = helpers(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        end = time.monotonic() + 60
        while Path(f"/proc/{other}/cmdline").exists() and Path(f"/proc/{other}/cmdline").read_bytes():
            assert time.monotonic() < end
            time.sleep(0.1)
    assert "Traceback" not in (tmp_path / "err").read_text()
    resumed = command(*words, "--out", tmp_path / "cut", "--resume", timeout=400)
    assert resumed.code == 0, resumed.err
    assert resumed.err.count("resumed") == 1
    for name in ("best.safetensors", "history.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    _, info = weights.read_state(tmp_path / "cut/best.safetensors")
    assert info is not None

    # What one process cannot read ends both, told by the one that met it.
    (tmp_path / "set/pictures/000.png").write_bytes(b"nothing")
    broken = command(*words, "--out", tmp_path / "broken", timeout=400)
    assert broken.code != 0
    assert "000.png" in broken.err
    assert "Traceback" not in broken.err
