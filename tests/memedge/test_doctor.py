"""``memedge doctor``: says what is there, never fails, and gives a fix for all that cannot be used."""

from __future__ import annotations

import builtins
import glob
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers_bundle import make_frame_bundle
from memedge import doctor
from memedge.doctor import doctor_report
from memedge_engines import backends, choice, hardware
from memedge_engines.kernels import host


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


def test_report_of_this_machine() -> None:
    report = doctor_report()
    lines = report.lines()
    assert all("\n" not in line and ": " in line for line in lines)
    assert [engine.name for engine in report.engines] == backends.names()
    for engine in report.engines:
        assert engine.line() in lines
        if engine.usable:
            assert engine.version
            assert engine.devices
            assert engine.lowerings
        else:
            assert engine.reason
            assert engine.fix
    assert any(engine.usable and engine.name == "onnxruntime" for engine in report.engines)
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["engines"][0]["name"] == report.engines[0].name
    assert data["environment"]["python"].startswith("CPython") or data["environment"]["python"]
    assert data["cache"] in "\n".join(lines)
    assert "h264" in data["decoders"]


def test_what_was_measured_is_listed(tmp_path: Path) -> None:
    assert "remembered: nothing yet" in "\n".join(doctor_report().lines())
    choice.tune(make_frame_bundle(tmp_path / "b", name="my-bundle"), count=5)
    [line] = [line for line in doctor_report().lines() if line.startswith("remembered:")]
    assert "my-bundle" in line
    assert " fp32, " in line


def test_both_onnxruntime_packages_at_once() -> None:
    versions = {"onnxruntime": "1.23.2", "onnxruntime-gpu": "1.22.0"}
    [(problem, fix)] = doctor._problems(lambda name: versions.get(name, ""))
    assert "onnxruntime 1.23.2 and onnxruntime-gpu 1.22.0 are both installed" in problem
    assert "its providers: " in problem
    assert fix.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
    assert doctor._problems(lambda name: versions["onnxruntime"] if name == "onnxruntime" else "") == []


def test_several_opencv_packages_at_once() -> None:
    [(problem, fix)] = doctor._problems(lambda name: "4.9" if name.startswith("opencv-python") else "")
    assert "opencv-python and opencv-python-headless" in problem
    assert "pip uninstall -y" in fix


def test_what_preprocesses_and_how_to_get_the_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def line() -> str:
        [found] = [line for line in doctor_report().lines() if line.startswith("preprocessing: ")]
        return found

    monkeypatch.setenv("MEMEDGE_PREPROCESS", "numpy")
    assert line() == (
        "preprocessing: numpy+pillow; the compiled one is not used: MEMEDGE_PREPROCESS=numpy "
        "(fix: unset MEMEDGE_PREPROCESS)"
    )
    monkeypatch.delenv("MEMEDGE_PREPROCESS")
    with monkeypatch.context() as patch:
        patch.setattr(host, "kernels", lambda: host.load(Path("/nowhere/memedge_host.so")))
        assert "numpy+pillow; the compiled one is not used: it was not built" in line()
        assert "fix: install a C++ compiler" in line()
    if isinstance(host.kernels(), host.HostKernels):
        assert line() == f"preprocessing: native ({host.kernels().instructions[-1]})"
    monkeypatch.setenv("MEMEDGE_PREPROCESS", "best")
    assert line().startswith("preprocessing: unusable: MEMEDGE_PREPROCESS=best; expected native or numpy")


def test_a_back_end_that_breaks_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = backends.get

    def broken(name: str) -> Any:
        if name == "openvino":
            raise OSError("libopenvino.so: undefined symbol")
        return real(name)

    monkeypatch.setattr(backends, "get", broken)
    [engine] = [e for e in doctor_report().engines if e.name == "openvino"]
    assert not engine.usable
    assert "undefined symbol" in engine.reason
    assert engine.fix


@pytest.mark.parametrize("missing", ["openvino", "onnxruntime", "av", "cv2"])
def test_libraries_that_do_not_import(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(f"lib{missing}.so.1: cannot open shared object file\nsecond line")
        return real(name, *rest)

    for name in [n for n in sys.modules if n.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    report = doctor_report()
    monkeypatch.undo()
    if missing in ("openvino", "onnxruntime"):
        [engine] = [e for e in report.engines if e.name == missing]
        assert not engine.usable
        assert "cannot open shared object file" in engine.reason
        assert engine.fix
    elif missing == "av":
        assert report.decoders == report.encoders == ()
    else:
        assert "cannot open shared object file" in report.opencv or report.opencv.startswith("none")
    assert all("\n" not in line for line in report.lines())


def test_cameras_by_number_and_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["/dev/video10", "/dev/video2", "/dev/video0", "/dev/video-loop"]
    monkeypatch.setattr(glob, "glob", lambda pattern: paths if pattern == "/dev/video*" else [])
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != "/dev/video2")
    found = doctor.cameras()
    assert [camera.path for camera in found] == ["/dev/video0", "/dev/video2", "/dev/video10"]
    assert [camera.readable for camera in found] == [True, False, True]
    report = doctor_report()
    assert any(line.startswith("camera /dev/video2") and "usermod -aG video" in line for line in report.lines())


def test_a_jetson_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver files of a Jetson, without one: the GPU carries the board's name."""
    files = {
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit",
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    }
    monkeypatch.setattr(hardware, "_read", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(glob, "glob", lambda pattern: [])
    monkeypatch.setattr(hardware.os.path, "exists", lambda path: path == "/dev/nvhost-gpu")
    assert hardware.gpus() == (hardware.Gpu(files["/proc/device-tree/model"], hardware.jetpack()),)
    assert hardware.jetpack().startswith("R36 (release)")
    assert hardware.nvidia_driver()


def test_a_desktop_gpu_by_its_driver_files(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "/proc/driver/nvidia/gpus/0000:01:00.0/information"
    files = {
        "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56",
        place: "Model: \t\t NVIDIA H200\nIRQ:   \t\t 0\n",
    }
    monkeypatch.setattr(hardware, "_read", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(hardware.glob, "glob", lambda pattern: [place])
    assert hardware.gpus() == (hardware.Gpu("NVIDIA H200", "550.54.15"),)


def test_usable_cpus_follow_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    quotas = {"/sys/fs/cgroup/cpu.max": "150000 100000"}
    monkeypatch.setattr(hardware, "_read", lambda path: quotas.get(str(path), ""))
    assert hardware.usable_cpus() == 2
    quotas["/sys/fs/cgroup/cpu.max"] = "max 100000"
    assert hardware.usable_cpus() == 8
    for cpu in range(8):
        quotas[f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = f"{cpu % 4},{cpu % 4 + 4}"
    assert hardware.usable_cores() == 4
