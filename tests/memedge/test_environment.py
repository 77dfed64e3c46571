"""The machine as memedge reads it, against the standard library and against made system files."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import pytest

from memedge import environment as module
from memedge.environment import Environment, clocks, cpu_times, environment, peak_memory_mb, resident_mb


def test_agrees_with_the_standard_library() -> None:
    found = environment()
    assert found.machine == platform.machine()
    assert found.cores == os.cpu_count()
    assert 1 <= found.usable_cores <= found.cores
    assert found.python.endswith(platform.python_version())
    assert found.packages["numpy"] == version("numpy") == np.__version__
    assert msgspec.json.decode(msgspec.json.encode(found), type=Environment) == found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_and_processor_time() -> None:
    block = np.ones(64 << 20, np.uint8)
    assert resident_mb() == pytest.approx(resident_mb(), abs=32)
    peak = peak_memory_mb()
    assert peak is not None
    assert peak == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, abs=64)
    assert peak >= (resident_mb() or 0) - 32
    before = cpu_times()
    own = time.process_time()
    while time.process_time() - own < 0.1:
        block.sum()
    after = cpu_times()
    assert before is not None
    assert after is not None
    assert after.busy - before.busy >= 0.05


def test_clocks_are_plausible() -> None:
    found = clocks()
    assert all(10 < mhz < 10_000 for mhz in found.mhz)
    assert found.load is None or found.load >= 0


def test_what_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_read", lambda path: None)
    monkeypatch.setattr(module, "_CPU", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = environment()
    assert (found.governor, found.memory_mb, found.board, found.power_mode) == (None, None, None, None)
    assert found.gpus == []
    assert not found.vnni
    assert found.cpu
    assert found.clocks.mhz == []
    assert cpu_times() is None
    assert resident_mb() is None


def test_a_jetsons_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit",
        "/var/lib/nvpmodel/status": "pmode:0002",
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >",
        "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41",
        "/proc/meminfo": "MemTotal:        7802212 kB",
        "/sys/fs/cgroup/cpu.max": "150000 100000",
    }
    cpu = tmp_path / "cpu"
    for core, khz in enumerate((1_510_400, 729_600)):
        folder = cpu / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
        (folder / "scaling_max_freq").write_text("1728000\n")
    real = module._read
    monkeypatch.setattr(module, "_read", lambda path: files.get(str(path)) or real(path))
    monkeypatch.setattr(module, "_CPU", cpu)
    found = environment()
    assert found.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found.power_mode == "2 MAXN_SUPER"
    assert found.flags == ["asimd", "asimddp"]
    assert not found.vnni
    assert found.governor == "schedutil"
    assert found.mhz_max == 1728.0
    assert found.cpu_quota == 1.5
    assert found.memory_mb == 7802212 // 1024
    assert found.clocks.mhz == [1510.4, 729.6]


def test_power_rails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chip = tmp_path / "hwmon3"
    chip.mkdir()
    for name, text in {
        "name": "ina3221",
        "in1_label": "VDD_IN",
        "in1_input": "5040",
        "curr1_input": "1200",
        "curr2_input": "100",
        "power1_input": "2500000",
        "power1_label": "CORE",
    }.items():
        (chip / name).write_text(text + "\n")
    real = Path.glob
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: real(tmp_path if str(self) == "/sys/class/hwmon" else self, pattern)
    )
    # 5.04 V at 1.2 A; a rail without a voltage is left out.
    assert clocks().watts == {"ina3221:CORE": 2.5, "ina3221:VDD_IN": pytest.approx(6.048)}
