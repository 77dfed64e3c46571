"""What opening a driver says when a piece is missing, each with its own error and fix."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from helpers_cuda import needs_package, on_twin
from memedge_engines import hardware
from memedge_engines.cuda import cuda_python, driver_errors, library, opening
from memedge_engines.errors import (
    CudaError,
    CudaUnsupported,
    DeviceOutOfMemory,
    DriverMissing,
    DriverTooOld,
    NoDevice,
    UnknownName,
)


class Bindings(types.SimpleNamespace):
    """As much of cuda.bindings.driver as opening needs; ``init``: what cuInit returns."""

    def __init__(self, init: int = 0, version: int = 12060, count: int = 1, retain: int = 0) -> None:
        super().__init__()
        self.cuInit = lambda flags: (init,)
        self.cuDriverGetVersion = lambda: (0, version)
        self.cuDeviceGetCount = lambda: (0, count)
        self.cuDeviceGet = lambda index: (0, index)
        self.cuDeviceGetName = lambda size, device: (0, b"Some device\0\0")
        self.cuDeviceGetAttribute = lambda attribute, device: (0, 8)
        self.cuDeviceTotalMem = lambda device: (0, 1 << 30)
        self.cuDeviceGetUuid = lambda device: (0, types.SimpleNamespace(bytes=bytes(16)))
        self.cuDevicePrimaryCtxRetain = lambda device: (retain, 1)
        self.CUresult = int
        self.cuGetErrorName = lambda code: (0, b"CUDA_ERROR_BY_THE_DRIVER")
        self.cuGetErrorString = lambda code: (0, b"the driver's text")
        names = ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "MULTIPROCESSOR_COUNT", "INTEGRATED",
                 "CAN_MAP_HOST_MEMORY")  # fmt: skip
        self.CUdevice_attribute = types.SimpleNamespace(**{f"CU_DEVICE_ATTRIBUTE_{name}": 0 for name in names})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with a driver and cuda-python of given behaviour."""
    monkeypatch.delenv("MEMEDGE_CUDA", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(bindings: Any = None, package: tuple[int, int, int] = (12, 9, 10), loaded: bool = True) -> None:
        def find() -> Any:
            if bindings is None:
                raise ImportError("No module named 'cuda'")
            return bindings

        monkeypatch.setattr(library, "load", lambda: None)
        monkeypatch.setattr(hardware, "nvidia_driver", lambda: loaded)
        monkeypatch.setattr(cuda_python, "bindings", find)
        monkeypatch.setattr(cuda_python, "bindings_version", lambda: package)

    return make


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(library, "load", no_library)
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    with pytest.raises(DriverMissing, match=r"no NVIDIA driver on this machine.*fix: install"):
        opening.open_driver()
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: True)
    with pytest.raises(DriverMissing, match=r"is loaded, but its library cannot be.*--gpus all"):
        opening.open_driver()


def test_this_machine_explains_itself() -> None:
    if hardware.nvidia_driver():
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(DriverMissing) as error:
        opening.open_driver()
    assert error.value.fix


