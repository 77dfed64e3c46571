"""The committed PTX: what drivers ask of it, that it is not stale, and how it is rebuilt."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memedge_engines.errors import CudaError
from memedge_engines.kernels import image, rebuild_ptx


def text() -> str:
    return image.ptx().decode("ascii")


def nvrtc():
    try:
        return rebuild_ptx.nvrtc()
    except CudaError as error:
        pytest.skip(f"{error.message}: {error.fix}")


def test_the_oldest_driver_can_load_it():
    """535, of CUDA 12.2; JetPack 6's is of 12.6 and takes 8.5."""
    version = re.search(r"^\.version (\d+)\.(\d+)$", text(), re.M)
    assert (int(version[1]), int(version[2])) <= (8, 2)
    assert re.search(r"^\.target (.+)$", text(), re.M)[1] == "sm_75"


def test_the_kernel_takes_the_parameter_block_alone():
    entries = re.findall(r"\.visible \.entry (\w+)\(\s*([^)]*)\)\s*\.maxntid (\d+), 1, 1", text())
    assert [(name, threads) for name, _, threads in entries] == [(image.NAME, str(image.THREADS))]
    assert re.fullmatch(r"\.param \.u64 \w+\s*", entries[0][1])


def test_it_was_made_from_the_present_sources():
    """When this fails: python -m memedge_engines.kernels.rebuild_ptx, with the compiler that it names."""
    assert text().splitlines()[0] == image.label()


def test_shared_memory_stays_below_48_kib():
    declared = re.findall(r"\.shared \.align \d+ \.b8 \w+\[(\d+)\]", text())
    assert declared
    assert sum(map(int, declared)) <= 48 * 1024


def test_a_rebuild_gives_the_same(capsys):
    nvrtc()
    assert rebuild_ptx.main(["--check"]) == 0
    assert "is what the sources give" in capsys.readouterr().err


def test_a_stale_file_is_told(tmp_path: Path, monkeypatch, capsys):
    fresh = text()
    other = tmp_path / "preprocess.ptx"
    monkeypatch.setattr(image, "PTX", other)
    assert "there is no" in rebuild_ptx.difference(fresh)
    other.write_text(fresh.replace(image.source_hash(), "0" * 64))
    assert "other sources" in rebuild_ptx.difference(fresh)
    other.write_text(fresh.replace("bar.sync", "bar.arrive", 1))
    assert "-\tbar.arrive" in rebuild_ptx.difference(fresh)
    other.write_text(fresh.replace("V12.2.", "V12.2.1"))
    assert rebuild_ptx.difference(fresh) == ""


def test_without_the_compiler(monkeypatch, capsys):
    monkeypatch.setattr(rebuild_ptx.importlib.util, "find_spec", lambda name: None)
    assert rebuild_ptx.main([]) == 1
    assert "pip install 'nvidia-cuda-nvrtc-cu12==12.2.*'" in capsys.readouterr().err


def test_a_compile_error_tells_the_log(tmp_path: Path, monkeypatch):
    library = nvrtc()
    for name in image.SOURCES:
        shutil.copy(image.FOLDER / name, tmp_path / name)
    (tmp_path / "pixels.h").write_text("#error no pixels today\n")
    monkeypatch.setattr(image, "FOLDER", tmp_path)
    with pytest.raises(CudaError, match="no pixels today"):
        rebuild_ptx.compile_ptx(library)


def test_a_missing_file_names_the_fix(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(image, "PTX", tmp_path / "preprocess.ptx")
    with pytest.raises(CudaError, match="--force-reinstall"):
        image.ptx()


def test_as_a_command():
    run = subprocess.run(
        [sys.executable, "-m", "memedge_engines.kernels.rebuild_ptx", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0
    assert "--check" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["75", "87", "89", "90", "110", "120"])
def test_an_assembler_takes_it(architecture: str, tmp_path: Path):
    """Registers for four blocks a multiprocessor; few spills, none in the loops that sum."""
    ptxas = shutil.which("ptxas")
    if ptxas is None:
        pytest.skip("no ptxas here")
    run = subprocess.run(
        [ptxas, "-v", f"-arch=sm_{architecture}", image.PTX, "-o", tmp_path / "kernel.cubin"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert int(re.search(r"Used (\d+) registers", run.stderr)[1]) <= 64
    assert sum(map(int, re.findall(r"(\d+) bytes spill loads", run.stderr))) <= 400
