"""Finding back ends by name, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memedge_engines import backends
from memedge_engines.backends.base import Backend
from memedge_engines.errors import EngineError


def test_names_in_order_of_preference() -> None:
    names = backends.names()
    assert set(names) >= {"onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "tensorrt"}
    order = [names.index(name) for name in ("tensorrt", "onnxruntime-cuda", "onnxruntime", "openvino")]
    assert order == sorted(order)
    assert "synthetic" not in names
    assert "base" not in names


@pytest.mark.parametrize(
    "name", ["onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "synthetic", "tensorrt"]
)
def test_each_is_found_and_names_itself(name: str) -> None:
    backend = backends.get(name)
    assert isinstance(backend, Backend)
    assert backend.name == name
    assert "fp32" in backend.lowerings


def test_a_slip_is_recognised() -> None:
    with pytest.raises(EngineError, match=r"no engine 'openvin'; did you mean 'openvino'\?") as caught:
        backends.get("openvin")
    assert caught.value.fix == "memedge doctor"


@pytest.mark.parametrize("name", ["", "base", "os", "../x", "xyzzy", "onnxruntime_cuda.x"])
def test_what_is_no_engine_is_an_error_that_lists_them(name: str) -> None:
    with pytest.raises(EngineError, match=r"There are .*onnxruntime.*openvino"):
        backends.get(name)


class _Point:
    """An entry point of another package."""

    name, value = "foreign", "foreign.module:THING"

    def __init__(self, thing: object) -> None:
        self._thing = thing

    def load(self) -> object:
        return self._thing


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_Point]]:
    """Entry points that other packages would bring; read anew before and after."""
    points: list[_Point] = []
    backends._foreign.cache_clear()
    monkeypatch.setattr(backends, "entry_points", lambda group: points if group == "memedge.backends" else [])
    yield points
    backends._foreign.cache_clear()


def test_entry_points_add_back_ends(foreign: list[_Point]) -> None:
    own = backends.get("synthetic")
    foreign.append(_Point(own))
    assert "foreign" in backends.names()
    assert backends.get("foreign") is own
    with pytest.raises(EngineError, match=r"did you mean 'foreign'\?"):
        backends.get("foriegn")


def test_entry_point_that_is_no_back_end(foreign: list[_Point]) -> None:
    foreign.append(_Point("text"))
    with pytest.raises(EngineError, match=r"entry point foreign\.module:THING gives no back end"):
        backends.get("foreign")
