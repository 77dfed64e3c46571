"""The builder's checks and options, with a fake that refuses what the real one may refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

import helpers_fake_trt as fake
from helpers_plans import conv, machine
from memedge_engines.errors import BuildCancelled, PlanError
from memedge_engines.plans import builder
from memedge_engines.plans.builder import Built
from memedge_engines.plans.profile import Profile


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fake.reset()
    monkeypatch.setattr(fake, "__version__", "10.3.0")
    yield
    fake.reset()


def build(model: bytes | None = None, lowering: str = "trt-int8", profile: Profile | None = None, **more: Any) -> Built:
    return builder.build(model or conv(), lowering, profile or Profile(), more.pop("on", machine()), trt=fake, **more)


@pytest.mark.parametrize(
    "call",
    [
        "Builder", "create_network", "OnnxParser", "parse", "create_builder_config", "create_optimization_profile",
        "profile", "add_optimization_profile", "create_timing_cache", "set_timing_cache", "build_serialized_network",
    ],
)  # fmt: skip
def test_every_refusal_is_an_error_with_what_was_said(call: str) -> None:
    said = "profile" if call == "profile" else f"{call} says: CUDA error: out of memory"
    fake.reset(refuse=(call,), says={call: said})
    with pytest.raises(PlanError, match=r"failed: .*") as caught:
        build()
    error = caught.value
    if call != "profile":
        assert error.cause == "memory"
        assert error.message.endswith(f"failed: memory ran out: {said}")
        assert "--workspace 256" in str(error)
    assert any(said in line for line in error.log)
    assert fake.behaviour.calls[-1] == call or call == "set_timing_cache"


def test_a_silent_refusal_and_a_binding_that_raises() -> None:
    fake.reset(refuse=("build_serialized_network",))
    with pytest.raises(PlanError, match=r"^building failed: TensorRT does not say why$") as caught:
        build(lowering="fp32")
    assert (caught.value.fix, caught.value.cause) == (None, "unknown")
    fake.reset(raises=("create_network",))
    with pytest.raises(PlanError, match="RuntimeError: create_network raised"):
        build(lowering="fp32")


def test_options_on_an_integrated_gpu() -> None:
    built = build(profile=Profile(max_batch=8, opt_batch=4, level=5))
    config = fake.Builder.configs[-1]
    assert (config.workspace, config.builder_optimization_level, config.max_aux_streams) == (1 << 30, 5, 0)
    assert (config.profiling_verbosity, config.flags, config.progress_monitor) == ("DETAILED", {"TF32"}, None)
    assert config.profiles[0].shapes == {"frames": ((1, 3, 16, 16), (4, 3, 16, 16), (8, 3, 16, 16))}
    assert built.options.workspace_bytes == 1 << 30
    assert (built.options.typing, built.options.flags, built.options.level) == ("strong", ("TF32",), 5)
    frames, score = built.tensors
    assert (frames.name, frames.mode, frames.dtype, frames.shape) == ("frames", "input", "float32", (-1, 3, 16, 16))
    assert (frames.minimum, frames.optimum, frames.maximum) == config.profiles[0].shapes["frames"]
    assert (score.mode, score.minimum) == ("output", None)


def test_fp32_means_fp32_and_a_desktop_keeps_the_default_workspace() -> None:
    built = build(lowering="fp32", on=machine(integrated=False))
    config = fake.Builder.configs[-1]
    assert config.flags == set()
    assert config.workspace is None
    assert built.options.flags == ()


def test_the_timing_cache_grows_and_one_that_does_not_fit_is_replaced() -> None:
    assert build(timing_cache=b"").timing_cache == b"+"
    assert build(timing_cache=b"+").timing_cache == b"++"
    assert fake.behaviour.caches == [b"", b"+"]
    for bad in (b"corrupt", b"of another GPU"):
        built = build(timing_cache=bad)
        assert built.timing_cache == b"+"
        assert built.options.timing_cache_bytes == 0


def test_shapes_that_the_graph_leaves_free_come_from_the_contract() -> None:
    free = conv(("batch", 3, "h", "w"))
    build(free, shapes={"frames": (None, 3, 32, 48)}, profile=Profile(2, 1))
    assert fake.Builder.configs[-1].profiles[0].shapes == {"frames": ((1, 3, 32, 48), (1, 3, 32, 48), (2, 3, 32, 48))}
    for shapes in ({}, {"frames": (None, 3, None, 48)}):
        with pytest.raises(PlanError, match="leaves axis 2 free and its contract gives no size") as caught:
            build(free, shapes=shapes)
        assert caught.value.cause == "profile"


def test_a_fixed_batch() -> None:
    build(conv((1, 3, 16, 16)))
    assert fake.Builder.configs[-1].profiles == []
    with pytest.raises(PlanError, match=r"'frames' has a fixed batch of 1; the profile asks for 4"):
        build(conv((1, 3, 16, 16)), profile=Profile(4, 4))


TYPING = "stem: input and kernel must be of same type. input type is Float but kernel is of type Half"


@pytest.mark.parametrize(
    ("lowering", "flags"), [("trt-int8", {"TF32", "FP16", "INT8"}), ("trt-fp16", {"TF32", "FP16"})]
)
def test_weak_typing_once_below_10_12(lowering: str, flags: set[str]) -> None:
    fake.reset(weak_only=TYPING)
    built = build(lowering=lowering)
    assert built.options.typing == "weak"
    assert built.options.fallback.startswith("parsing the graph failed: types in the graph do not fit each other")
    assert fake.Builder.configs[-1].flags == flags == set(built.options.flags)
    assert fake.behaviour.calls.count("create_network") == 2


def test_no_weak_typing_where_it_is_not_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.reset(weak_only=TYPING)
    with pytest.raises(PlanError, match="do not fit each other"):
        build(lowering="fp32")
    for version in ("10.12.0", "10.16.1", "11.4.0"):
        monkeypatch.setattr(fake, "__version__", version)
        with pytest.raises(PlanError) as caught:
            build()
        assert caught.value.cause == "typing"
    monkeypatch.setattr(fake, "__version__", "10.3.0")
    monkeypatch.delattr(fake.BuilderFlag, "INT8")
    with pytest.raises(PlanError, match="do not fit each other"):
        build()
    assert fake.behaviour.calls.count("create_network") == 5
    # Another typing does not mend a full disk.
    fake.reset(refuse=("build_serialized_network",), says={"build_serialized_network": "No space left on device"})
    with pytest.raises(PlanError, match=r"the disk is full.*MEMEDGE_CACHE"):
        build()
    assert fake.behaviour.calls.count("create_network") == 1


def test_when_weak_typing_fails_too_the_first_error_leads() -> None:
    fake.reset(weak_only=TYPING, refuse=("build_serialized_network",))
    with pytest.raises(PlanError) as caught:
        build()
    error = caught.value
    assert re.search("types in the graph.*; weak typing failed too: building failed", error.message)
    assert error.cause == "typing"


def test_cancelling_before_and_in_the_middle() -> None:
    seen: list[float] = []
    with pytest.raises(BuildCancelled) as caught:
        build(progress=lambda fraction, _: seen.append(fraction), cancelled=lambda: len(seen) > 2)
    assert caught.value.cause == "cancelled"
    assert any("BuildCanceled" in line for line in caught.value.log)
    assert fake.behaviour.calls.count("create_network") == 1
    with pytest.raises(BuildCancelled):
        build(cancelled=lambda: True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("pipe closed")])
def test_an_exception_of_the_progress_callback_stops_the_build_and_comes_out(error: BaseException) -> None:
    def fall(fraction: float, text: str) -> None:
        raise error

    with pytest.raises(type(error)):
        build(progress=fall)


def test_progress_rises_to_the_end() -> None:
    seen: list[tuple[float, str]] = []
    fake.reset(steps=50)
    build(progress=lambda *event: seen.append(event))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert {text for _, text in seen} == {"Building engine"}
