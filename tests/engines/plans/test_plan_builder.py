"""The builder's checks and options, with a fake TensorRT that refuses what the real one may refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fake_tensorrt import VERSIONS, Faults, fake_tensorrt
from helpers_plans import conv, machine
from memedge_engines.errors import BuildCancelled, PlanError
from memedge_engines.plans import builder, inspection, library
from memedge_engines.plans.builder import Built
from memedge_engines.plans.profile import Profile


def build(trt: Any, model: bytes | None = None, lowering: str = "trt-int8", **more: Any) -> Built:
    profile, on = more.pop("profile", Profile()), more.pop("on", machine())
    return builder.build(model or conv(), lowering, profile, on, trt=trt, **more)


@pytest.mark.parametrize("lowering", ["trt-int8", "trt-fp16", "fp32"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_supported_version_has_every_name(version: str, lowering: str) -> None:
    trt = fake_tensorrt(version)
    built = build(trt, lowering=lowering, timing_cache=build(trt).timing_cache)
    assert built.options.typing == "strong"
    assert not [line for line in built.log if not line.startswith("warning")]
    assert trt.fake.built[-1]["strong"]
    layers = inspection.inspect_plan(trt, library.logger(trt), built.plan)
    assert layers is not None
    assert (layers.total, layers.fp32) == (1, 1)


@pytest.mark.parametrize(
    "call",
    [
        "Builder.create_network", "OnnxParser.parse", "Builder.create_builder_config",
        "Builder.create_optimization_profile", "IBuilderConfig.add_optimization_profile",
        "IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache", "Builder.build_serialized_network",
    ],
)  # fmt: skip
def test_every_refusal_is_an_error_with_what_was_said(call: str) -> None:
    trt = fake_tensorrt("10.3", faults=Faults(refusing=call, says="Error Code 1: Cuda (out of memory)"))
    with pytest.raises(PlanError) as caught:
        build(trt)
    error = caught.value
    said = f"{call.replace('.', '::')}: Error Code 1: Cuda (out of memory)"
    assert error.message.endswith(f" failed: memory ran out: {said}")
    assert "--workspace 256" in str(error)
    assert (error.cause, f"error: {said}" in error.log) == ("memory", True)
    assert trt.fake.calls[call] >= 1
    assert trt.fake.calls["Builder.create_network"] == 1  # another typing does not make memory


def test_what_a_binding_raises_is_an_error_too() -> None:
    with pytest.raises(PlanError, match="RuntimeError: create_network raised"):
        build(fake_tensorrt("11", faults=Faults(raising="Builder.create_network")))
    with pytest.raises(PlanError, match=r"the CUDA driver is missing.*factory function returned nullptr") as caught:
        build(fake_tensorrt("10.3", gpu=False))
    assert caught.value.cause == "driver"


def test_a_silent_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt("11")
    monkeypatch.setattr(trt.Builder, "build_serialized_network", lambda *_: None)
    with pytest.raises(PlanError, match=r"^building failed: TensorRT does not say why$") as caught:
        build(trt)
    assert (caught.value.fix, caught.value.cause) == (None, "unknown")


def test_options_on_an_integrated_gpu() -> None:
    trt = fake_tensorrt("10.3")
    built = build(trt, profile=Profile(max_batch=8, opt_batch=4, level=5))
    (told,) = trt.fake.built
    assert (told["workspace"], told["level"], told["aux_streams"]) == (1 << 30, 5, 0)
    assert (told["detailed"], told["strong"], told["flags"]) == (True, True, ["TF32"])
    assert told["profiles"] == [{"frames": [[1, 3, 16, 16], [4, 3, 16, 16], [8, 3, 16, 16]]}]
    assert built.options.workspace_bytes == 1 << 30
    assert (built.options.typing, built.options.flags, built.options.level) == ("strong", ("TF32",), 5)
    frames, score = built.tensors
    assert (frames.name, frames.mode, frames.dtype, frames.shape) == ("frames", "input", "float32", (-1, 3, 16, 16))
    assert (frames.minimum, frames.optimum, frames.maximum) == ((1, 3, 16, 16), (4, 3, 16, 16), (8, 3, 16, 16))
    assert (score.mode, score.minimum) == ("output", None)


def test_fp32_means_fp32_and_a_desktop_keeps_the_default_workspace() -> None:
    trt = fake_tensorrt("10.16")
    built = build(trt, lowering="fp32", on=machine(integrated=False))
    assert (trt.fake.built[-1]["flags"], trt.fake.built[-1]["workspace"]) == ([], None)
    assert (built.options.flags, built.options.workspace_bytes) == ((), None)


def test_the_timing_cache_grows_and_one_that_does_not_fit_is_replaced() -> None:
    trt = fake_tensorrt("10.3")
    first = build(trt)
    assert first.options.timing_cache_bytes == 0
    second = build(trt, conv(channels=8), timing_cache=first.timing_cache)
    assert second.options.timing_cache_bytes == len(first.timing_cache)
    assert len(second.timing_cache) > len(first.timing_cache)
    elsewhere = build(fake_tensorrt("10.3", sm="89")).timing_cache
    for bad in (b"corrupt", elsewhere):
        built = build(trt, timing_cache=bad)
        assert built.options.timing_cache_bytes == 0
        assert built.timing_cache == first.timing_cache


def test_shapes_that_the_graph_leaves_free_come_from_the_contract() -> None:
    trt = fake_tensorrt("10.3")
    free = conv(("batch", 3, "h", "w"))
    build(trt, free, shapes={"frames": (None, 3, 32, 48)}, profile=Profile(2, 1))
    assert trt.fake.built[-1]["profiles"] == [{"frames": [[1, 3, 32, 48], [1, 3, 32, 48], [2, 3, 32, 48]]}]
    for shapes in ({}, {"frames": (None, 3, None, 48)}):
        with pytest.raises(PlanError, match="leaves axis 2 free and its contract gives no size") as caught:
            build(trt, free, shapes=shapes)
        assert caught.value.cause == "profile"


def test_a_fixed_batch() -> None:
    trt = fake_tensorrt("10.3")
    build(trt, conv((1, 3, 16, 16)))
    assert trt.fake.built[-1]["profiles"] == []
    with pytest.raises(PlanError, match=r"'frames' has a fixed batch of 1; the profile asks for 4"):
        build(trt, conv((1, 3, 16, 16)), profile=Profile(4, 4))


TYPING = "stem: input and kernel must be of same type. input type is Float but kernel is of type Half"


@pytest.mark.parametrize(
    ("lowering", "flags"), [("trt-int8", {"TF32", "FP16", "INT8"}), ("trt-fp16", {"TF32", "FP16"})]
)
@pytest.mark.parametrize("version", ["10.3", "10.7"])
def test_weak_typing_once_below_10_12(version: str, lowering: str, flags: set[str]) -> None:
    trt = fake_tensorrt(version, faults=Faults(strong_build=(TYPING,)))
    built = build(trt, lowering=lowering)
    assert built.options.typing == "weak"
    assert built.options.fallback.startswith("building failed: types in the graph do not fit each other: stem")
    (told,) = trt.fake.built
    assert set(told["flags"]) == flags == set(built.options.flags)
    assert not told["strong"]


@pytest.mark.parametrize("version", ["10.13", "10.16", "11.0", "11.4"])
def test_no_weak_typing_where_strong_typing_is_complete(version: str) -> None:
    trt = fake_tensorrt(version, faults=Faults(strong_build=(TYPING,)))
    with pytest.raises(PlanError) as caught:
        build(trt)
    assert caught.value.cause == "typing"
    assert trt.fake.calls["Builder.create_network"] == 1


def test_no_weak_typing_where_it_mends_nothing() -> None:
    for faults, more in (
        (Faults(strong_build=(TYPING,)), {"lowering": "fp32"}),
        (Faults(strong_build=("write failed: No space left on device",)), {}),
        (Faults(parse="Failed to parse the ONNX model."), {}),
    ):
        trt = fake_tensorrt("10.3", faults=faults)
        with pytest.raises(PlanError):
            build(trt, **more)
        assert trt.fake.calls["Builder.create_network"] == 1


def test_when_weak_typing_fails_too_the_first_error_leads() -> None:
    trt = fake_tensorrt("10.3", faults=Faults(build=(TYPING,)))
    with pytest.raises(PlanError) as caught:
        build(trt)
    assert re.search("types in the graph.*; weak typing failed too: building failed", caught.value.message)
    assert caught.value.cause == "typing"
    assert trt.fake.calls["Builder.create_network"] == 2


def test_cancelling_before_and_in_the_middle() -> None:
    trt = fake_tensorrt("10.3")
    seen: list[float] = []
    with pytest.raises(BuildCancelled) as caught:
        build(trt, progress=lambda fraction, _: seen.append(fraction), cancelled=lambda: len(seen) > 2)
    assert caught.value.cause == "cancelled"
    assert any("BuildCanceled" in line for line in caught.value.log)
    assert trt.fake.calls["Builder.create_network"] == 1
    with pytest.raises(BuildCancelled):
        build(trt, cancelled=lambda: True)
    assert trt.fake.built == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("pipe closed")])
def test_an_exception_of_the_progress_callback_stops_the_build_and_comes_out(error: BaseException) -> None:
    def fall(fraction: float, text: str) -> None:
        raise error

    with pytest.raises(type(error)):
        build(fake_tensorrt("10.3"), progress=fall)


def test_progress_rises_to_the_end() -> None:
    trt = fake_tensorrt("10.3")
    seen: list[tuple[float, str]] = []
    build(trt, progress=lambda *event: seen.append(event))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len({text for _, text in seen}) == 4
