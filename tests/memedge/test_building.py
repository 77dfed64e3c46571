from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers_bundle import make_frame_bundle
from helpers_plans import DEFAULT, machine, rtx_machine
from memedge import building
from memedge.console import Progress
from memedge.errors import EngineError, UnknownName
from memedge_engines.bundle import Bundle
from memedge_engines.errors import PlanError
from memedge_engines.plans.profile import Profile
from memedge_engines.plans.sidecar import Difference, Layers, Options


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))


def test_which_lowering_a_precision_means(tmp_path: Path) -> None:
    default = Bundle.open(DEFAULT)
    assert [building.lowering_of(default, p) for p in ("auto", "int8", "fp16", "fp32")] == [
        "trt-int8", "trt-int8", "trt-fp16", "fp32",
    ]  # fmt: skip
    tiny = make_frame_bundle(tmp_path / "bundle", lowerings=("fp32", "cpu"))
    assert building.lowering_of(tiny) == "fp32"
    with pytest.raises(EngineError, match="has no lowering 'trt-int8'; TensorRT could run fp32"):
        building.lowering_of(tiny, "int8")
    with pytest.raises(UnknownName, match="did you mean 'int8'"):
        building.lowering_of(tiny, "int9")
    # What the fidelity gate refused is not taken by itself.
    golden = msgspec.structs.replace(default.manifest.golden, tolerance={"fp32": 0.01, "trt-fp16": 0.01})
    failed = Bundle(default.path, msgspec.structs.replace(default.manifest, golden=golden), default.hash)
    assert building.lowering_of(failed) == "trt-fp16"
    with pytest.raises(EngineError, match="records no golden scores for 'trt-int8'"):
        building.lowering_of(failed, "int8")
    golden = msgspec.structs.replace(golden, tolerance={})
    failed = Bundle(default.path, msgspec.structs.replace(default.manifest, golden=golden), default.hash)
    with pytest.raises(EngineError, match="no lowering that passed the fidelity gate"):
        building.lowering_of(failed)


def test_building_with_a_real_builder(capfd: pytest.CaptureFixture[str]) -> None:
    bundle = Bundle.open(DEFAULT)
    tracker = Progress("build", building.PERCENT, every_s=0.0)
    where: dict[str, Any] = {"machine": rtx_machine(), "module": "tensorrt_rtx"}
    report = building.build(bundle, "int8", Profile(2, 2), tracker, **where)
    assert tracker.done == 100
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("build: 100/100 done (")
    assert any("model: reading the graph" in line for line in lines)
    told = report.lines()
    path = report.result.plans[0].path
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    assert told[0].startswith(f"{bundle.manifest.name} node model: int8, {size}, built in ")
    assert told[1:] == [
        f"  plan: {path}",
        f"  for: RTX 3080 (sm 86), TensorRT {rtx_machine().tensorrt}, batch 1 to 2",
        "  layers: not counted (the plan could not be inspected here)",
        "  golden frames: not run (no engine here runs this plan)",
    ]
    plain = json.loads(json.dumps(report.to_json()))
    assert (plain["precision"], plain["lowering"], plain["hash"]) == ("int8", "trt-int8", bundle.hash)
    (plan,) = plain["plans"]
    assert (plan["path"], plan["bytes"], plan["reused"]) == (str(path), path.stat().st_size, False)
    assert plan["record"]["profile"]["max_batch"] == 2
    again = building.build(bundle, "int8", Profile(2, 2), **where)
    assert again.result.plans[0].reused
    assert "kept (built 20" in again.lines()[0]
    proven = msgspec.structs.replace(
        report.result.plans[0].sidecar,
        layers=Layers(total=23, int8=18, fp16=2, fp32=1, moves=2),
        golden=(Difference(target="short_term", largest=0.0004, tolerance=0.01),),
        options=Options(typing="weak", fallback="parsing failed"),
    )
    plan_there = building.BuiltPlan("model", path, proven, reused=False)
    full = building.BuildReport("b", "h", building.BuildResult("trt-int8", (plan_there,), 1.0))
    assert full.lines()[3:] == [
        "  layers: 23: 18 int8, 2 fp16, 1 fp32, 2 reformats and copies, 0 other",
        "  golden frames: short_term differs by 0.0004 (tolerance 0.01)",
        "  weakly typed, since strong typing failed: parsing failed",
    ]


def test_a_failed_build_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_frame_bundle(tmp_path / "bundle")
    monkeypatch.setenv("FAKE_TRT", json.dumps({"build": ["CUDA: out of memory"]}))
    with pytest.raises(PlanError, match=r"building failed: memory ran out: CUDA: out of memory.*--workspace") as caught:
        building.build(tiny, machine=machine(), module="helpers_child_trt")
    assert caught.value.cause == "memory"
    assert caught.value.log
