"""The engine seam: what every back end that opens nodes must do, on every kind of node."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_bundle import VARIANTS, evaluate
from memedge_engines import backends
from memedge_engines.backends.base import Backend, Engine, EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.errors import BackendUnavailable, EngineError
from memedge_engines.manifest import Node

NODES = ["frame.model", "window.frame", "window.model", "clip.model", "fused.fast", "fused.slow", "fused.fuse"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    return {
        name: make(root / name, lowerings=("fp32", "cpu")) if name == "frame" else make(root / name)
        for name, make in VARIANTS.items()
    }


@pytest.fixture(scope="module", params=["synthetic", "onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found = backends.get(request.param)
    if not found.availability().usable:
        pytest.skip(found.availability().reason)
    return found


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def library(request: pytest.FixtureRequest) -> Backend:
    """A back end that reads graphs."""
    found = backends.get(request.param)
    if not found.availability().usable:
        pytest.skip(found.availability().reason)
    return found


def opened(
    backend: Backend, bundles: dict[str, Bundle], place: str, lowering: str = "fp32"
) -> tuple[Engine, Node, Bundle]:
    bundle = bundles[place.partition(".")[0]]
    node = bundle.manifest.node(place.partition(".")[2])
    return backend.open(bundle, node, lowering, EngineOptions(threads=1, max_batch=4)), node, bundle


def batch(engine: Engine, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.normal(0, 1, [count if d is None else d for d in spec.shape]).astype(spec.dtype)
        for spec in engine.inputs
    }


@pytest.mark.parametrize("place", NODES)
def test_names_shapes_and_dtypes_are_the_manifests(backend: Backend, bundles: dict[str, Bundle], place: str) -> None:
    engine, node, _ = opened(backend, bundles, place)
    with engine:
        assert [s.name for s in engine.inputs] == [i.name for i in node.inputs]
        assert {o.name for o in node.outputs} <= {s.name for s in engine.outputs}
        assert engine.name == backend.name
        assert (engine.lowering, engine.precision) == ("fp32", "fp32")
        for spec, item in zip(engine.inputs, node.inputs, strict=True):
            assert spec.dtype == np.float32
            assert spec.shape[0] is None
            if item.preprocess is not None and item.last > 1:
                assert spec.shape == (None, 3, 16, 24, 24)
        for count in (1, 3):
            results = engine.run(batch(engine, count))
            for spec in engine.outputs:
                assert results[spec.name].dtype == spec.dtype
                assert results[spec.name].shape == tuple(count if d is None else d for d in spec.shape)


@pytest.mark.parametrize("place", NODES)
def test_a_batch_gives_what_its_samples_give(backend: Backend, bundles: dict[str, Bundle], place: str) -> None:
    engine, _, _ = opened(backend, bundles, place)
    with engine:
        together = batch(engine, 3)
        whole = engine.run(together)
        for i in range(3):
            alone = engine.run({name: array[i : i + 1] for name, array in together.items()})
            for name, array in alone.items():
                tolerance = 0.0 if backend.name == "synthetic" else 1e-5
                np.testing.assert_allclose(array[0], whole[name][i], rtol=0, atol=tolerance)


@pytest.mark.parametrize("place", NODES)
@pytest.mark.parametrize("count", [1, 2])
def test_numbers_equal_onnx_reference(library: Backend, bundles: dict[str, Bundle], place: str, count: int) -> None:
    engine, node, bundle = opened(library, bundles, place)
    with engine:
        inputs = batch(engine, count, seed=count)
        expected = evaluate(bundle.read(node.files["fp32"]), **inputs)
        for name, array in engine.run(inputs).items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


def test_int8_lowering_equals_onnx_reference(library: Backend, bundles: dict[str, Bundle]) -> None:
    engine, node, bundle = opened(library, bundles, "frame.model", "cpu")
    with engine:
        assert (engine.lowering, engine.precision) == ("cpu", "int8")
        inputs = batch(engine, 2)
        expected = evaluate(bundle.read(node.files["cpu"]), **inputs)
        for name, array in engine.run(inputs).items():
            # Sums are exact in integers; one quantum of the activation may round the other way.
            np.testing.assert_allclose(array, expected[name], atol=5e-3)


def test_outputs_stay_what_they_were_when_the_engine_runs_again(backend: Backend, bundles: dict[str, Bundle]) -> None:
    engine, _, _ = opened(backend, bundles, "frame.model")
    with engine:
        first = engine.run(batch(engine, 1, seed=1))
        kept = {name: array.copy() for name, array in first.items()}
        engine.run(batch(engine, 1, seed=2))
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])


def test_inputs_need_not_be_contiguous(backend: Backend, bundles: dict[str, Bundle]) -> None:
    engine, _, _ = opened(backend, bundles, "frame.model")
    with engine:
        inputs = batch(engine, 2)
        expected = engine.run(inputs)
        spread = {name: np.repeat(array, 2, axis=3)[:, :, :, ::2] for name, array in inputs.items()}
        for name, array in engine.run(spread).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {}, r"inputs \[\]; expected \['frames'\]"),
        (lambda x: {"pictures": x}, r"inputs \['pictures'\]; expected \['frames'\]"),
        (lambda x: {"frames": x, "more": x}, r"expected \['frames'\]"),
        (lambda x: {"frames": x.astype(np.float64)}, "found dtype float64, expected float32"),
        (lambda x: {"frames": x.astype(np.uint8)}, "found dtype uint8, expected float32"),
        (lambda x: {"frames": x[0]}, r"found shape \(3, 32, 32\), expected \(batch, 3, 32, 32\)"),
        (lambda x: {"frames": x[:, :, :31]}, r"found shape \(1, 3, 31, 32\), expected \(batch, 3, 32, 32\)"),
        (lambda x: {"frames": x.transpose(0, 2, 3, 1)}, r"found shape \(1, 32, 32, 3\)"),
    ],
)
def test_wrong_inputs_say_found_and_expected(
    backend: Backend, bundles: dict[str, Bundle], change: object, message: str
) -> None:
    engine, _, _ = opened(backend, bundles, "frame.model")
    with engine, pytest.raises(EngineError, match=message):
        engine.run(change(np.zeros((1, 3, 32, 32), np.float32)))  # type: ignore[operator]


def test_inputs_of_different_batches_are_refused(backend: Backend, bundles: dict[str, Bundle]) -> None:
    engine, _, _ = opened(backend, bundles, "fused.fuse")
    with engine, pytest.raises(EngineError, match="batch 2, another input has 1"):
        engine.run({"fast": np.zeros((1, 8), np.float32), "slow": np.zeros((2, 8), np.float32)})


def test_closed_engine_refuses_and_closes_twice(backend: Backend, bundles: dict[str, Bundle]) -> None:
    engine, _, _ = opened(backend, bundles, "frame.model")
    inputs = batch(engine, 1)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="used after it was closed"):
        engine.run(inputs)


def test_lowering_that_the_node_lacks(backend: Backend, bundles: dict[str, Bundle]) -> None:
    bundle = bundles["clip"]
    with pytest.raises(EngineError, match="node 'model' has no lowering 'cpu'; the bundle has fp32"):
        backend.open(bundle, bundle.manifest.node("model"), "cpu")


def test_lowering_that_the_back_end_does_not_run(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["frame"]
    with pytest.raises(EngineError, match="onnxruntime does not run lowering 'trt-int8'; it runs cpu, fp32"):
        backends.get("onnxruntime").open(bundle, bundle.manifest.node("model"), "trt-int8")


def test_library_that_is_not_usable(
    backend: Backend, bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles["frame"]
    monkeypatch.setattr(
        type(backend), "availability", lambda self: backends.Availability(False, "gone", "bring it back")
    )
    with pytest.raises(BackendUnavailable, match=f"engine {backend.name}: gone") as caught:
        backend.open(bundle, bundle.manifest.node("model"), "fp32")
    assert caught.value.fix == "bring it back"


def test_availability_names_version_and_device(backend: Backend) -> None:
    found = backend.availability()
    assert found.usable
    assert found.version
    assert found.devices
    assert not found.reason
