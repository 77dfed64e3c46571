from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers_lowering import (
    Net,
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
from memedge_export.quant.lower import integer_convs, lower_cpu


def arrays(model: bytes) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(model).graph.initializer}


def test_every_convolution_is_an_integer_kernel() -> None:
    graph, table, tensors = residual()
    lowered = lower_cpu(graph, table)
    assert integer_convs(lowered.model) == (10, 10)
    assert integer_convs(graph) == (0, 10)
    assert (len(lowered.quantized), lowered.mac_share) == (10, 1.0)
    assert lowered.floated == {"gemm": "belongs to the head, which stays float"}
    assert lint(lowered.model, "cpu") == []
    expected = scores(graph, tensors)
    assert np.abs(scores(lowered.model, tensors) - expected).mean() < 0.1 * expected.std()


def test_onnx_reference_evaluator_gives_the_same_scores() -> None:
    graph, table, tensors = residual()
    model = lower_cpu(graph, table).model
    expected = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model)).run(None, {"frames": tensors[:2]})[0]
    # ONNX Runtime folds scales into one factor: single steps of 8 bits may fall the other way.
    np.testing.assert_allclose(scores(model, tensors[:2]), expected, atol=0.02)


@pytest.mark.parametrize(("name", "convs"), [("resnet-s", 12), ("resnet18", 20)])
def test_networks_of_the_zoo(name: str, convs: int) -> None:
    graph, tensors = network_graph(name), network_tensors(name)
    lowered = lower_cpu(graph, range_table(graph, tensors[:3]))
    assert integer_convs(lowered.model) == (convs, convs)
    assert lint(lowered.model, "cpu") == []
    assert lowered.mac_share == 1.0
    assert len(lowered.model) < 0.27 * len(graph)
    assert np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max() < 0.01


@pytest.mark.slow
def test_resnet101() -> None:
    graph, tensors = network_graph("resnet101"), network_tensors("resnet101")
    lowered = lower_cpu(graph, range_table(graph, tensors[:3]))
    assert integer_convs(lowered.model) == (104, 104)
    assert lint(lowered.model, "cpu") == []
    assert np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max() < 0.02


def test_scales_and_zero_points_are_those_of_the_design() -> None:
    graph, table, _ = residual()
    found = arrays(lower_cpu(graph, table).model)
    # The graph's input is signed: 128 and max / 127.
    low, high = table.tensors["frames"]
    assert found["frames:zero_point"] == 128
    assert found["frames:zero_point"].dtype == np.uint8
    assert found["frames:scale"] == np.float32(max(-low, high) / 127)
    # A Relu's result never is: 0 and max / 255, shared with the max-pool behind it.
    high = max(table.tensors["Relu_1:out"][1], table.tensors["maxpool:out"][1])
    assert found["Relu_1:out:zero_point"] == 0
    assert found["Relu_1:out:scale"] == pytest.approx(high / 255, rel=1e-6)
    assert found["maxpool:out:scale"] == found["Relu_1:out:scale"]
    weights = found["a1:weight"]
    assert weights.dtype == np.int8
    assert np.abs(weights).reshape(16, -1).max(1).tolist() == [127] * 16
    assert found["a1:bias"].dtype == np.int32
    np.testing.assert_allclose(found["a1:bias_scale"], found["a1:weight_scale"] * found["maxpool:out:scale"], rtol=1e-6)
    assert "a1.weight" not in found


def test_what_only_the_head_reads_is_added_in_float() -> None:
    graph, table, _ = residual()
    model = onnx.load_from_string(lower_cpu(graph, table).model)
    made = {node.output[0]: node for node in model.graph.node}
    pool = next(node for node in model.graph.node if node.name == "pool")
    assert made[pool.input[0]].op_type == "Relu"


