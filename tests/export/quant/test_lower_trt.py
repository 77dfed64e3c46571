from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers_lowering import (
    Net,
    build_rtx,
    network_graph,
    network_tensors,
    range_table,
    residual,
    residual_net,
    scores,
    table_of,
)
from memedge_export.errors import ExportError
from memedge_export.quant.graph import GraphView
from memedge_export.quant.lint import lint
from memedge_export.quant.lower import Lowered, lower_trt_fp16, lower_trt_int8
from memedge_export.quant.ranges import RangeTable

FORMS = ("int8-fp16", "int8-fp32", "fp16")


def lower(form: str, graph: bytes, table: RangeTable, excluded: tuple[str, ...] = ()) -> Lowered:
    if form == "fp16":
        return lower_trt_fp16(graph, table, excluded)
    return lower_trt_int8(graph, table, excluded, body="fp16" if form == "int8-fp16" else "fp32")


def kind(form: str) -> str:
    return "trt-fp16" if form == "fp16" else "trt-int8"


def paired(model: bytes) -> dict[str, list[str]]:
    """Tensor that carries an activation pair -> nodes that read its dequantised form, Casts left out."""
    view = GraphView.load(model)
    found: dict[str, list[str]] = {}
    for node in view.of_type("DequantizeLinear"):
        name = view.origin(node.input[0])
        if name not in view.initializers:
            found.setdefault(name, []).extend(reader.name for reader in view.readers(node.output[0]))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_small_residual_network(form: str) -> None:
    graph, table, tensors = residual()
    lowered = lower(form, graph, table)
    assert lint(lowered.model, kind(form)) == []
    assert lowered.mac_share == 1.0
    assert lowered.floated == {"gemm": "belongs to the head, which stays float"}
    assert {name: storage.dtype for name, storage in lowered.inputs.items()} == {"frames": "float32"}
    expected = scores(graph, tensors)
    worst = 0.01 if form == "fp16" else 0.2
    assert np.abs(scores(lowered.model, tensors) - expected).mean() < worst * expected.std()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["small", "resnet-s", "resnet18", "resnet101"])
def test_the_real_parser_and_strongly_typed_builder_accept_it(name: str, form: str) -> None:
    # resnet101 has all its layers, a sixteenth as wide; test_resnet101 has it whole.
    graph, table = residual()[:2] if name == "small" else network(name, 0.0625 if name == "resnet101" else 1.0)
    said, plan = build_rtx(lower(form, graph, table).model)
    assert said == []
    assert plan


def network(name: str, width: float = 1.0) -> tuple[bytes, RangeTable]:
    graph = network_graph(name, width)
    return graph, range_table(graph, network_tensors(name)[:3])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["resnet-s", "resnet18"])
