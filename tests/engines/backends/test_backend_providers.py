"""ONNX Runtime's CUDA and TensorRT providers without a GPU: why they are not usable, their options, and the binding."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_bundle import evaluate, make_frame_bundle
from helpers_plans import DEFAULT
from memedge_engines import backends, cache, hardware, onnx_file, onnx_providers, shared_libraries
from memedge_engines.backends import onnxruntime as ort_backend
from memedge_engines.backends import onnxruntime_cuda as cuda_backend
from memedge_engines.backends import onnxruntime_tensorrt as trt_backend
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.errors import BackendUnavailable, EngineError

NAMES = ["onnxruntime-cuda", "onnxruntime-tensorrt"]
PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("providers") / "bundle")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A desktop with a driver and an onnxruntime-gpu 1.31 for CUDA 13 whose libraries all load, unless changed."""
    made = types.SimpleNamespace(absent=set(), needs=("libcudart.so.13", "libcuda.so.1", "libc.so.6"), preloaded=0)

    def preload_dlls() -> None:
        made.preloaded += 1
        print("Failed to load something")

    fake = types.ModuleType("onnxruntime")
    fake.__file__, fake.__version__ = "/nowhere/onnxruntime/__init__.py", "1.31.1"  # type: ignore[attr-defined]
    fake.get_available_providers = lambda: PROVIDERS  # type: ignore[attr-defined]
    fake.preload_dlls = preload_dlls  # type: ignore[attr-defined]
    made.ort = fake
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(onnx_providers, "cuda_release", lambda: "13.0")
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: True)
    monkeypatch.setattr(hardware, "gpus", lambda: (hardware.Gpu("RTX 4000"),))
    monkeypatch.setattr(hardware, "jetpack", lambda: "")
    monkeypatch.setattr(hardware, "board", lambda: "")
    monkeypatch.setattr(shared_libraries, "needed", lambda path: made.needs)
    monkeypatch.setattr(shared_libraries, "load", lambda name, packages=(): name not in made.absent)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_usable_where_everything_loads(machine: types.SimpleNamespace, name: str) -> None:
    found = backends.get(name).availability()
    assert (found.usable, found.version, found.devices) == (True, "1.31.1", ("RTX 4000",))
    assert machine.preloaded == 0


