"""Names of the driver's packages that the providers use exist in what is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memedge_engines.cuda import cuda_python, driver_errors, library

_SOURCE = Path(cuda_python.__file__).read_text()


def test_every_name_of_the_bindings_exists() -> None:
    api = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    functions = set(re.findall(r'"(cu[A-Z]\w+)"', _SOURCE)) | set(re.findall(r"_api\.(cu[A-Z]\w+)", _SOURCE))
    assert len(functions) > 35
    assert [name for name in sorted(functions) if not callable(getattr(api, name, None))] == []
    members = set(re.findall(r"_api\.(CU\w+(?:\.CU\w+)?)", _SOURCE))
    for variable, kind in (("kinds", "CUjit_option"), ("flags", "CUevent_flags")):
        members |= {f"{kind}.{name}" for name in re.findall(rf"\b{variable}\.(CU_\w+)", _SOURCE)}
    members |= {
        f"CUdevice_attribute.CU_DEVICE_ATTRIBUTE_{name}" for name in re.findall(r'attribute\("(\w+)"\)', _SOURCE)
    }
    assert len(members) > 10
    for name in sorted(members):
        found = api
        for part in name.split("."):
            found = getattr(found, part)


def test_numbers_of_errors_are_the_drivers() -> None:
    api = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    names = {int(member): member.name for member in api.CUresult}
    known = {code: driver_errors.error_name(code) for code in range(1000) if driver_errors.error_name(code)}
    assert known.pop(35)  # numbers of the CUDA runtime, which libraries on top of it pass on
    assert known.pop(36)
    assert len(known) > 40
    assert {code: names.get(code) for code in known} == known
    assert int(api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) == library.THREAD_LOCAL


@pytest.mark.parametrize("name", ["cuGetErrorString", "cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_calls_through_ctypes_are_those_of_the_simulated_driver(name: str) -> None:
    source = (Path(__file__).parent / "libcuda_twin.c").read_text()
    assert f"CUresult {name}(" in source
