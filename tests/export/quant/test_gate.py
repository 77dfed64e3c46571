"""The gate: promotes the guilty layers of a real graph and stops, keeps to its bounds, tells why it fails."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

import numpy as np
import pytest
from onnx import helper

from helpers_graphs import contract as make_contract
from helpers_graphs import evaluate, head, model_bytes, picture, pillow_tensor
from memedge.fidelity import GateFrames, decode, lines
from memedge_engines.manifest import InputStorage
from memedge_export.errors import ExportError
from memedge_export.quant.gate import (
    GateError,
    OtherFrames,
    fidelity_json,
    lowering_fidelity,
    method_result,
    run_gate,
    speed_here,
)
from memedge_export.quant.graph import Layer
from memedge_export.quant.lower import layers, lower_cpu
from memedge_export.quant.lower_types import Lowered
from memedge_export.quant.ranges import RangeTable, graph_hash
from memedge_export.quant.scoring import FloatModel, FrameScores, PictureTensors, median_ms, score_frames

RNG = np.random.default_rng(0)
REFERENCE = np.clip(RNG.normal(0.5, 0.08, 220), 0, 1)


class Fake:
    """A network whose layers each add noise of a known size to the scores while they are lowered."""

    def __init__(self, effects: Mapping[str, float], macs: Mapping[str, int] | None = None) -> None:
        self.layers = [Layer(name=name, op="Conv", macs=(macs or {}).get(name, 100)) for name in effects]
        self.layers.append(Layer(name="linear", op="Gemm", macs=10, head=True))
        self.whole = 0
        rng = np.random.default_rng(1)
        self._noise = {name: effect * rng.normal(size=220) for name, effect in effects.items()}

    def lower(self, excluded: frozenset[str]) -> Lowered:
        assert "linear" not in excluded
        costs = {layer.name: layer.macs for layer in self.layers[:-1]}
        kept = tuple(name for name in costs if name not in excluded)
        return Lowered(
            model=",".join(kept).encode(),
            quantized=kept,
            floated={"linear": "belongs to the head, which stays float"} | dict.fromkeys(excluded, "excluded"),
            mac_share=sum(costs[name] for name in kept) / sum(costs.values()),
            inputs={},
        )

    def score(self, lowered: Lowered, rows: np.ndarray | None = None) -> np.ndarray:
        self.whole += rows is None
        total = REFERENCE + sum((self._noise[name] for name in lowered.quantized), np.zeros(220))
        return total if rows is None else total[rows]

    def run(self, **more: object) -> object:
        return run_gate(self.lower, self.score, REFERENCE, self.layers, **more)  # type: ignore[arg-type]


QUIET = {f"layer{i}": 0.0003 for i in range(40)}


def test_what_passes_is_left_alone() -> None:
    fake = Fake(QUIET)
    result = fake.run()
    assert (result.passed, result.tries, result.promoted, result.ranking) == (True, 1, (), ())
    assert fake.whole == 1
    assert result.mac_share == 1
    assert result.lowered is result.first


def test_the_guilty_layers_are_promoted_and_no_others(capfd: pytest.CaptureFixture[str]) -> None:
    fake = Fake(QUIET | {"layer7": 0.05, "layer31": 0.03})
    result = fake.run()
    assert result.passed
    assert [one.layer for one in result.promoted] == ["layer7", "layer31"]
    assert result.promoted[0].gain == pytest.approx(0.05, rel=0.3)
    assert result.promoted[0].mac_share == pytest.approx(1 / 40)
    assert "lowering it alone moves scores by 0.0" in result.promoted[0].reason
    assert result.mac_share == pytest.approx(38 / 40)
    assert set(result.lowered.quantized) == set(QUIET) - {"layer7", "layer31"}
    told = capfd.readouterr().err
    assert "gate cpu: Spearman" in told
    assert "gate cpu, 2 layers in float: Spearman" in told
    assert "sensitivity of layers" in told


def test_many_layers_at_once_in_few_tries() -> None:
    # 30 of 400 layers matter alike: one by one it would take 30 tries.
    effects = {f"layer{i}": 0.0 for i in range(400)} | {f"layer{i}": 0.01 for i in range(100, 130)}
    result = Fake(effects).run(probe_frames=220)
    assert result.passed
    assert result.tries <= 8
    assert 10 <= len(result.promoted) <= 30
    assert {one.layer for one in result.promoted} <= {f"layer{i}" for i in range(100, 130)}
    # One layer less would not have done, as far as the tries went.
    fewer = Fake(effects).run(probe_frames=220, tries=2)
    assert fewer.tries == 2
    assert len(fewer.promoted) >= len(result.promoted)


def test_four_fifths_stay_int8_unless_allowed() -> None:
    effects = QUIET | {"layer3": 0.06}
    fake = Fake(effects, {"layer3": 2000})
    with pytest.raises(GateError, match=r"the worst layer, 'layer3'.*stays int8") as caught:
        fake.run()
    assert fake.whole <= 8
    assert not caught.value.result.passed
    assert caught.value.result.mac_share >= 0.8
    assert "--allow" in str(caught.value)
    result = Fake(effects, {"layer3": 2000}).run(allow=True)
    assert result.fidelity.passed
    assert not result.passed
    assert result.allowed
    assert [one.layer for one in result.promoted] == ["layer3"]
    assert result.reasons == ("66.1 % of convolution multiply-adds are int8; expected at least 80 %",)
    assert Fake(effects, {"layer3": 2000}).run(least_share=None).passed


def test_a_lowering_that_starts_below_the_share_fails() -> None:
    fake = Fake(QUIET)
    half = frozenset(list(QUIET)[:20])
    with pytest.raises(GateError, match=r"50\.0 % of convolution multiply-adds are int8"):
        run_gate(lambda excluded: fake.lower(excluded | half), fake.score, REFERENCE, fake.layers)
    assert fake.whole == 1  # nothing to promote: its scores are good


def test_a_broken_lowering_is_tried_a_bounded_number_of_times() -> None:
    fake = Fake({f"layer{i}": 0.05 for i in range(60)})
    with pytest.raises(GateError, match="did not pass the fidelity gate: Spearman with float scores") as caught:
        fake.run(tries=4)
    assert fake.whole <= 4
    assert caught.value.result.mac_share >= 0.8
    result = Fake({f"layer{i}": 0.05 for i in range(60)}).run(tries=4, allow=True)
    assert result.allowed
    assert not result.passed or result.mac_share < 0.8


def test_a_layer_that_is_not_finite_is_promoted() -> None:
    fake = Fake(QUIET | {"layer9": np.nan})
    result = fake.run()
    assert [one.layer for one in result.promoted] == ["layer9"]
    assert result.promoted[0].reason == "lowering it alone makes scores that are not finite"
    assert result.promoted[0].gain == 1


def test_no_promotion_is_tried_where_none_can_help() -> None:
    fake = Fake(QUIET | {"layer9": 0.05})
    with pytest.raises(GateError, match="the gate has 150 pictures; expected at least 200") as caught:
        run_gate(fake.lower, lambda low, rows=None: fake.score(low, rows)[:150], REFERENCE[:150], fake.layers)
    assert caught.value.result.tries == 1
    assert caught.value.result.ranking == ()
    flat = np.full(220, 0.4)
    with pytest.raises(GateError, match="all but constant"):
        run_gate(fake.lower, lambda low, rows=None: flat, flat, fake.layers)


def test_a_small_gate_when_it_is_allowed() -> None:
    fake = Fake(QUIET)
    result = run_gate(
        fake.lower, lambda low, rows=None: fake.score(low, rows)[:150], REFERENCE[:150], fake.layers, small_ok=True
    )
    assert result.passed
    assert "150 pictures only" in result.fidelity.warnings[0]


def test_human_scores_and_other_pictures_are_in_the_result() -> None:
    fake = Fake(QUIET)
    human = np.clip(REFERENCE + np.random.default_rng(2).normal(0, 0.1, 220), 0, 1)
    other = OtherFrames("generated pictures", REFERENCE, lambda low: REFERENCE[::-1])
    result = fake.run(human=human, other=other)
    assert result.passed
    assert result.fidelity.human is not None
    assert result.fidelity.other is not None
    assert result.fidelity.other.spearman < 0.97
    assert "generated pictures: Spearman" in result.fidelity.warnings[-1]


# A real graph --------------------------------------------------------------------------------------------------------

CONTRACT = make_contract()
COUNT = 60


@cache
def tensors() -> np.ndarray:
    return np.concatenate([pillow_tensor(picture(i), CONTRACT) for i in range(COUNT)])


@cache
def network() -> bytes:
    """Nine convolutions; the output of ``narrow`` has one channel a thousand times as large as the others, which
    ``wide`` scales back: with one scale for all channels, the others vanish. Together they have 4 % of the work."""
    rng = np.random.default_rng(4)
    weights: dict[str, np.ndarray] = {}
    nodes = []
    at = "frames"

    def conv(name: str, ins: int, outs: int, side: int) -> None:
        nonlocal at
        weights[f"{name}.w"] = rng.normal(0, (2 / (ins * side**2)) ** 0.5, (outs, ins, side, side)).astype(np.float32)
        weights[f"{name}.b"] = rng.normal(0, 0.05, outs).astype(np.float32)
        pads = [side // 2] * 4
        nodes.append(helper.make_node("Conv", [at, f"{name}.w", f"{name}.b"], [f"{name}.c"], name=name, pads=pads))
        nodes.append(helper.make_node("Relu", [f"{name}.c"], [f"{name}.r"], name=f"{name}.relu"))
        at = f"{name}.r"

    conv("stem", 3, 16, 3)
    for number in range(3):
        conv(f"body{number}", 16, 16, 3)
    conv("narrow", 16, 8, 1)
    conv("wide", 8, 16, 1)
    for number in range(3, 6):
        conv(f"body{number}", 16, 16, 3)
    weights["narrow.w"][5] *= 1000
    weights["narrow.b"][5] *= 1000
    weights["wide.w"][:, 5] /= 1000
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
    ]
    shapes = {"frames": ("N", 3, 32, 32)}
    features = evaluate(model_bytes(nodes, shapes, {"f": ("N", 16)}, weights), frames=tensors())["f"]
    weights["head"], weights["bias"] = head(features, rng)
    nodes += [
        helper.make_node("Gemm", ["f", "head", "bias"], ["z"], name="linear"),
        helper.make_node("Sigmoid", ["z"], ["score"], name="sigmoid"),
    ]
    return model_bytes(nodes, shapes, {"score": ("N", 1)}, weights)


@cache
def table() -> RangeTable:
    names = ["frames", *(f"{layer.name}.{end}" for layer in layers(network()) if layer.op == "Conv" for end in "cr")]
    values = evaluate(network(), names[1:], frames=tensors()) | {"frames": tensors()}
    ranges = {name: (min(float(values[name].min()), 0.0), float(values[name].max())) for name in names}
    return RangeTable(
        graph_sha256=graph_hash(network()),
        method="minmax",
        source="test pictures",
        frames=COUNT,
        frames_sha256="0" * 64,
        tensors=ranges,
        magnitudes={name: float(np.abs(values[name]).max()) for name in names},
    )


def test_scores_are_those_of_the_reference_evaluator() -> None:
    reference = evaluate(network(), frames=tensors())["score"][:, 0]
    done: list[int] = []
    found = score_frames(network(), tensors(), 1, batch=7, progress=done.append)
    np.testing.assert_allclose(found, reference, atol=1e-5)
    assert found.dtype == np.float64
    assert done[-1] == COUNT
    assert max(np.diff(done)) == 7
    rows = np.array([50, 3, 3, 9])
    np.testing.assert_allclose(FrameScores(tensors(), 1)(FloatModel(network()), rows), reference[rows], atol=1e-5)


def test_pictures_become_tensors_when_asked() -> None:
    from helpers_graphs import pillow_picture

    lazy = PictureTensors([pillow_picture(picture(i), CONTRACT) for i in range(COUNT)], CONTRACT)
    np.testing.assert_allclose(lazy[np.array([4, 2])], tensors()[[4, 2]], atol=1e-5)
    np.testing.assert_allclose(score_frames(network(), lazy, 1), score_frames(network(), tensors(), 1), atol=1e-5)


def test_a_layer_that_cannot_be_quantised_is_found_and_promoted() -> None:
    score = FrameScores(tensors(), 1)
    reference = score(FloatModel(network()))
    assert reference.std() > 0.03
    lower = partial(lower_cpu, network(), table())
    plain = score(lower())
    assert np.corrcoef(plain, reference)[0, 1] < 0.98
    result = run_gate(lower, score, reference, layers(network()), small_ok=True)
    assert result.passed
    assert {"narrow", "wide"} >= {one.layer for one in result.promoted}
    assert result.promoted
    assert result.mac_share > 0.9
    assert result.tries <= 8
    again = evaluate(result.lowered.model, frames=tensors())["score"][:, 0]
    assert np.corrcoef(again, reference)[0, 1] > 0.99

    speed = speed_here(result, network(), tensors()[:1], 1)
    assert min(speed.float_ms, speed.lowered_ms, speed.unpromoted_ms or 0) > 0
    one = lowering_fidelity(result, method="minmax", methods=[method_result("minmax", result.fidelity)], speed=speed)
    data = fidelity_json(GateFrames(source="test pictures", frames=COUNT), {"cpu": one})
    stored = decode(data)
    assert stored.lowerings["cpu"] == one
    assert set(one.floated) == {"linear"}
    text = "\n".join(lines(stored))
    assert "fidelity cpu: passed: Spearman 0.99" in text or "fidelity cpu: passed: Spearman 1.0" in text
    assert f"promoted to float: {one.promoted[0].layer}" in text
    assert "ms without promotions" in text


def test_graphs_that_cannot_be_scored() -> None:
    with pytest.raises(ExportError, match="refuses the graph"):
        score_frames(b"no graph", tensors())
    with pytest.raises(ExportError, match="no output 'attention'; it has score"):
        score_frames(network(), tensors(), output="attention")
    with pytest.raises(ExportError, match="fails on the graph"):
        score_frames(network(), tensors()[:, :, :8].repeat(2, 1))


def test_what_is_not_finite_stays_so() -> None:
    broken = tensors()[:8].copy()
    broken[3] = np.nan
    found = score_frames(network(), broken, 1)
    assert list(np.flatnonzero(~np.isfinite(found))) == [3]
    big = model_bytes(
        [helper.make_node("ReduceMean", ["x", "axes"], ["score"], keepdims=0)],
        {"x": ("N", 2)}, {"score": ("N",)}, {"axes": np.array([1])},
    )  # fmt: skip
    values = score_frames(big, np.array([[9, 9], [-9, -9], [np.inf, 0], [0.5, 0.5]], np.float32), 1)
    assert list(values) == [1, 0, np.inf, 0.5]


def test_integer_inputs_take_their_scale() -> None:
    from onnx import TensorProto

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["y", "scale"], ["score"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT8, ("N", 1))],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ("N", 1))],
        [helper.make_tensor("scale", TensorProto.FLOAT, [], [0.01])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10).SerializeToString()
    values = np.array([[0.304], [0.996], [7.0]], np.float32)
    found = score_frames(model, values, 1, inputs={"x": InputStorage(dtype="int8", scale=0.01)})
    assert found == pytest.approx([0.3, 1.0, 1.0])
    with pytest.raises(ExportError, match="no scale is known"):
        score_frames(model, values, 1)


def test_times_are_of_each_model() -> None:
    slow = lower_cpu(network(), table())
    found = median_ms({"float": FloatModel(network()), "cpu": slow}, tensors()[:1], 1, runs=5)
    assert set(found) == {"float", "cpu"}
    assert min(found.values()) > 0