@pytest.mark.parametrize("name", NAMES)
def test_without_a_driver_nothing_else_is_touched(
    machine: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    del machine.ort.get_available_providers
    found = backends.get(name).availability()
    assert (found.usable, found.reason) == (False, "no NVIDIA driver is loaded")
    assert found.fix


@pytest.mark.parametrize(("name", "title"), [("onnxruntime-cuda", "CUDA"), ("onnxruntime-tensorrt", "TensorRT")])
def test_a_package_without_the_provider(machine: types.SimpleNamespace, name: str, title: str) -> None:
    machine.ort.get_available_providers = lambda: ["CPUExecutionProvider"]
    found = backends.get(name).availability()
    assert found.reason == f"this onnxruntime 1.31.1 was built without {title}"
    assert "memedge[gpu]" in (found.fix or "")


def test_no_onnxruntime_and_one_that_does_not_load(
    machine: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[str]:
        raise RuntimeError("it is broken\nat some length")

    machine.ort.get_available_providers = broken
    assert backends.get("onnxruntime-cuda").availability().reason == "onnxruntime does not import: it is broken"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert not backends.get("onnxruntime-cuda").availability().usable


def test_cuda_libraries_that_do_not_load(machine: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    machine.absent = {"libcudart.so.13"}
    found = backends.get("onnxruntime-cuda").availability()
    assert found.reason == "onnxruntime 1.31.1 needs libcudart.so.13 (it is built for CUDA 13.0): not found"
    assert found.fix == 'pip install "onnxruntime-gpu[cuda,cudnn]"'
    assert machine.preloaded == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("installed", "said"), [("11.4.0", "installed is TensorRT 11.4.0"), ("", "is not installed")])
def test_a_provider_for_tensorrt_10_beside_another(
    machine: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, installed: str, said: str
) -> None:
    machine.needs = ("libnvinfer.so.10", "libnvonnxparser.so.10", "libcudart.so.13")
    machine.absent = {"libnvinfer.so.10", "libnvonnxparser.so.10"}

    def version(name: str) -> str:
        if name == "tensorrt" and installed:
            return installed
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = backends.get("onnxruntime-tensorrt").availability()
    assert "needs TensorRT 10 (libnvinfer.so.10, libnvonnxparser.so.10)" in found.reason
    assert said in found.reason
    assert "pip install 'tensorrt-cu13<11'" in (found.fix or "")
    assert ("use the engine tensorrt" in (found.fix or "")) == bool(installed)
    machine.absent.add("libcudart.so.13")
    both = backends.get("onnxruntime-tensorrt").availability()
    assert both.reason.endswith("; and libcudart.so.13 (it is built for CUDA 13.0): not found")
    assert "tensorrt-cu13<11" in (both.fix or "")
    assert "onnxruntime-gpu[cuda,cudnn]" in (both.fix or "")


@pytest.mark.parametrize(
    ("tag", "usable"), [("cp312-cp312-manylinux_2_34_aarch64", False), ("cp310-cp310-linux_aarch64", True)]
)
def test_the_registry_s_wheel_on_a_jetson(
    machine: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tag: str, usable: bool
) -> None:
    monkeypatch.setattr(hardware, "jetpack", lambda: "R38 (release), REVISION: 2.0")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    wheel = types.SimpleNamespace(read_text=lambda name: f"Wheel-Version: 1.0\nTag: {tag}\n")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: wheel)
    found = backends.get("onnxruntime-cuda").availability()
    assert found.usable == usable
    if not usable:
        assert "no machine code for a Jetson" in found.reason
        assert "engine tensorrt" in (found.fix or "")


def test_the_release_is_read_from_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    info = types.ModuleType("onnxruntime.capi.build_and_package_info")
    info.cuda_version = "12.8"  # type: ignore[attr-defined]
    capi = types.ModuleType("onnxruntime.capi")
    capi.build_and_package_info = info  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime.capi", capi)
    monkeypatch.setitem(sys.modules, info.__name__, info)
    assert onnx_providers.cuda_release() == "12.8"
    del info.cuda_version  # type: ignore[attr-defined]
    assert onnx_providers.cuda_release() == ""


# Sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_session_that_falls_back_to_the_cpu_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("CUDA works here")
    backend = backends.get(name)
    monkeypatch.setattr(type(backend), "availability", lambda self: backends.Availability(True, version="x"))
    with pytest.raises(BackendUnavailable, match=r"libraries of this onnxruntime.* do not load"):
        backend.open(bundle, bundle.manifest.node("model"), "fp32")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    backend = backends.get(name)
    monkeypatch.setattr(type(backend), "availability", lambda self: backends.Availability(True, version="x"))
    with pytest.raises(EngineError, match="does not compute in bf16"):
        backend.open(bundle, bundle.manifest.node("model"), "fp32", EngineOptions(bf16=True))


def test_int8_is_for_tensorrt_alone() -> None:
    assert set(backends.get("onnxruntime-cuda").lowerings) == {"fp32", "trt-fp16"}
    assert backends.get("onnxruntime-tensorrt").lowerings == ("trt-int8", "trt-fp16", "fp32")


def test_the_tensorrt_provider_is_used_by_name_only() -> None:
    assert "onnxruntime-tensorrt" in backends.names()
    assert "onnxruntime-tensorrt" not in backends.automatic()
    assert backends.automatic() == [name for name in backends.names() if name != "onnxruntime-tensorrt"]


def test_binding_over_host_buffers(bundle: Bundle) -> None:
    node = bundle.manifest.node("model")
    options = ort_backend.session_options(1)
    session = ort_backend.create_session(bundle, node, "fp32", options, ["CPUExecutionProvider"], "onnxruntime-cuda")
    with cuda_backend.BoundEngine(session, "onnxruntime-cuda", "fp32", device="cpu") as engine:
        for count in (1, 2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 1):
            x = np.random.default_rng(count + 50).random((count, 3, 32, 32), np.float32)
            expected = evaluate(bundle.read(node.files["fp32"]), frames=x)
            for name, array in engine.run({"frames": x}).items():
                np.testing.assert_allclose(array, expected[name], atol=1e-5)
            assert len(engine._buffers) <= 8


# What the TensorRT provider is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lowering", "flags"), [("fp32", ("0", "0")), ("trt-fp16", ("1", "0")), ("trt-int8", (None, "1"))]
)
def test_types_batches_and_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lowering: str, flags: tuple[str | None, str]
) -> None:
    import onnx

    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path))
    default = Bundle.open(DEFAULT)
    node = default.manifest.node("model")
    told = trt_backend.provider_options(default, node, lowering, EngineOptions(max_batch=4))
    model = onnx.load_from_string(default.read(node.files[lowering]))
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    assert (told["trt_fp16_enable"], told["trt_int8_enable"]) == (flags[0] or str(int(half)), flags[1])
    (name,) = (item.name for item in node.inputs)
    size = "x".join(str(axis.dim_value) for axis in model.graph.input[0].type.tensor_type.shape.dim[1:])
    assert told["trt_profile_min_shapes"] == f"{name}:1x{size}"
    assert told["trt_profile_max_shapes"] == told["trt_profile_opt_shapes"] == f"{name}:4x{size}"
    place = Path(told["trt_engine_cache_path"])
    assert place.is_dir()
    assert place.is_relative_to(cache.folder())
    assert told["trt_timing_cache_path"] == str(place)
    if os.name == "posix":
        assert place.stat().st_mode & 0o077 == 0
    again = trt_backend.provider_options(default, node, lowering, EngineOptions(max_batch=4))
    other = trt_backend.provider_options(default, node, lowering, EngineOptions(max_batch=2))
    assert again == told
    assert other["trt_engine_cache_path"] != told["trt_engine_cache_path"]
    assert all(isinstance(value, str) for value in told.values())


