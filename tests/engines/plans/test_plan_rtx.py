"""The plan builder with a real parser and a real builder: TensorRT for RTX, which needs no GPU to build."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from helpers_plans import DEFAULT, conv, graph, machine, rtx, rtx_machine
from memedge_engines.backends.base import contract_shape
from memedge_engines.bundle import Bundle
from memedge_engines.errors import BuildCancelled, PlanError
from memedge_engines.plans import builder, library, sidecar
from memedge_engines.plans.builder import Built
from memedge_engines.plans.profile import Profile


def build(model: bytes, lowering: str = "fp32", profile: Profile | None = None, **more: Any) -> Built:
    on = more.pop("on", None) or rtx_machine()
    return builder.build(model, lowering, profile or Profile(), on, trt=rtx(), **more)


def refused(model: bytes, **more: Any) -> PlanError:
    with pytest.raises(PlanError) as caught:
        build(model, **more)
    assert caught.value.log
    return caught.value


@pytest.mark.parametrize("lowering", ["trt-int8", "trt-fp16", "fp32"])
def test_the_default_bundle(lowering: str) -> None:
    bundle = Bundle.open(DEFAULT)
    node = bundle.manifest.node("model")
    entry = node.files[lowering]  # type: ignore[index]
    seen: list[tuple[float, str]] = []
    shapes = {item.name: contract_shape(item) or () for item in node.inputs}
    profile = Profile(max_batch=4, opt_batch=2, workspace_mib=512)
    built = build(bundle.read(entry), lowering, profile, shapes=shapes, progress=lambda *event: seen.append(event))
    header = sidecar.read_header(built.plan)
    assert (header.tag, header.version) == ("vtrt", ())
    assert not [line for line in built.log if not line.startswith("warning")]
    assert [(t.name, t.mode, t.dtype, t.shape) for t in built.tensors] == [
        ("frames", "input", "float32", (-1, 3, 128, 128)),
        ("score", "output", "float32", (-1, 1)),
        ("embedding", "output", "float32", (-1, 256)),
    ]
    assert built.tensors[0].maximum == (4, 3, 128, 128)
    # The library has no timing cache, says its documentation: nothing is asked of it, so it warns of nothing.
    assert (built.timing_cache, built.options.timing_cache_bytes) == (b"", 0)
    assert built.options.flags == (() if lowering == "fp32" else ("TF32",))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert len({text for _, text in seen}) > 5
    assert 0.5 < fractions[-1] <= 1.0


def test_why_its_timing_cache_is_left_alone() -> None:
    config = rtx().Builder(library.logger(rtx())).create_builder_config()
    with pytest.warns(DeprecationWarning, match="no-ops"):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def nodes(*kinds: tuple[str, list[str], list[str]]) -> list[onnx.NodeProto]:
    return [helper.make_node(op, inputs, outputs, name=f"n{i}") for i, (op, inputs, outputs) in enumerate(kinds)]


def pair(zero: int, scale: Any) -> bytes:
    body = nodes(
        ("QuantizeLinear", ["frames", "s", "z"], ["q"]), ("DequantizeLinear", ["q", "s", "z"], ["d"]),
        ("Conv", ["d", "w"], ["score"]),
    )  # fmt: skip
    return graph(body, s=np.float32(scale), z=np.int8(zero), w=np.ones((4, 3, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("model", "cause", "said"),
    [
        (lambda: b"garbage", "graph", "Failed to parse the ONNX model"),
        (lambda: b"", "graph", "no input or no output"),
        (lambda: conv()[:-40], "graph", "Failed to parse"),
        (lambda: conv(dtype=np.float16), "typing", r"'stem' \(Conv\).*`kernel` is of type Half"),
        (lambda: graph(nodes(("Nonsense", ["frames"], ["score"]))), "unsupported", "'n0' .*Plugin not found"),
        (lambda: pair(3, 0.1), "quantization", r"'n0' \(QuantizeLinear\).*Non-zero zero point"),
        (lambda: pair(0, -0.1), "unknown|graph|quantization", "scale"),
    ],
)
def test_graphs_that_the_parser_refuses(model: Callable[[], bytes], cause: str, said: str) -> None:
    error = refused(model())
    assert error.cause in cause.split("|")
    assert error.message.startswith("parsing the graph failed: ")
    assert re.search(said, error.message), error.message


def test_shapes_that_no_profile_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(conv(("batch", 3, "h", 16)))
    assert error.cause == "profile"
    # The library's own words, past our own check: no profile, then an impossible one.
    monkeypatch.setattr(builder, "_add_profile", lambda *_: None)
    error = refused(conv())
    assert error.cause == "profile"
    assert "no optimization profile has been defined" in error.message
    monkeypatch.undo()
    monkeypatch.setattr(builder, "_range", lambda *_: ((4, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16)))
    error = refused(conv())
    assert "MIN<=OPT<=MAX" in error.message
    assert error.cause == "profile"


def test_a_gpu_that_it_does_not_build_for() -> None:
    with pytest.raises(PlanError, match="unsupported SM 87 of TensorRT for RTX") as caught:
        build(conv(), on=machine(flavour="rtx"))
    assert caught.value.cause == "unsupported"


@pytest.mark.parametrize("after", [0, 20])
def test_cancelling(after: int) -> None:
    model = Bundle.open(DEFAULT)
    data = model.read(model.manifest.node("model").files["trt-int8"])
    seen: list[float] = []
    with pytest.raises(BuildCancelled) as caught:
        build(data, "trt-int8", progress=lambda f, _: seen.append(f), cancelled=lambda: len(seen) > after)
    assert caught.value.cause == "cancelled"
    assert len(seen) < after + 10
    # The next build in the same process is none the worse.
    assert build(conv()).plan


def test_an_interrupt_in_a_callback_is_raised_on_the_callers_thread() -> None:
    def interrupt(fraction: float, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(conv(), progress=interrupt)
