"""The TensorRT back end: what is missing in which order, plans found and refused, numpy in and out on a fake device."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from helpers_bundle import evaluate, make_frame_bundle
from helpers_gpu import add_half_and_int8, desktop, fake_gpu
from memedge_engines import backends, choice, hardware
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.cuda import opening
from memedge_engines.errors import DriverMissing, EngineError, NoDevice, PlanMismatch, PlanMissing
from memedge_engines.plans import store


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = add_half_and_int8(make_frame_bundle(tmp_path_factory.mktemp("tensorrt") / "b"))
    with fake_gpu(devices=[desktop()]) as gpu:
        gpu.build(made, max_batch=4)
        gpu.build(made, "trt-int8")
    return made


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


BACKEND = backends.get("tensorrt")


def test_each_missing_piece_has_its_reason_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: False)
    found = BACKEND.availability()
    assert not found.usable
    assert found.reason.startswith("no NVIDIA driver is loaded")
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: True)
    told = []
    for error in (
        DriverMissing("no package that speaks to it", fix="pip install 'memedge[cuda]'"),
        NoDevice("CUDA_VISIBLE_DEVICES hides all", fix="unset it"),
        RuntimeError("whatever"),
    ):

        def fails(provider: str = "auto", error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(opening, "load_driver", fails)
        found = BACKEND.availability()
        told.append((found.usable, found.reason, found.fix))
    assert told == [
        (False, "no package that speaks to it", "pip install 'memedge[cuda]'"),
        (False, "CUDA_VISIBLE_DEVICES hides all", "unset it"),
        (False, "TensorRT cannot be used: whatever", "memedge doctor"),
    ]
    monkeypatch.setattr(opening, "load_driver", lambda provider="auto": None)
    found = BACKEND.availability()
    assert "tensorrt" in found.reason
    assert found.fix is not None


@pytest.mark.parametrize("version", ["10.3", "10.7", "10.13", "11.0", "11.4"])
def test_available_with_every_version(version: str) -> None:
    with fake_gpu(version, devices=[desktop()]) as gpu:
        found = BACKEND.availability()
        assert found.usable
        assert found.version == gpu.trt.__version__
        assert found.devices == ("Fake 4090",)


@pytest.mark.parametrize("version", ["10.3", "11.4"])
@pytest.mark.parametrize("lowering", ["fp32", "trt-int8"])
def test_numbers_are_the_graphs(bundle: Bundle, version: str, lowering: str, own_cache: None) -> None:
    (node,) = bundle.manifest.nodes
    rng = np.random.default_rng(3)
    with fake_gpu(version, devices=[desktop()]) as gpu:
        gpu.build(bundle, lowering, max_batch=4)
        with BACKEND.open(bundle, node, lowering, EngineOptions(max_batch=4)) as engine:
            assert (engine.name, engine.lowering) == ("tensorrt", lowering)
            assert [spec.shape for spec in engine.inputs] == [(None, 3, 32, 32)]
            for batch in (1, 4, 1, 2):  # buffers grow, shapes change, buffers are used again
                values = rng.normal(0, 1, (batch, 3, 32, 32))
                given = (values * 40).astype(np.int8) if lowering == "trt-int8" else values.astype(np.float32)
                expected = evaluate(bundle.read(node.files[lowering]), frames=given)
                before = gpu.driver.calls.copy()
                found = engine.run({"frames": given})
                made = gpu.driver.calls - before
                assert (made["copy_to_device"], made["copy_to_host"]) == (1, 1)
                for name, value in expected.items():
                    np.testing.assert_allclose(found[name], value, atol=1e-4)
            with pytest.raises(EngineError, match="at most 4") as refused:
                engine.run({"frames": np.repeat(given[:1], 5, 0)})
            assert refused.value.fix == "memedge build --batch 5"
            assert engine.run({"frames": given})
            gpu.faults.enqueue = 1
            with pytest.raises(EngineError, match="running failed"):
                engine.run({"frames": given})
            assert engine.run({"frames": given})


def test_a_plan_of_any_effort_and_a_larger_batch_serves(bundle: Bundle) -> None:
    (node,) = bundle.manifest.nodes
    with fake_gpu(devices=[desktop()]), BACKEND.open(bundle, node, "fp32", EngineOptions(max_batch=2)) as engine:
        assert engine.max_batch == 4  # type: ignore[attr-defined]


def test_a_missing_plan_names_the_command_that_builds_it(bundle: Bundle, own_cache: None) -> None:
    (node,) = bundle.manifest.nodes
    with fake_gpu(devices=[desktop()]):
        with pytest.raises(PlanMissing) as missing:
            BACKEND.open(bundle, node, "trt-fp16", EngineOptions(max_batch=3))
        assert missing.value.fix == f"memedge build '{bundle.path}' --precision fp16 --batch 3"
        with pytest.raises(EngineError, match="bf16"):
            BACKEND.open(bundle, node, "fp32", EngineOptions(bf16=True))


def test_plans_of_other_machines_versions_and_damaged_ones_have_reasons(bundle: Bundle, own_cache: None) -> None:
    (node,) = bundle.manifest.nodes

    def reason() -> str:
        with pytest.raises(PlanMismatch) as refused:
            BACKEND.open(bundle, node, "fp32")
        assert refused.value.fix == f"memedge build '{bundle.path}' --precision fp32"
        return refused.value.reason

    with fake_gpu(devices=[desktop()]) as gpu:
        gpu.build(bundle)
    with fake_gpu("10.7", devices=[desktop()]):
        assert reason() == "version"
    with fake_gpu(devices=[desktop(name="Fake 3060")]):
        assert reason() == "architecture"
    with fake_gpu(devices=[desktop()]) as gpu:
        gpu.faults.deserialize = ("The engine plan file is generated on an incompatible device, expecting compute 8.7",)
        with pytest.raises(PlanMismatch) as refused:
            BACKEND.open(bundle, node, "fp32")
        assert refused.value.reason == "architecture"
        gpu.faults.deserialize = ()
        gpu.faults.context = True
        with BACKEND.open(bundle, node, "fp32") as engine, pytest.raises(EngineError, match="memory ran out"):
            engine.run({"frames": np.zeros((1, 3, 32, 32), np.float32)})
        gpu.faults.context = False
        (path,) = store.stored(bundle)
        path.write_bytes(path.read_bytes()[:-1])
        assert reason() == "hash"


def test_auto_takes_the_first_lowering_with_a_plan(bundle: Bundle, own_cache: None) -> None:
    with fake_gpu(devices=[desktop()]) as gpu:
        found = choice.first(bundle)
        assert found.candidate.backend != "tensorrt"
        assert [str(one.candidate) for one in found.skipped][:3] == ["tensorrt int8", "tensorrt fp16", "tensorrt fp32"]
        for engine in found.engines.values():
            engine.close()
        assert str(choice.unbuilt(bundle)) == "tensorrt int8"
        assert str(choice.unbuilt(bundle, "tensorrt", "fp16")) == "tensorrt fp16"
        assert choice.unbuilt(bundle, "onnxruntime") is None
        gpu.build(bundle, "trt-fp16")
        found = choice.first(bundle)
        assert str(found.candidate) == "tensorrt fp16"
        for engine in found.engines.values():
            engine.close()
        assert str(choice.unbuilt(bundle)) == "tensorrt int8"
        assert choice.unbuilt(bundle, precision="fp16") is None
    assert choice.unbuilt(bundle) is None


def test_a_new_plan_makes_what_was_remembered_old(bundle: Bundle, own_cache: None) -> None:
    with fake_gpu(devices=[desktop()]) as gpu:
        choice.tune(bundle, count=1, budget_s=0.0)
        before = choice.remembered(bundle)
        assert before is not None
        assert before.backend != "tensorrt"
        gpu.build(bundle, "trt-int8")
        assert choice.remembered(bundle) is None
        timings = choice.tune(bundle, count=1, budget_s=0.0)
        assert "tensorrt int8" in {str(t.candidate) for t in timings if t.median_ms is not None}