def test_excluded_layers_are_float_and_the_others_are_not() -> None:
    graph, table, tensors = residual()
    lowered = lower_cpu(graph, table, excluded=["a2", "c1"])
    assert integer_convs(lowered.model) == (8, 10)
    assert {name: lowered.floated[name] for name in ("a2", "c1")} == {"a2": "excluded", "c1": "excluded"}
    assert 0 < lowered.mac_share < 1
    found = arrays(lowered.model)
    assert found["a2.weight"].dtype == np.float32
    assert lint(lowered.model, "cpu", least_share=0) == []
    everything = lower_cpu(graph, table, excluded=lower_cpu(graph, table).quantized)
    assert everything.quantized == ()
    np.testing.assert_allclose(scores(everything.model, tensors), scores(graph, tensors), atol=1e-5)


def test_a_channel_of_zeros_and_one_nearly_so_keep_their_scores() -> None:
    net = Net(seed=3)
    x = net.relu(net.conv("frames", 8, "a"))
    weight = numpy_helper.to_array(net.constants[0]).copy()
    weight[0], weight[1] = 0, weight[1] * 1e-12
    net.constants[0].CopyFrom(numpy_helper.from_array(weight, "a.weight"))
    net.constants[1].CopyFrom(numpy_helper.from_array(np.full(8, 0.7, np.float32), "a.bias"))
    net.head(net.relu(net.conv(x, 8, "b")))
    graph, tensors = net.bytes(), net.tensors()
    lowered = lower_cpu(graph, range_table(graph, tensors))
    assert integer_convs(lowered.model) == (2, 2)
    assert np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max() < 0.02


def test_other_operators_stay_float_and_are_listed() -> None:
    net = Net()
    x = net.relu(net.conv("frames", 8, "a"))
    x = net.node(
        "ConvTranspose", [x, net.constant("up.weight", net.rng.normal(size=(8, 8, 2, 2)))], "up", strides=[2, 2]
    )
    x = net.conv(x, 8, "b", group=8)
    x = net.node("Mul", [x, net.node("Sigmoid", [x])], "swish")
    net.channels[x] = 8
    x = net.conv(x, 8, "c", kernel=1, bias=False)
    x = net.node("Clip", [x, net.constant("low", 0.0), net.constant("high", 6.0)])
    net.channels[x] = 8
    weight = net.node(
        "Mul", [net.constant("w", net.rng.normal(size=(4, 8, 1, 1)) * 0.2), net.constant("two", 2.0)], "w2"
    )
    x = net.node("Conv", [x, weight], "computed")
    net.channels[x] = 4
    net.head(x)
    graph, tensors = net.bytes(), net.tensors()
    lowered = lower_cpu(graph, range_table(graph, tensors))
    assert lowered.quantized == ("a", "b", "c")
    assert "ConvTranspose is not lowered" in lowered.floated["up"]
    assert "not constant" in lowered.floated["computed"]
    # The constant product is folded at load: ONNX Runtime then sees one float convolution, and the transposed one.
    assert integer_convs(lowered.model)[0] == 3
    expected = scores(graph, tensors)
    assert np.abs(scores(lowered.model, tensors) - expected).max() < 0.3 * expected.std() + 0.02


def test_ranges_that_are_zero_or_unknown_leave_their_layers_float() -> None:
    graph, table, _ = residual()
    ranges = dict(table.tensors)
    ranges["frames"] = (0.0, 0.0)
    del ranges["e1:out"]
    lowered = lower_cpu(graph, table_of(graph, ranges))
    assert lowered.floated["stem"] == "tensor 'frames' was zero on every frame"
    assert "knows no tensor 'e1:out'" in lowered.floated["e1"]
    assert integer_convs(lowered.model) == (len(lowered.quantized), 10)


def test_an_output_in_the_body_stays_float() -> None:
    net = residual_net()
    model = onnx.load_from_string(net.bytes())
    model.graph.output.append(helper.make_tensor_value_info("d1:out", TensorProto.FLOAT, ["batch", 32, 8, 8]))
    graph = model.SerializeToString()
    lowered = lower_cpu(graph, table_of(graph, residual()[1].tensors))
    assert lowered.floated["d1"] == "its result is an output of the graph"
    assert integer_convs(lowered.model) == (9, 10)
    assert lint(lowered.model, "cpu", least_share=0) == []


