"""The synthetic back end: its documented function, and its switches."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from helpers_bundle import edit_manifest, make_frame_bundle
from memedge_engines import backends
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.errors import EngineError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("synthetic") / "bundle")


def documented(x: np.ndarray, j: int) -> float:
    """The formula of the module's docstring, element by element."""
    flat = [float(v) for v in x.reshape(-1)]
    terms = []
    for i, value in enumerate(flat):
        fraction = math.modf(0.618034 * i)[0]
        terms.append(value * (1 + 0.5 * math.cos(2 * math.pi * (j + 1) * fraction)))
    return 0.5 + 0.1 * math.fsum(terms) / len(terms)


def test_numbers_are_the_documented_function(bundle: Bundle) -> None:
    x = np.random.default_rng(5).normal(0, 1, (2, 3, 32, 32)).astype(np.float32)
    with backends.get("synthetic").open(bundle, bundle.manifest.node("model"), "fp32") as engine:
        results = engine.run({"frames": x})
    for sample in range(2):
        assert results["score"][sample, 0] == pytest.approx(documented(x[sample], 0), abs=1e-6)
        for j in range(8):
            assert results["embedding"][sample, j] == pytest.approx(documented(x[sample], j), abs=1e-6)


def test_opens_a_node_whose_graph_is_not_readable(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle")
    (bundle.path / "model.onnx").write_bytes(b"not a graph")
    with backends.get("synthetic").open(bundle, bundle.manifest.node("model"), "fp32") as engine:
        assert engine.run({"frames": np.zeros((1, 3, 32, 32), np.float32)})["score"] == np.float32(0.5)


def test_integer_inputs_are_scaled(tmp_path: Path) -> None:
    make_frame_bundle(tmp_path / "bundle")

    def store_int8(data: dict) -> None:
        data["nodes"][0]["files"]["fp32"]["inputs"] = {"frames": {"dtype": "int8", "scale": 0.25}}

    edit_manifest(tmp_path / "bundle", store_int8)
    bundle = Bundle.open(tmp_path / "bundle")
    x = np.random.default_rng(6).integers(-128, 128, (1, 3, 32, 32)).astype(np.int8)
    with backends.get("synthetic").open(bundle, bundle.manifest.node("model"), "fp32") as engine:
        found = engine.run({"frames": x})["score"][0, 0]
    assert found == pytest.approx(documented(x.astype(np.float64) * 0.25, 0), abs=1e-4)


def test_switches(bundle: Bundle) -> None:
    node, x = bundle.manifest.node("model"), {"frames": np.zeros((1, 3, 32, 32), np.float32)}
    late = EngineOptions(extra={"delay_s": "0.05", "fail_on": "2", "dims": "3"})
    with backends.get("synthetic").open(bundle, node, "fp32", late) as engine:
        begin = time.monotonic()
        assert engine.run(x)["embedding"].shape == (1, 3)
        assert time.monotonic() - begin >= 0.05
        with pytest.raises(EngineError, match="run 2 failed"):
            engine.run(x)
        engine.run(x)
    with pytest.raises(EngineError, match="no such device"):
        backends.get("synthetic").open(bundle, node, "fp32", EngineOptions(extra={"fail_open": "no such device"}))
