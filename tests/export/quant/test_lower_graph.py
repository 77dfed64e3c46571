from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from helpers_lowering import Net, network_graph, residual_net
from memedge_export.errors import ExportError
from memedge_export.quant import insert
from memedge_export.quant.graph import GraphView
from memedge_export.quant.lower import layers


def view(net: Net) -> GraphView:
    return GraphView.load(net.bytes())


def test_macs_are_those_of_the_network() -> None:
    found = layers(network_graph("resnet18"))
    assert sum(layer.macs for layer in found) == pytest.approx(1.814e9, rel=1e-3)
    assert [layer.name for layer in found if layer.head] == ["Gemm_0"]
    assert [layer.op for layer in found].count("Conv") == 20


def test_shortcuts_of_residual_additions() -> None:
    graph = view(residual_net())
    # add_a(branch, identity), add_b(downsampling convolution, branch), add_e(branch, identity)
    assert [graph.shortcut(graph.by_name[name]) for name in ("add_a", "add_b", "add_e")] == [1, 0, 1]


def test_shortcut_of_nested_blocks_is_seen_from_the_lowest_common_ancestor() -> None:
    net = Net(channels=8)
    inner = net.node("Add", [net.relu(net.conv("frames", 8, "a")), "frames"], "inner")
    outer = net.node("Add", ["frames", net.conv(inner, 8, "b")], "outer")
    twice = net.node("Add", [outer, outer], "twice")
    net.head(twice)
    graph = view(net)
    assert graph.shortcut(graph.by_name["inner"]) == 1
    assert graph.shortcut(graph.by_name["outer"]) == 0
    assert graph.shortcut(graph.by_name["twice"]) is None


def test_concats_and_pools_share_a_scale() -> None:
    groups = view(residual_net()).groups()
    concat = next(group for group in groups.values() if "concat:out" in group)
    assert len(concat) == 3
    assert set(groups["maxpool:out"]) == {"maxpool:out", "Relu_1:out"}


def test_never_negative_is_known_from_operators() -> None:
    net = Net()
    x = net.relu(net.conv("frames", 4, "a"))
    pool = net.node("MaxPool", [x], kernel_shape=[2, 2])
    signed = net.node("Add", [x, net.conv(x, 4, "b")])
    both = net.node("Add", [pool, pool])
    clip = net.node("Clip", [signed, net.constant("low", 0.0), net.constant("high", 6.0)])
    concat = net.node("Concat", [clip, clip], axis=1)
    net.channels[concat] = 8
    net.head(concat)
    found = view(net).nonnegative
    assert {x, pool, both, clip, concat} <= found
    assert not {"frames", "a:out", signed} & found


def test_head_begins_at_the_global_pooling() -> None:
    graph = view(residual_net())
    assert graph.head == {"pool", "gemm"}


def test_squeeze_and_excitation_is_not_the_head() -> None:
    net = Net()
    x = net.relu(net.conv("frames", 8, "a"))
    gate = net.node("Sigmoid", [net.conv(net.node("GlobalAveragePool", [x], "squeeze"), 8, "excite", kernel=1)])
    net.channels[gate] = 8
    net.head(net.relu(net.conv(net.node("Mul", [x, gate], "scale"), 8, "b")))
    assert view(net).head == {"pool", "gemm"}


def test_without_pooling_the_head_is_the_last_gemm() -> None:
    net = Net(size=4)
    x = net.node("Flatten", [net.relu(net.conv("frames", 4, "a"))])
    x = net.relu(net.node("Gemm", [x, net.constant("w", np.ones((64, 8)))], "first"))
    last = net.node("Gemm", [x, net.constant("v", np.ones((8, 1)))], "last")
    net.nodes.append(helper.make_node("Sigmoid", [last], ["score"], name="squash"))
    assert view(net).head == {"last", "squash"}


def test_constant_nodes_and_missing_names() -> None:
    net = Net()
    x = net.conv("frames", 4, "a")
    net.nodes.append(helper.make_node("Constant", [], ["one"], value_float=1.0))
    net.nodes.append(helper.make_node("Mul", [x, "one"], ["m"]))
    net.channels["m"] = 4
    net.head("m")
    graph = view(net)
    assert float(graph.value("one")) == 1.0
    assert not graph.of_type("Constant")
    assert all(node.name for node in graph.nodes)


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x0a"])
def test_not_a_model(data: bytes) -> None:
    with pytest.raises(ExportError, match=r"not an ONNX model|no nodes"):
        GraphView.load(data)


def test_a_graph_without_a_maker_or_with_a_cycle_is_refused() -> None:
    model = onnx.load_from_string(residual_net().bytes())
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ExportError, match="nothing makes tensor 'nowhere'"):
        GraphView(model)
    model.graph.node[0].input[0] = model.graph.node[1].output[0]
    with pytest.raises(ExportError, match="a cycle runs through"):
        GraphView(model)


def test_weights_keep_their_channels_within_half_a_step() -> None:
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(5, 3, 3, 3)) * np.array([1, 0.1, 1e-4, 10, 0]).reshape(-1, 1, 1, 1)).astype(np.float32)
    scales = insert.bias_room(insert.channel_scales(weights), np.array([0.3, 0, 0, -2, 0.7], np.float32), 0.02)
    error = np.abs(insert.quantize(weights, scales) * scales.reshape(-1, 1, 1, 1) - weights)
    assert (error <= scales.reshape(-1, 1, 1, 1) * 0.5001).all()
    # A channel of zeros keeps its bias.
    assert abs(np.rint(0.7 / (0.02 * scales[4])) * 0.02 * scales[4] - 0.7) < 1e-5


def test_a_nearly_dead_channel_does_not_overflow_its_bias() -> None:
    scales = insert.bias_room(np.array([1e-14, 1e-3], np.float32), np.array([5.0, 5.0], np.float32), 1e-3)
    assert (np.abs(5.0 / (scales.astype(np.float64) * 1e-3)) < 2**31).all()
    assert scales[1] == np.float32(1e-3)


def test_half_scales_are_exact_and_never_smaller() -> None:
    scales = np.abs(np.random.default_rng(0).normal(size=1000)).astype(np.float32) * 1e-3
    halves = insert.half_scales(scales)
    assert (halves >= scales).all()
    assert (halves >= 2.0**-14).all()
    assert (halves == halves.astype(np.float16).astype(np.float32)).all()
    assert (halves <= np.maximum(scales, 2.0**-14) * (1 + 2.0**-10)).all()