def test_no_provider(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(None)
    monkeypatch.setitem(__import__("sys").modules, "pycuda", None)
    with pytest.raises(DriverMissing, match=r"No module named 'cuda'.*fix: pip install 'memedge\[cuda\]'"):
        opening.open_driver()
    with pytest.raises(DriverMissing, match=r"fix: pip install 'memedge\[pycuda\]'"):
        opening.open_driver(provider="pycuda")


def test_the_environment_names_the_provider(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(Bindings())
    monkeypatch.setenv("MEMEDGE_CUDA", "cuda-python")
    assert opening.load_driver().name == "cuda-python"
    monkeypatch.setenv("MEMEDGE_CUDA", "cupy")
    with pytest.raises(UnknownName, match=r"MEMEDGE_CUDA=cupy is no CUDA provider.*cuda-python, pycuda, auto"):
        opening.load_driver()
    with pytest.raises(UnknownName, match="'numba'"):
        opening.load_driver("numba")


@pytest.mark.parametrize(
    ("package", "version", "fix"),
    [
        ((13, 4, 0), 12060, "<13"),
        ((13, 4, 0), 13000, None),
        ((12, 9, 10), 13010, None),
        ((12, 9, 10), 11080, "JetPack"),
    ],
)
def test_driver_too_old_for_the_package(machine: Any, package: Any, version: int, fix: str | None) -> None:
    machine(Bindings(version=version), package)
    if fix is None:
        assert opening.load_driver().version() == version
        return
    with pytest.raises(DriverTooOld, match=f"needs a driver of CUDA {package[0]}; this one is of") as error:
        opening.load_driver()
    assert fix in (error.value.fix or "")


def test_no_device(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for bindings in (Bindings(init=100), Bindings(count=0)):
        machine(bindings)
        with pytest.raises(NoDevice, match=r"sees no device.*nvidia-smi -L"):
            opening.open_driver()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(NoDevice, match="CUDA_VISIBLE_DEVICES='-1' hides every device"):
        opening.open_driver()
    machine(Bindings(init=100), loaded=False)
    with pytest.raises(DriverMissing, match=r"no NVIDIA driver is loaded.*--gpus all"):
        opening.open_driver()


@pytest.mark.parametrize("index", [1, -1])
def test_no_such_device(machine: Any, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    machine(Bindings())
    with pytest.raises(NoDevice, match=f"no device {index}; this process may use 0: Some device"):
        opening.open_driver(index)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(NoDevice, match="CUDA_VISIBLE_DEVICES is '0'"):
        opening.open_driver(index)


def test_a_device_that_refuses(machine: Any) -> None:
    machine(Bindings(retain=46))
    with pytest.raises(CudaError, match=r"cuDevicePrimaryCtxRetain failed: CUDA_ERROR_BY_THE_DRIVER \(46\)"):
        opening.open_driver()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(2, DeviceOutOfMemory), (34, DriverMissing), (35, DriverTooOld), (100, NoDevice), (222, DriverTooOld),
     (700, CudaError), (801, CudaUnsupported), (803, DriverTooOld), (999, CudaError), (31337, CudaError)],
)  # fmt: skip
def test_codes_are_typed(code: int, kind: type[CudaError]) -> None:
    error = driver_errors.driver_error("cuCall", code, "CUDA_ERROR_NAME", "the driver's text", "a log")
    assert type(error) is kind
    assert (error.call, error.code) == ("cuCall", code)
    for part in ("cuCall", str(code), "CUDA_ERROR_NAME", "the driver's text", "a log"):
        assert part in error.message
    assert bool(error.fix) is (code != 31337)


def test_a_lost_context_is_told_from_a_refusal() -> None:
    lost = {code for code in range(1000) if driver_errors.context_lost(driver_errors.driver_error("cuCall", code))}
    assert {700, 716, 719} <= lost
    assert not lost & {1, 2, 100, 222, 400, 600, 900, 901}
    assert not driver_errors.context_lost(ValueError())


OPEN = """
import json, os, sys
from memedge_engines.errors import CudaError
from memedge_engines.cuda import conformance, fake, memory, opening, worker
early = [name for name in ("cuda.bindings", "pycuda", "tensorrt") if name in sys.modules]
said = []
for variables in json.loads(os.environ["CASES"]):
    os.environ.update(variables)
    try:
        opening.open_driver()
    except CudaError as error:
        said.append([type(error).__name__, str(error)])
    for name in variables:
        del os.environ[name]
print(json.dumps([early, said]))
"""


def test_errors_through_the_real_bindings() -> None:
    """Also: importing the modules imports no package of the driver."""
    if hardware.nvidia_driver():
        pytest.skip("this machine has an NVIDIA driver")
    needs_package("cuda-python")
    cases = [{"TWIN_INIT": "100"}, {"TWIN_INIT": "999"}, {"TWIN_VERSION": "11080"}]
    early, said = on_twin(OPEN, MEMEDGE_CUDA="cuda-python", CASES=json.dumps(cases))
    assert early == []
    assert [kind for kind, _ in said] == ["DriverMissing", "CudaError", "DriverTooOld"]
    for (_, text), part in zip(
        said,
        (
            "CUDA_ERROR_NO_DEVICE (100), 'no CUDA-capable device is detected'",
            "CUDA_ERROR_UNKNOWN (999), 'unknown error'",
            "this one is of CUDA 11.8",
        ),
        strict=True,
    ):
        assert part in text