def test_bad_input() -> None:
    graph, table, _ = residual()
    with pytest.raises(ExportError, match="belongs to the graph"):
        lower_cpu(graph + b"\x00", table)
    with pytest.raises(ExportError, match="no node 'b9' to exclude"):
        lower_cpu(graph, table, excluded=["b9"])
    lowered = lower_cpu(graph, table).model
    with pytest.raises(ExportError, match="quantised already"):
        lower_cpu(lowered, table_of(lowered, table.tensors))
    model = onnx.load_from_string(graph)
    model.opset_import[0].version = 17
    old = model.SerializeToString()
    with pytest.raises(ExportError, match="opset 17; expected 19"):
        lower_cpu(old, table_of(old, table.tensors))


def test_weights_that_are_not_finite_stay_float() -> None:
    graph, table, _ = residual()
    model = onnx.load_from_string(graph)
    weight = next(t for t in model.graph.initializer if t.name == "c1.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, "c1.weight"))
    broken = model.SerializeToString()
    lowered = lower_cpu(broken, table_of(broken, table.tensors))
    assert lowered.floated["c1"] == "its weights or its bias are not finite"


def test_same_input_same_bytes() -> None:
    graph, table, _ = residual()
    assert lower_cpu(graph, table).model == lower_cpu(graph, table).model


def test_a_clip_below_a_shared_scale_leaves_its_convolution_integer() -> None:
    net = Net()
    low, high = net.constant("low", 0.0), net.constant("high", 0.5)
    narrow = net.node("Clip", [net.conv("frames", 4, "a"), low, high])
    wide = net.relu(net.conv("frames", 4, "b"))
    x = net.node("Concat", [narrow, wide], "both", axis=1)
    net.channels[x] = 8
    net.head(net.relu(net.conv(x, 8, "c")))
    graph, tensors = net.bytes(), net.tensors()
    lowered = lower_cpu(graph, range_table(graph, tensors))
    assert integer_convs(lowered.model) == (3, 3)
    assert lint(lowered.model, "cpu") == []
    assert np.abs(scores(lowered.model, tensors) - scores(graph, tensors)).max() < 0.05


def test_promoting_what_reads_a_sum_frees_the_sum() -> None:
    """With every convolution behind a residual sum in float, the sum itself has no pair any more."""
    graph, table, _ = residual()
    view = GraphView.load(graph)
    add = next(node for node in view.nodes if node.op_type == "Add" and node.name not in view.head)
    after = view.after_activation(add)
    readers = [reader.name for reader in view.readers(after) if reader.op_type == "Conv"]
    assert readers

    def paired(model: bytes) -> bool:
        nodes = onnx.load_from_string(model).graph.node
        return any(node.op_type == "QuantizeLinear" and node.input[0] == after for node in nodes)

    assert paired(lower_cpu(graph, table).model)
    assert not paired(lower_cpu(graph, table, readers).model)


def test_convolutions_of_few_channels_stay_float() -> None:
    """One channel, or up to three under a 1x1 kernel; not a stem's 3x3, a depthwise one or a 1x1 on more channels."""
    net = Net(size=16)
    grey = net.conv("frames", 1, "grey", kernel=1)
    filters = net.relu(net.conv(grey, 8, "filters", kernel=5))
    stem = net.relu(net.conv("frames", 8, "stem"))
    depthwise = net.relu(net.conv(stem, 8, "depthwise", group=8))
    both = net.node("Add", [filters, net.conv(depthwise, 8, "pointwise", kernel=1)], "both")
    net.head(net.relu(both))
    graph, tensors = net.bytes(), net.tensors(6)
    lowered = lower_cpu(graph, range_table(graph, tensors))
    assert lowered.quantized == ("stem", "depthwise", "pointwise")
    assert {name for name, why in lowered.floated.items() if "too few channels" in why} == {"grey", "filters"}
    assert integer_convs(lowered.model) == (3, 5)
    assert lint(lowered.model, "cpu", least_share=0.0) == []
    kinds = {node.name: node.op_type for node in onnx.load_from_string(lowered.model).graph.node}
    assert kinds["filters"] == "Conv"
    expected = scores(graph, tensors)
    assert np.abs(scores(lowered.model, tensors) - expected).mean() < 0.1 * expected.std()
