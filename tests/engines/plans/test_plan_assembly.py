"""A bundle's plans from start to finish, golden frames included: a fake builder, real graphs run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import helpers_plans
from fake_tensorrt import fake_tensorrt
from helpers_bundle import edit_manifest, make_frame_bundle, make_fused_bundle
from helpers_plans import DEFAULT, machine
from memedge_engines.bundle import Bundle
from memedge_engines.errors import BuildCancelled, BundleError, EngineError, PlanError, PlanMismatch, PlanMissing
from memedge_engines.plans import assembly, library, proof, store
from memedge_engines.plans.messages import Finished, Request
from memedge_engines.plans.profile import Profile
from memedge_engines.plans.sidecar import SideCar

HERE = machine()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_frame_bundle(tmp_path_factory.mktemp("assembly") / "bundle").path


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fused_bundle(tmp_path_factory.mktemp("assembly") / "fused").path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(proof, "BACKEND", "helpers_plans")


@pytest.fixture
def trt() -> Any:
    return fake_tensorrt("10.3")


def assemble(
    trt: Any, bundle: Path, lowering: str = "fp32", **fields: Any
) -> tuple[Finished, list[tuple[float, str, str]]]:
    told: list[tuple[float, str, str]] = []
    cancelled = fields.pop("cancelled", lambda: False)
    request = Request(bundle=str(bundle), lowering=lowering, profile=Profile(), machine=HERE, **fields)
    return assembly.assemble(request, trt, lambda *event: told.append(event), cancelled), told


def stored(bundle: Path, node: str = "model", lowering: str = "fp32", **more: Any) -> SideCar:
    opened = Bundle.open(bundle)
    return store.read(opened, opened.manifest.node(node), lowering, Profile(), HERE, **more).sidecar


def builds(trt: Any) -> int:
    return int(trt.fake.calls["Builder.build_serialized_network"])


def test_built_proven_stored_and_kept(trt: Any, tiny: Path) -> None:
    done, told = assemble(trt, tiny)
    assert [(node, reused) for node, _, reused in done.plans] == [("model", False)]
    assert Path(done.plans[0][1]).read_bytes().startswith(b"ftrt")
    fractions = [fraction for fraction, _, _ in told]
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert ("golden frames", "") in [(text, node) for _, text, node in told]
    record = stored(tiny)
    assert record.layers is not None
    assert record.header.version == trt.fake.version
    assert (record.attempt, record.tool.startswith("memedge ")) == (1, True)
    assert record.golden is not None
    (difference,) = record.golden
    # ONNX Runtime against the scores that onnx's reference evaluator gave.
    assert (difference.target, difference.tolerance) == ("short_term", 0.01)
    assert 0.0 < difference.largest < 1e-4
    done, _ = assemble(trt, tiny)
    assert done.plans[0][2]
    assert builds(trt) == 1
    done, _ = assemble(trt, tiny, force=True)
    assert not done.plans[0][2]
    # What earlier builds measured is given to the next one.
    assert record.options.timing_cache_bytes == 0
    assert stored(tiny).options.timing_cache_bytes == len(store.timing_cache(HERE)) > 0


@pytest.mark.parametrize("lowering", ["trt-int8", "trt-fp16"])
def test_lowerings_of_the_default_bundle(trt: Any, lowering: str) -> None:
    assemble(trt, DEFAULT, lowering)
    record = stored(DEFAULT, lowering=lowering)
    assert record.golden is not None
    assert all(one.largest <= one.tolerance for one in record.golden)
    assert record.source.lowering == lowering
    assert (record.source.calibration is not None) == (record.source.ranges_sha256 is not None) == ("int8" in lowering)
    assert set(record.preprocess) == {"frames"}


def test_a_build_with_other_scores_is_built_again_without_its_measurements(trt: Any, tiny: Path) -> None:
    trt.fake.faults.skew, trt.fake.faults.skewed_builds = 0.2, 1
    assemble(fake_tensorrt("10.3"), tiny)  # leaves what it measured
    _, told = assemble(trt, tiny, force=True)
    assert stored(tiny).attempt == 2
    assert stored(tiny).options.timing_cache_bytes == 0
    (again,) = [text for _, text, _ in told if "building again" in text]
    assert "short_term differs by 0.2 (tolerance 0.01); building again (2 of 3)" in again


def test_three_builds_with_other_scores_are_refused(trt: Any, tiny: Path) -> None:
    trt.fake.faults.skew = 0.2
    with pytest.raises(
        PlanMismatch, match=r"short_term differs by 0\.2 \(tolerance 0\.01\).*--precision fp16"
    ) as caught:
        assemble(trt, tiny)
    assert caught.value.reason == "golden"
    assert builds(trt) == 3
    with pytest.raises(PlanMissing):
        stored(tiny, unproven=True)


def test_a_plan_that_does_not_run_is_refused(trt: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(node: Any, lowering: str, plan: Any) -> Any:
        raise EngineError("no context")

    monkeypatch.setattr(helpers_plans, "open_plan", fail)
    with pytest.raises(PlanMismatch, match="does not run its golden frames: no context"):
        assemble(trt, tiny)
    monkeypatch.setattr(helpers_plans, "open_plan", lambda *_: (_ for _ in ()).throw(PlanMismatch("version", "other")))
    with pytest.raises(PlanMismatch, match="other"):
        assemble(trt, tiny)
    assert builds(trt) == 4  # a plan of another version is not built again and again


def test_a_score_that_is_not_a_number_is_refused(trt: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = helpers_plans.open_plan

    def broken(node: Any, lowering: str, plan: Any) -> Any:
        engine = real(node, lowering, plan)
        engine._skew = float("nan")
        return engine

    monkeypatch.setattr(helpers_plans, "open_plan", broken)
    with pytest.raises(PlanMismatch, match="differs by nan"):
        assemble(trt, tiny)


def test_without_a_runner_a_plan_stays_unproven(trt: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "BACKEND", "memedge_engines.backends.no_such_backend")
    assemble(trt, tiny)
    with pytest.raises(PlanMismatch, match="has not run its golden frames") as caught:
        stored(tiny)
    assert caught.value.reason == "golden"
    assert stored(tiny, unproven=True).golden is None
    assert assemble(trt, tiny)[0].plans[0][2]
    # Once there is one, the unproven plan is not taken over.
    monkeypatch.setattr(proof, "BACKEND", "helpers_plans")
    assert not assemble(trt, tiny)[0].plans[0][2]
    assert stored(tiny).golden


def test_several_nodes(trt: Any, fused: Path) -> None:
    done, told = assemble(trt, fused)
    assert [node for node, _, _ in done.plans] == ["fast", "slow", "fuse"]
    assert builds(trt) == 3
    assert [text for _, text, _ in told].count("golden frames") == 1
    fractions = [fraction for fraction, _, _ in told]
    assert fractions == sorted(fractions)
    differences = stored(fused, "fuse").golden
    assert differences is not None
    assert [one.target for one in differences] == ["short_term", "long_term"]
    opened = Bundle.open(fused)
    store.forget(opened, opened.manifest.node("slow"), "fp32", Profile(), HERE)
    done, _ = assemble(trt, fused)
    assert [reused for _, _, reused in done.plans] == [True, False, True]


def test_what_cannot_be_built_is_said_before_building(
    trt: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match="does not run lowering 'cpu'; it runs trt-int8, trt-fp16, fp32"):
        assemble(trt, tiny, "cpu")
    with pytest.raises(EngineError, match="has no lowering 'trt-int8'; TensorRT could run fp32"):
        assemble(trt, tiny, "trt-int8")
    with pytest.raises(BundleError, match="no bundle at"):
        assemble(trt, tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(PlanError, match="set MEMEDGE_CACHE"):
        assemble(trt, tiny)
    assert builds(trt) == 0


def test_a_lowering_without_golden_scores_is_refused() -> None:
    opened = Bundle.open(DEFAULT)
    manifest = opened.manifest
    golden = dict(manifest.golden.tolerance)
    del golden["trt-fp16"]
    import msgspec

    changed = msgspec.structs.replace(manifest, golden=msgspec.structs.replace(manifest.golden, tolerance=golden))
    with pytest.raises(EngineError, match="records no golden scores for 'trt-fp16'"):
        assembly.check_lowering(Bundle(opened.path, changed, opened.hash), "trt-fp16")


def test_damaged_graphs(trt: Any, tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle").path
    (bundle / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="altered or cut short"):
        assemble(trt, bundle)
    import hashlib

    edit_manifest(
        bundle,
        lambda d: d["nodes"][0]["files"]["fp32"].update(sha256=hashlib.sha256(b"damaged").hexdigest()),
    )
    with pytest.raises(EngineError, match="is not an ONNX model"):
        assemble(trt, bundle)


def test_cancelled_between_nodes(trt: Any, fused: Path) -> None:
    with pytest.raises(BuildCancelled):
        assemble(trt, fused, cancelled=lambda: builds(trt) >= 1)
    assert builds(trt) == 1
    with pytest.raises(PlanMissing):
        stored(fused, "fast", unproven=True)


def test_proven_by_the_back_end_that_will_run_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with nothing replaced but the library and the driver below it."""
    from memedge_engines.cuda import opening
    from memedge_engines.cuda.fake import FakeDriver

    def opened(device: int = 0) -> FakeDriver:
        driver.retain(device)
        driver.bind()
        return driver

    driver = FakeDriver()
    trt = fake_tensorrt("10.3", driver=driver)
    monkeypatch.setattr(opening, "open_driver", opened)
    monkeypatch.setattr(proof, "BACKEND", "memedge_engines.backends.tensorrt")
    with library.use(trt):
        assemble(trt, tiny)
        assert trt.fake.executions >= 3
        found = stored(tiny).golden
        assert found is not None
        assert found[0].largest < 1e-4
        trt.fake.faults.skew = 0.2
        with pytest.raises(PlanMismatch, match=r"short_term differs by 0\.2"):
            assemble(trt, tiny, force=True)
