from __future__ import annotations

import importlib
import re
import threading
import types
from typing import Any

import pytest

from fake_tensorrt import fake_tensorrt
from helpers_plans import machine, rtx
from memedge_engines import hardware
from memedge_engines.errors import BackendUnavailable, DriverMissing, NoDevice, PlanError
from memedge_engines.plans import library
from memedge_engines.plans.machine import Machine
from memedge_engines.plans.profile import Profile


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with one GPU; what is installed as tensorrt is up to the test."""
    opening = types.ModuleType("memedge_engines.cuda.opening")
    opening.load_driver = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(importlib.sys.modules, "memedge_engines.cuda.opening", opening)  # type: ignore[attr-defined]
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: True)


def install(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    """``import tensorrt`` gives this module or raises this error."""
    real = importlib.import_module

    def give(name: str, package: str | None = None) -> Any:
        if name != "tensorrt":
            return real(name, package)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(library.importlib, "import_module", give)


def test_without_a_driver_tensorrt_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    install(monkeypatch, AssertionError("imported"))
    with pytest.raises(DriverMissing, match=r"no NVIDIA driver .*\(fix: install the GPU's driver"):
        library.tensorrt()


@pytest.mark.usefixtures("drivers")
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"), "is not installed for this Python"),
        (
            ImportError("libnvinfer.so.10: cannot open shared object file: No such file or directory"),
            "shared library libnvinfer.so.10 is missing",
        ),
        (ImportError("libnvdla_compiler.so: cannot open shared object file"), "libnvdla_compiler.so is missing"),
        (ImportError("undefined symbol: foo"), "does not import: undefined symbol: foo"),
        (RuntimeError("broken\ninstallation"), "does not import: broken installation"),
        (
            types.SimpleNamespace(__version__="8.6.2", __name__="tensorrt"),
            r"TensorRT 8\.6\.2; memedge works with 10\.3",
        ),
        (types.SimpleNamespace(__version__="10.2.0", __name__="tensorrt"), r"TensorRT 10\.2\.0; memedge works"),
        (types.SimpleNamespace(__version__="12.0", __name__="tensorrt"), r"TensorRT 12\.0; memedge works"),
    ],
)
def test_what_is_wrong_with_tensorrt_is_named(monkeypatch: pytest.MonkeyPatch, found: Any, message: str) -> None:
    install(monkeypatch, found)
    with pytest.raises(BackendUnavailable, match=message) as caught:
        library.tensorrt()
    assert caught.value.fix == "pip install 'memedge[tensorrt]'"


@pytest.mark.usefixtures("drivers")
def test_on_a_jetson_the_fix_is_the_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"))
    monkeypatch.setattr(hardware, "board", lambda: "NVIDIA Jetson Orin Nano")
    with pytest.raises(BackendUnavailable, match=r"apt install .*--system-site-packages"):
        library.tensorrt()


@pytest.mark.usefixtures("drivers")
@pytest.mark.parametrize("version", ["10.3.0", "10.16.2.10", "11.4.0.106"])
def test_supported_versions(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    module = types.SimpleNamespace(__version__=version, __name__="tensorrt")
    install(monkeypatch, module)
    assert library.tensorrt() is module
    assert library.flavour(module) == "full"
    assert library.version(module)[:2] == tuple(int(n) for n in version.split(".")[:2])


def test_another_module_in_its_place() -> None:
    fake = fake_tensorrt("11")
    with library.use(fake) as outer:
        assert library.tensorrt() is fake is outer
        other = types.SimpleNamespace(__name__="tensorrt_rtx")
        with library.use(other):
            assert library.tensorrt() is other
        assert library.tensorrt() is fake
    assert library.flavour(other) == "rtx"
    with pytest.raises(DriverMissing):
        library.tensorrt()


def test_one_logger_for_the_process_and_bounded_lines() -> None:
    trt = rtx()
    log = library.logger(trt)
    assert library.logger(trt) is log
    assert isinstance(log, trt.ILogger)
    log.log(trt.ILogger.ERROR, "nobody listens")
    with library.collecting() as lines, library.collecting() as twin:
        log.log(trt.ILogger.INFO, "not kept")
        log.log(trt.ILogger.WARNING, "two\nlines")
        threads = [
            threading.Thread(target=lambda k: [log.log(trt.ILogger.ERROR, f"{k} {i}") for i in range(300)], args=(k,))
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.log(trt.ILogger.INTERNAL_ERROR, "x" * 2000)
        log.log(trt.ILogger.INTERNAL_ERROR, "x" * 2000)
    assert lines == twin
    assert lines[0] == "warning: two lines"
    assert lines[-1] == "internal error: " + "x" * 500
    assert len(lines) == len(set(lines)) == library.MOST_LINES
    log.log(trt.ILogger.ERROR, "afterwards")
    assert lines[-1] != "error: afterwards"


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from memedge_engines.cuda import opening
    from memedge_engines.cuda.fake import FakeDriver

    driver = FakeDriver()
    monkeypatch.setattr(opening, "load_driver", lambda: driver)
    monkeypatch.setattr(hardware, "gpus", lambda: (hardware.Gpu("by its file", "540.4.0"),))
    monkeypatch.setattr(hardware, "jetpack", lambda: "R36 (release), REVISION: 4.3")
    trt = fake_tensorrt("10.3")
    here = Machine.here(trt)
    (gpu, *_) = driver.devices()
    assert (here.tensorrt, here.flavour) == (trt.__version__, "full")
    assert (here.gpu, here.sm, here.multiprocessors) == (gpu.name, gpu.sm, gpu.multiprocessors)
    assert (here.driver, here.l4t) == ("540.4.0", "R36 (release), REVISION: 4.3")
    major, minor = map(int, here.cuda.split("."))
    assert major * 1000 + minor * 10 == driver.version()
    with library.use(trt):
        assert Machine.here() == here
    with pytest.raises(NoDevice, match=r"no GPU with index 7; there (is|are) \d"):
        Machine.here(trt, 7)


def test_what_a_plan_is_tied_to() -> None:
    here = machine()
    assert here.mismatch(machine(l4t="R36.5", driver="541", cuda="12.8")) is None
    assert set(here.key()) == {
        "tensorrt", "flavour", "gpu", "sm", "multiprocessors", "integrated", "system", "arch",
    }  # fmt: skip
    for fields, reason, text in [
        ({"flavour": "rtx"}, "header", "flavour rtx; expected full"),
        ({"tensorrt": "10.7.0"}, "version", r"TensorRT 10\.7\.0; this is 10\.3\.0"),
        ({"sm": "110"}, "architecture", "sm 110, 16 SMs"),
        ({"multiprocessors": 8}, "architecture", "8 SMs"),
        ({"gpu": "Orin Nano"}, "architecture", "built for Orin Nano"),
        ({"arch": "x86_64"}, "platform", "built on Linux x86_64; this is Linux aarch64"),
        # Where several differ, the first of the order is told.
        ({"tensorrt": "11.0", "sm": "90", "arch": "x86_64"}, "version", "11"),
    ]:
        found = here.mismatch(machine(**fields))
        assert found is not None
        assert found[0] == reason
        assert re.search(text, found[1]), found


def test_profiles() -> None:
    assert Profile().workspace_bytes(integrated=True) == 1 << 30
    assert Profile().workspace_bytes(integrated=False) is None
    assert Profile(workspace_mib=256).workspace_bytes(integrated=False) == 256 << 20
    for fields, text in [
        ({"max_batch": 0, "opt_batch": 0}, "batch 0"),
        ({"max_batch": 2, "opt_batch": 4}, "batch 4 of at most 2"),
        ({"max_batch": 4096}, "at most 4096"),
        ({"level": 6}, "level 6; expected 0 to 5"),
        ({"workspace_mib": 0}, "workspace 0 MiB"),
    ]:
        with pytest.raises(PlanError, match=text):
            Profile(**fields)
