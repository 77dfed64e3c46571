"""The fake TensorRT has the names of the version asked for, keeps its order and refuses what is undefined."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from fake_tensorrt import VERSIONS, Faults, Misuse, fake_tensorrt
from helpers_plans import conv, machine
from memedge_engines.errors import PlanError
from memedge_engines.plans import builder, classify, inspection, library, sidecar
from memedge_engines.plans.profile import Profile


def built(trt: Any, model: bytes | None = None, lowering: str = "fp32") -> bytes:
    return builder.build(model or conv(), lowering, Profile(max_batch=4), machine(), trt=trt).plan


def test_the_recorded_versions_are_those_of_the_supported_range() -> None:
    assert [version.split(".")[:2] for version in VERSIONS] == [
        ["10", "3"], ["10", "7"], ["10", "13"], ["10", "16"], ["11", "0"], ["11", "4"],
    ]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_names_come_and_go_with_the_version(version: str) -> None:
    trt = fake_tensorrt(version)
    old, number = trt.fake.major == 10, trt.fake.version
    assert trt.__version__.startswith(version)
    assert hasattr(trt.BuilderFlag, "FP16") == old
    assert hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == old
    assert hasattr(trt, "IInt8Calibrator") == old
    assert hasattr(trt.IBuilderConfig, "int8_calibrator") == old
    assert hasattr(trt.ICudaEngine, "device_memory_size") == old
    assert hasattr(trt.Builder, "build_engine_with_config") == (number >= (10, 7))
    assert hasattr(trt.IBuilderConfig, "tiling_optimization_level") == (number >= (10, 13))
    assert not hasattr(trt.IExecutionContext, "execute_async_v2")
    with pytest.raises(AttributeError, match="has no attribute"):
        _ = trt.Nonsense


def test_numbers_of_members_are_of_no_version() -> None:
    modules = [fake_tensorrt("10.3"), fake_tensorrt("11.4")]
    assert all(int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) not in (0, -1) for trt in modules)
    one, other = ({name: int(flag) for name, flag in trt.BuilderFlag.__members__.items()} for trt in modules)
    shared = one.keys() & other.keys()
    assert len({name for name in shared if one[name] != other[name]}) > len(shared) // 2


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no names of TensorRT 9 are recorded"):
        fake_tensorrt("9")


def test_a_parser_does_not_keep_its_network_alive() -> None:
    trt = fake_tensorrt("10.3")
    logger = library.logger(trt)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    gc.collect()
    with pytest.raises(Misuse, match="network that is gone"):
        parser.parse(conv())


def test_without_a_gpu() -> None:
    trt = fake_tensorrt("10.3", gpu=False)
    with pytest.raises(TypeError, match="factory function returned nullptr"):
        trt.Builder(library.logger(trt))
    with pytest.raises(Misuse, match="may crash the process"):
        trt.Runtime(library.logger(trt))


def test_a_second_logger_is_refused() -> None:
    trt = fake_tensorrt("10.3")
    first, second = trt.Logger(), trt.Logger()
    trt.Builder(first)
    with pytest.raises(Misuse, match="a second logger"):
        trt.Runtime(second)


def test_what_the_fake_does_not_know_is_said_and_not_invented() -> None:
    trt = fake_tensorrt("10.3")
    config = trt.Builder(library.logger(trt)).create_builder_config()
    with pytest.raises(Misuse, match=r"does not know IBuilderConfig\.default_device_type"):
        _ = config.default_device_type
    with pytest.raises(Misuse, match=r"does not know what IBuilderConfig\.reset does"):
        config.reset()


def test_precision_flags_do_not_go_with_strong_typing() -> None:
    trt = fake_tensorrt("10.3")
    logger = library.logger(trt)
    maker = trt.Builder(logger)
    network = maker.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(conv(shape=(1, 3, 16, 16)))
    config = maker.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    assert maker.build_serialized_network(network, config) is None
    assert "Precision flags" in trt.fake.said[-1][1]


@pytest.mark.parametrize("version", ["10.3", "10.16", "11.4"])
def test_a_plan_has_a_real_header_and_loads_again(version: str) -> None:
    trt = fake_tensorrt(version)
    plan = built(trt)
    header = sidecar.read_header(plan)
    assert (header.tag, header.serialization, header.version) == ("ftrt", 0, trt.fake.version)
    engine = trt.Runtime(library.logger(trt)).deserialize_cuda_engine(plan)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    assert names == ["frames", "score"]
    assert [engine.get_tensor_mode(name).name for name in names] == ["INPUT", "OUTPUT"]
    assert engine.get_tensor_profile_shape("frames", 0) == [(1, 3, 16, 16), (1, 3, 16, 16), (4, 3, 16, 16)]
    with pytest.raises(Misuse, match="of the output"):
        engine.get_tensor_profile_shape("score", 0)
    with pytest.raises(Misuse, match="no tensor 'scores'"):
        engine.get_tensor_dtype("scores")
    with pytest.raises(Misuse, match="no driver to run on"):
        engine.create_execution_context()


# How a plan is changed, and the reason that memedge reads out of the log.
REFUSED: dict[str, tuple[Any, str]] = {
    "version": (lambda plan: plan[:24] + bytes([10, 7, 0, 23]) + plan[28:], "version"),
    "gpu": (lambda plan: plan[:20] + (89).to_bytes(4, "little") + plan[24:], "architecture"),
    "system": (lambda plan: plan[:16] + b"\0\0\0\0" + plan[20:], "platform"),
    "prefix": (lambda plan: b"\x10\0\0\0" + plan, "header"),
    "text": (lambda plan: b"not a plan", "header"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_plans_of_elsewhere_give_none_and_the_library_s_words(case: str) -> None:
    change, reason = REFUSED[case]
    trt = fake_tensorrt("10.3")
    data = change(built(trt))
    with library.collecting() as log:
        assert trt.Runtime(library.logger(trt)).deserialize_cuda_engine(data) is None
    assert classify.mismatch(log) == reason


def test_a_plan_that_is_cut_short_or_altered() -> None:
    trt = fake_tensorrt("10.3")
    plan = built(trt)
    runtime = trt.Runtime(library.logger(trt))
    assert runtime.deserialize_cuda_engine(plan[:-5]) is None
    assert runtime.deserialize_cuda_engine(plan[:-40] + b"x" + plan[-39:]) is None


@pytest.mark.parametrize(("version", "ends"), [("10.3", "Bindings"), ("11.4", "I/O Tensors")])
def test_the_inspector_s_two_schemas(version: str, ends: str) -> None:
    trt = fake_tensorrt(version)
    plan = built(trt)
    engine = trt.Runtime(library.logger(trt)).deserialize_cuda_engine(plan)
    told = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    assert ends in told
    assert ("Format/Datatype" in told["Layers"][0]["Inputs"][0]) == (version == "10.3")
    layers = inspection.inspect_plan(trt, library.logger(trt), plan)
    assert layers is not None
    assert (layers.total, layers.fp32) == (1, 1)


def test_faults_on_order() -> None:
    trt = fake_tensorrt("10.3", faults=Faults(build=("Error Code 2: OutOfMemory (no further information)",)))
    with pytest.raises(PlanError) as caught:
        built(trt)
    assert caught.value.cause == "memory"
    trt.fake.faults.build = ()
    trt.fake.faults.strong_build = ("Error Code 9: could not infer output types",)
    with pytest.raises(PlanError, match="types in the graph"):
        built(trt)
    # Below 10.12 the builder tries weak typing where that may help.
    assert "FP16" in fake_flags(trt)
    trt.fake.faults.strong_build = ()
    for call in ("Builder.create_network", "OnnxParser.parse", "Builder.build_serialized_network"):
        trt.fake.faults.refusing, trt.fake.faults.says = call, f"{call} says no"
        with pytest.raises(PlanError, match=f"{call} says no"):
            built(trt)


def fake_flags(trt: Any) -> list[str]:
    """Flags of the last plan, built in half precision after strong typing failed."""
    built(trt, lowering="trt-fp16")
    flags: list[str] = trt.fake.built[-1]["flags"]
    return flags


def test_a_callback_that_raises_is_misuse() -> None:
    trt = fake_tensorrt("10.3")

    class Broken(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            raise ValueError("mine")

    logger = library.logger(trt)
    maker = trt.Builder(logger)
    network = maker.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(conv(shape=(1, 3, 16, 16)))
    config = maker.create_builder_config()
    config.progress_monitor = Broken()
    with pytest.raises(Misuse, match="raised ValueError"):
        maker.build_serialized_network(network, config)


def test_timing_caches_belong_to_a_version_and_a_device() -> None:
    trt, other = fake_tensorrt("10.3"), fake_tensorrt("10.3", sm="89")
    one = builder.build(conv(), "fp32", Profile(), machine(), trt=trt)
    assert one.timing_cache
    config = trt.Builder(library.logger(trt)).create_builder_config()
    assert config.set_timing_cache(config.create_timing_cache(one.timing_cache), ignore_mismatch=False) is True
    assert config.create_timing_cache(b"rubbish") is None
    there = other.Builder(library.logger(other)).create_builder_config()
    cache = there.create_timing_cache(one.timing_cache)
    assert there.set_timing_cache(cache, False) is False
    assert there.set_timing_cache(cache, True) is True