def test_networks_of_the_zoo(name: str, form: str) -> None:
    graph, table = network(name)
    tensors = network_tensors(name)
    lowered = lower(form, graph, table)
    assert lint(lowered.model, kind(form)) == []
    assert lowered.mac_share == 1.0
    assert len(lowered.model) < (0.51 if form == "fp16" else 0.27) * len(graph)
    difference = np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max()
    assert difference < (1e-3 if form == "fp16" else 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_resnet101(form: str) -> None:
    graph, table = network("resnet101")
    tensors = network_tensors("resnet101")
    lowered = lower(form, graph, table)
    assert lint(lowered.model, kind(form)) == []
    said, plan = build_rtx(lowered.model)
    assert said == []
    assert plan
    difference = np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max()
    assert difference < (1e-3 if form == "fp16" else 0.02)


def test_pairs_stand_on_inputs_and_shortcuts_only() -> None:
    graph, table, _ = residual()
    found = {name: sorted(readers) for name, readers in paired(lower("int8-fp32", graph, table).model).items()}
    assert found.pop("frames") == ["stem"]
    # The identity of a block serves its first convolution and the addition; of the downsampling block only the
    # shorter branch is quantised, though both are convolutions; the concatenation has one pair, behind it.
    assert found.pop("maxpool:out") == ["a1", "add_a"]
    assert found.pop("b_down:out") == ["add_b"]
    assert found.pop("concat:out") == ["d1"]
    assert sorted(found.values()) == [["a2"], ["add_e", "e1"], ["b1", "b_down"], ["b2"], ["c1", "c2"]]


def test_types_of_a_half_precision_body() -> None:
    graph, table, _ = residual()
    model = lower("int8-fp16", graph, table).model
    view = GraphView.load(model)
    assert view.dtype("frames") == view.dtype("score") == TensorProto.FLOAT
    for node in view.of_type("Conv", "Relu", "Add", "Concat", "MaxPool"):
        assert view.dtype(node.output[0]) == TensorProto.FLOAT16, node.name
    for name in view.head:
        assert view.dtype(view.by_name[name].output[0]) == TensorProto.FLOAT
    casts = [(view.dtype(n.input[0]), view.dtype(n.output[0])) for n in view.of_type("Cast")]
    assert casts == [(1, 10), (10, 1)]
    assert {t.data_type for t in view.initializers.values() if t.name.endswith(":weight")} == {TensorProto.INT8}
    float_weights = [t.name for t in view.initializers.values() if t.data_type == 1 and len(t.dims) > 1]
    assert float_weights == ["head.weight"]
    assert model == lower("int8-fp16", graph, table).model


def test_scales_are_symmetric_and_half_precision_holds_them() -> None:
    graph, table, _ = residual()
    for form, dtype in (("int8-fp32", np.float32), ("int8-fp16", np.float16)):
        view = GraphView.load(lower(form, graph, table).model)
        scale = next(
            view.value(n.input[1]) for n in view.of_type("QuantizeLinear") if view.origin(n.input[0]) == "frames"
        )
        assert scale.dtype == dtype
        low, high = table.tensors["frames"]
        assert float(scale) == pytest.approx(max(-low, high) / 127, rel=1e-3)
        assert float(scale) * 127 >= max(-low, high) * (1 - 1e-6)


def test_weights_too_small_for_half_precision_scales_get_the_smallest_one() -> None:
    net = Net()
    x = net.relu(net.conv("frames", 8, "a"))
    weight = numpy_helper.to_array(net.constants[0]).copy()
    weight[3] *= 1e-5
    net.constants[0].CopyFrom(numpy_helper.from_array(weight, "a.weight"))
    net.head(net.relu(net.conv(x, 8, "b")))
    graph, tensors = net.bytes(), net.tensors()
    lowered = lower("int8-fp16", graph, range_table(graph, tensors))
    assert lint(lowered.model, "trt-int8") == []
    assert np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max() < 0.05


@pytest.mark.parametrize("form", FORMS)
def test_layers_beside_a_huge_tensor_stay_float32(form: str) -> None:
    graph, table, tensors = residual()
    magnitudes = dict(table.magnitudes) | {"d1:out": 40000.0}
    huge = table_of(graph, table.tensors, magnitudes)
    lowered = lower(form, graph, huge)
    view = GraphView.load(lowered.model)
    half = form != "int8-fp32"
    assert view.dtype("d1:out") == TensorProto.FLOAT
    assert view.dtype("a1:out") == (TensorProto.FLOAT16 if half else TensorProto.FLOAT)
    if form == "fp16":
        assert "d1:out' reached 40000" in lowered.floated["d1"]
        assert 0 < lowered.mac_share < 1
    assert lint(lowered.model, kind(form)) == []
    said, plan = build_rtx(lowered.model)
    assert said == []
    assert plan
    expected = scores(graph, tensors)
    assert np.abs(scores(lowered.model, tensors) - expected).mean() < 0.2 * expected.std()


def test_a_constant_that_half_precision_cannot_hold_keeps_its_layer_float32() -> None:
    net = Net()
    x = net.node("Mul", [net.conv("frames", 4, "a"), net.constant("large", 1e5)], "m")
    net.channels[x] = 4
    x = net.node("Mul", [x, net.constant("small", 1e-5)], "n")
    net.channels[x] = 4
    net.head(net.conv(x, 4, "b"))
    graph, tensors = net.bytes(), net.tensors()
    ranges = range_table(graph, tensors)
    view = GraphView.load(lower("fp16", graph, ranges).model)
    assert view.dtype("m:out") == TensorProto.FLOAT
    np.testing.assert_allclose(scores(view.model.SerializeToString(), tensors), scores(graph, tensors), atol=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_excluded_layers(form: str) -> None:
    graph, table, _ = residual()
    lowered = lower(form, graph, table, excluded=("stem", "a2", "b1"))
    assert {lowered.floated[name] for name in ("stem", "a2", "b1")} == {"excluded"}
    assert lint(lowered.model, kind(form), least_share=0) == []
    said, _ = build_rtx(lowered.model)
    assert said == []
    if form != "fp16":
        # a2 is float: its addition has no int8 kernel to fuse into, so that the shortcut is left alone.
        assert paired(lowered.model)["maxpool:out"] == ["a1"]


def test_every_layer_excluded_is_the_float_graph_again() -> None:
    graph, table, tensors = residual()
    names = lower("int8-fp32", graph, table).quantized
    lowered = lower("int8-fp32", graph, table, excluded=names)
    assert (lowered.quantized, lowered.mac_share) == ((), 0.0)
    np.testing.assert_allclose(scores(lowered.model, tensors), scores(graph, tensors), atol=1e-5)


def test_operators_that_cannot_be_lowered_and_changes_of_shape() -> None:
    net = Net(size=8)
    x = net.relu(net.conv("frames", 8, "a"))
    x = net.node("Transpose", [x], "turn", perm=[0, 1, 3, 2])
    x = net.conv(x, 8, "b")
    x = net.node("Resize", [x, "", net.constant("factors", [1, 1, 2, 2])], "grow", mode="nearest")
    net.channels[x] = 8
    x = net.node("ConvTranspose", [x, net.constant("up.weight", net.rng.normal(size=(8, 8, 2, 2)) * 0.2)], "up")
    net.channels[x] = 8
    x = net.node("LeakyRelu", [net.conv(x, 8, "c")])
    net.channels[x] = 8
    net.head(x)
    graph, tensors = net.bytes(), net.tensors()
    table = range_table(graph, tensors)
    for form in FORMS:
        lowered = lower(form, graph, table)
        assert lint(lowered.model, kind(form), least_share=0) == []
        assert build_rtx(lowered.model)[0] == []
        assert np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max() < 0.3
        if form != "fp16":
            assert lowered.quantized == ("a", "c")
            assert "comes from Transpose" in lowered.floated["b"]
            assert "ConvTranspose is not lowered" in lowered.floated["up"]


def test_outputs_of_the_body_are_float32() -> None:
    net = residual_net()
    model = onnx.load_from_string(net.bytes())
    model.graph.output.append(helper.make_tensor_value_info("d1:out", TensorProto.FLOAT, ["batch", 32, 8, 8]))
    graph = model.SerializeToString()
    for form in FORMS:
        lowered = lower(form, graph, table_of(graph, residual()[1].tensors))
        view = GraphView.load(lowered.model)
        assert view.outputs == ("score", "d1:out")
        assert view.dtype("d1:out") == TensorProto.FLOAT
        assert lint(lowered.model, kind(form)) == []
        assert build_rtx(lowered.model)[0] == []


def test_control_flow_is_refused_in_half_precision() -> None:
    net = Net()
    x = net.conv("frames", 4, "a")
    branch = helper.make_graph(
        [helper.make_node("Relu", [x], ["branch"])], "branch", [], [helper.make_tensor_value_info("branch", 1, None)]
    )
    y = net.node("If", [net.constant("yes", True, np.bool_)], "choice", then_branch=branch, else_branch=branch)
    net.channels[y] = 4
    net.head(y)
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(net.nodes, "model", [net.input], [score], net.constants)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10).SerializeToString()
    with pytest.raises(ExportError, match=r"'choice' \(If\) holds a graph of its own"):
        lower_trt_fp16(data, table_of(data, {"frames": (-3.0, 3.0)}))


def test_table_of_another_graph_is_refused() -> None:
    graph, table, _ = residual()
    for form in FORMS:
        with pytest.raises(ExportError, match="belongs to the graph"):
            lower(form, graph + b"\x00", table)


@pytest.mark.slow
def test_onnx_runtimes_own_placement_differs_for_known_reasons_only(project_root: Path) -> None:
    script = project_root / "benchmarks" / "compare_placement.py"
    path = os.pathsep.join(str(project_root / part) for part in ("", "engines", "export"))
    done = subprocess.run(
        [sys.executable, str(script), "--model", "resnet-s"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resnet-s: 12 pairs here" in done.stdout
    assert "scales of these differ by at most 0.00%" in done.stdout
