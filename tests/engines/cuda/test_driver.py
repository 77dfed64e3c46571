"""Every driver passes the same checks: the fake here, the providers on a GPU, else on a simulated driver library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers_cuda import needs_package, on_twin, opened
from memedge_engines import hardware
from memedge_engines.cuda import conformance
from memedge_engines.cuda.fake import FakeDriver
from memedge_engines.cuda.opening import PROVIDERS, open_driver

ON_THE_TWIN = """
import ctypes, json
from memedge_engines.cuda.conformance import run_checks
from memedge_engines.cuda.opening import open_driver
driver = open_driver()
twin = ctypes.CDLL("libcuda.so.1")
found = run_checks(driver)
left = twin.twin_live()
driver.release()
driver.release()
print(json.dumps([driver.name, found, left, twin.twin_retained(), twin.twin_depth()]))
"""


@pytest.fixture(params=["fake", "fake that is late", "fake without graphs"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeDriver]:
    driver = opened(late=request.param == "fake that is late", graphs=request.param != "fake without graphs")
    yield driver
    driver.unbind()
    driver.release()
    driver.close_check()


@pytest.mark.parametrize("name", conformance.CHECKS)
def test_the_fake_conforms(fake: FakeDriver, name: str) -> None:
    conformance.CHECKS[name](fake)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_conforms_on_a_gpu(provider: str) -> None:
    if not hardware.nvidia_driver():
        pytest.skip("no NVIDIA driver on this machine; the provider runs on the simulated one")
    needs_package(provider)
    driver = open_driver(provider=provider)
    found = conformance.run_checks(driver)
    driver.release()
    assert found == dict.fromkeys(conformance.CHECKS, "")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_conforms_on_the_simulated_driver(provider: str) -> None:
    needs_package(provider)
    extra = {"PRELOAD": "libcuda.so.1", "TWIN_VERSION": "13000"} if provider == "pycuda" else {}
    name, found, left, retained, depth = on_twin(ON_THE_TWIN, MEMEDGE_CUDA=provider, **extra)
    assert name == provider
    assert found == dict.fromkeys(conformance.CHECKS, "")
    assert (left, retained, depth) == (0, 0, 0), "something was never given back"


def test_a_driver_that_does_less_is_found_out() -> None:
    def nothing(*_: object) -> None:
        """A kernel that does not work."""

    driver = FakeDriver({conformance.KERNEL: nothing})
    driver.retain(0)
    driver.bind()
    failed = {name for name, reason in conformance.run_checks(driver).items() if reason}
    assert failed == {"launch", "mapped memory", "two streams", "graph", "refused capture"}
    driver.release()
