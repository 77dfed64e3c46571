"""The pieces of the GPU path: on this machine, on a Jetson made of its files, and where a probe breaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import helpers_gstreamer
from memedge import doctor_gpu
from memedge.doctor import doctor_report
from memedge.doctor_gpu import Part, gpu_parts
from memedge.sources import gstreamer_library
from memedge.sources.gstreamer_library import Route
from memedge_engines import hardware

NAMES = (
    "JetPack", "power mode", "NVIDIA driver", "CUDA device", "cuda-python", "PyCUDA", "TensorRT", "plans",
    "onnxruntime CUDA provider", "onnxruntime TensorRT provider", "GStreamer", "GStreamer elements",
    "GStreamer in cv2", "PyNvVideoCodec",
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


def parts() -> dict[str, Part]:
    return {part.name: part for part in gpu_parts()}


@helpers_gstreamer.quiet
def test_each_missing_piece_is_a_line_with_reason_and_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    found = parts()
    assert tuple(found) == NAMES
    for part in found.values():
        assert "\n" not in part.line()
        assert part.found
        if not part.usable:
            assert part.fix, part.name
            assert part.line() == f"gpu part {part.name}: not usable: {part.found} (fix: {part.fix})"
    for name in ("NVIDIA driver", "CUDA device", "TensorRT", "PyNvVideoCodec"):
        assert not found[name].usable
        assert "driver" in found[name].found
    report = doctor_report()
    lines = report.lines()
    assert [line for line in lines if line.startswith("gpu part ")] == [part.line() for part in report.gpu_parts]
    data = json.loads(json.dumps(report.to_json()))
    assert [part["name"] for part in data["gpu_parts"]] == list(NAMES)
    assert set(data["gpu_parts"][0]) == {"name", "usable", "found", "fix"}


def test_a_probe_that_breaks_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[bool, str, str | None]:
        raise OSError("libnvinfer.so.10: undefined symbol\nsecond line")

    monkeypatch.setattr(doctor_gpu, "_PROBES", (("TensorRT", broken),))
    [part] = gpu_parts()
    assert not part.usable
    assert part.found == "looking for it fails: libnvinfer.so.10: undefined symbol"
    assert part.fix


@pytest.mark.parametrize(
    ("release", "usable", "told"),
    [
        ("R35 (release), REVISION: 4.1, GCID: 1, BOARD: t186ref", False, "older than JetPack 6.1"),
        ("R36 (release), REVISION: 3.0, GCID: 1, BOARD: generic", False, "older than JetPack 6.1"),
        ("R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", True, "JetPack 6.1 or 6.2"),
        ("R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic", True, "JetPack 7.0 or 7.1"),
        ("R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic", True, "JetPack 7.2"),
        ("R41 (release), REVISION: 0.0, GCID: 1, BOARD: generic", True, "newer than 7.2"),
    ],
)
def test_jetpacks(monkeypatch: pytest.MonkeyPatch, release: str, usable: bool, told: str) -> None:
    monkeypatch.setattr(hardware, "jetpack", lambda: release)
    found, text, fix = doctor_gpu._jetpack()
    assert (found, told in text, fix is None) == (usable, True, usable)


def test_what_a_jetson_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "jetpack", lambda: "R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic")
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    monkeypatch.setattr(doctor_gpu, "_installed", lambda *names: "")
    monkeypatch.setattr(doctor_gpu, "_there", lambda module: False)
    found = parts()
    assert found["NVIDIA driver"].fix == "sudo apt-get install nvidia-jetpack"
    assert found["cuda-python"].fix == "pip install 'cuda-python>=12.9.1,<13'"
    assert "Jetson" in (found["onnxruntime CUDA provider"].fix or "")
    assert "nvpmodel" in (found["power mode"].fix or "")
    # Not only the first thing that is missing: who installs the driver should know of the rest.
    assert found["TensorRT"].found.endswith("(tensorrt is not installed)")
    assert found["PyNvVideoCodec"].found == "no NVIDIA driver is loaded (PyNvVideoCodec is not installed)"
    monkeypatch.setattr(doctor_gpu, "_installed", lambda *names: f"{names[0]} 10.3.0")
    monkeypatch.setattr(doctor_gpu, "_there", lambda module: True)
    assert parts()["TensorRT"].found.endswith("(tensorrt 10.3.0 is installed)")


def test_gstreamer_without_pygobject(monkeypatch: pytest.MonkeyPatch) -> None:
    with helpers_gstreamer.without_gi(monkeypatch):
        found = parts()
        assert "not visible to this Python" in found["GStreamer"].found
        assert "python3-gi" in (found["GStreamer"].fix or "")
        assert not found["GStreamer elements"].usable
        monkeypatch.setattr(gstreamer_library, "cv2_route", lambda: Route("cv2", True, "4.8.0"))
        assert parts()["GStreamer in cv2"].found == "cv2 4.8.0 has GStreamer"


@helpers_gstreamer.quiet
def test_gstreamer_with_its_elements() -> None:
    helpers_gstreamer.need()
    found = parts()
    assert found["GStreamer"].usable
    assert found["GStreamer in cv2"].usable
    if not hardware.jetpack():
        assert "nvarguscamerasrc" not in found["GStreamer elements"].found


def test_plans_are_counted(tmp_path: Path) -> None:
    assert parts()["plans"].found.startswith("none in the cache")
    folder = tmp_path / "cache" / "plans" / "abc"
    folder.mkdir(parents=True)
    (folder / "model.trt-int8.key.plan").write_bytes(b"x" * 2**20)
    assert parts()["plans"].found == f"1 in {tmp_path / 'cache' / 'plans'} (1 MiB)"