def test_a_cache_that_cannot_be_written_is_left_out(bundle: Bundle, tmp_path: Path, monkeypatch: Any) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("MEMEDGE_CACHE", str(blocked))
    told = trt_backend.provider_options(bundle, bundle.manifest.node("model"), "fp32", EngineOptions())
    assert "trt_engine_cache_path" not in told


def test_old_engines_are_forgotten(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}").mkdir()
        os.utime(tmp_path / f"{number:02}", (number, number))
    trt_backend._prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{number:02}" for number in range(8, 40)]


def test_half_constants_are_found_in_graphs() -> None:
    default = Bundle.open(DEFAULT)
    files = default.manifest.node("model").files
    assert onnx_file.has_half(default.read(files["trt-fp16"]))
    assert not onnx_file.has_half(default.read(files["fp32"]))


# Shared libraries ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="Linux with gcc")
def test_what_a_library_asks_for_is_what_readelf_says(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("int memedge_probe(void) { return 7; }\n")
    inner = tmp_path / "libmemedge_inner.so.3"
    outer = tmp_path / "libouter.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libmemedge_inner.so.3", "-o", inner, source], check=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", outer, source, inner, "-lm"], check=True)
    found = shared_libraries.needed(outer)
    if shutil.which("readelf"):
        text = subprocess.run(["readelf", "-d", outer], check=True, capture_output=True, text=True).stdout
        assert list(found) == [line.split("[")[1].rstrip("]") for line in text.splitlines() if "(NEEDED)" in line]
    assert "libmemedge_inner.so.3" in found
    assert not shared_libraries.load("libmemedge_inner.so.3")
    package = tmp_path / "memedge_probe_libs"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(inner, package)
    sys.path.append(str(tmp_path))
    try:
        assert shared_libraries.load("libmemedge_inner.so.3", ("memedge_probe_libs", "memedge_no_such_package"))
    finally:
        sys.path.remove(str(tmp_path))


def test_files_that_are_no_library(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\0" * 20, b"\x7fELF\x02\x01" + b"\xff" * 80, b"text"):
        path.write_bytes(data)
        assert shared_libraries.needed(path) == ()
    assert shared_libraries.needed(tmp_path / "absent") == ()
