"""Float graphs, range tables and an evaluator for tests of the lowerings; ranges come from plain ONNX Runtime runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from helpers_plans import rtx, rtx_machine
from memedge_engines.errors import PlanError
from memedge_engines.plans import builder
from memedge_engines.plans.profile import Profile
from memedge_export.quant.ranges import RangeTable, graph_hash


@functools.cache
def network_graph(name: str, width: float = 1.0) -> bytes:
    """The float graph of an untrained network of the zoo, fitted on 8 pictures so that its scores differ."""
    from memedge_export import models, onnx_export, untrained, weights

    entry = models.entry(name)
    with mock.patch.object(untrained, "PICTURES", 8):
        network = weights.build(entry, seed=0, width=width)
        untrained.initialise(network, entry.preprocess)
    return onnx_export.export_graph(network, models.input_size(entry.preprocess))


@functools.cache
def network_tensors(name: str, count: int = 6, seed: int = 5) -> np.ndarray:
    """Preprocessed pictures for a network of the zoo, float32 ``[count,3,H,W]``."""
    from memedge.pictures import generate
    from memedge_export import models
    from memedge_export.data.pictures import to_tensor

    contract = models.entry(name).preprocess
    return np.stack([to_tensor(picture, contract).numpy() for picture in generate(count, seed)])


def session(model: bytes, *, optimise: bool = True) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def scores(model: bytes, tensors: np.ndarray, output: str = "score") -> np.ndarray:
    """One output for each picture, run one at a time."""
    opened = session(model)
    name = opened.get_inputs()[0].name
    return np.concatenate([opened.run([output], {name: tensors[i : i + 1]})[0] for i in range(len(tensors))])


def range_table(graph: bytes, tensors: np.ndarray) -> RangeTable:
    """Smallest and largest value of every float tensor of a graph on these inputs."""
    model = onnx.load_from_string(graph)
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = [v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    outputs = [o.name for o in model.graph.output]
    constants = {t.name for t in model.graph.initializer}
    names = [name for name in floats if name not in outputs and name not in constants]
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    opened = session(model.SerializeToString(), optimise=False)
    source = opened.get_inputs()[0].name
    found = {source: (float(tensors.min()), float(tensors.max()))}
    for i in range(len(tensors)):
        results = opened.run(outputs + names, {source: tensors[i : i + 1]})
        for name, value in zip(outputs + names, results, strict=True):
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return table_of(graph, found)


def table_of(
    graph: bytes, tensors: Mapping[str, tuple[float, float]], magnitudes: Mapping[str, float] | None = None
) -> RangeTable:
    """A table with these ranges; magnitudes follow from them where not given."""
    seen = {name: max(abs(low), abs(high)) for name, (low, high) in tensors.items()} | dict(magnitudes or {})
    return RangeTable(
        graph_sha256=graph_hash(graph),
        method="minmax",
        source="test",
        frames=1,
        frames_sha256="0" * 64,
        tensors=dict(tensors),
        magnitudes=seen,
    )


class Net:
    """A small float graph, written node by node; ``bytes()`` is the model."""

    def __init__(self, channels: int = 3, size: int = 16, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)
        self.input = helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["batch", channels, size, size])
        self.channels = {"frames": channels}

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add an initialiser."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Add a node and return its output, ``<name>:out``."""
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}:out"], name=name, **attributes))
        self.channels[f"{name}:out"] = self.channels.get(inputs[0], 0)
        return f"{name}:out"

    def conv(self, source: str, out: int, name: str, kernel: int = 3, bias: bool = True, **attributes: Any) -> str:
        """A convolution that keeps the size (unless strided), with random weights."""
        groups = attributes.get("group", 1)
        shape = (out, self.channels[source] // groups, kernel, kernel)
        weight = self.rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        inputs = [source, self.constant(f"{name}.weight", weight)]
        if bias:
            inputs.append(self.constant(f"{name}.bias", self.rng.normal(size=out) * 0.1))
        result = self.node("Conv", inputs, name, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, **attributes)
        self.channels[result] = out
        return result

    def relu(self, source: str) -> str:
        """A Relu."""
        return self.node("Relu", [source])

    def head(self, source: str) -> None:
        """Global pooling and a linear score."""
        pooled = self.node("ReduceMean", [source, self.constant("axes", [2, 3], np.int64)], "pool", keepdims=0)
        weight = self.constant("head.weight", self.rng.normal(size=(1, self.channels[source])) * 0.3)
        self.nodes.append(
            helper.make_node(
                "Gemm", [pooled, weight, self.constant("head.bias", [0.5])], ["score"], name="gemm", transB=1
            )
        )

    def bytes(self) -> bytes:
        """The checked model."""
        score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
        graph = helper.make_graph(self.nodes, "model", [self.input], [score], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()

    def tensors(self, count: int = 4) -> np.ndarray:
        """Random inputs of the graph, float32."""
        dims = [d.dim_value for d in self.input.type.tensor_type.shape.dim[1:]]
        return self.rng.normal(size=(count, *dims)).astype(np.float32)


def residual_net() -> Net:
    """Stem, max-pool, an identity block, a downsampling block, a Concat of two branches, head."""
    net = Net(size=32)
    x = net.node("MaxPool", [net.relu(net.conv("frames", 16, "stem"))], "maxpool", kernel_shape=[2, 2], strides=[2, 2])
    y = net.conv(net.relu(net.conv(x, 16, "a1")), 16, "a2")
    x = net.relu(net.node("Add", [y, x], "add_a"))
    y = net.conv(net.relu(net.conv(x, 24, "b1", strides=[2, 2])), 24, "b2")
    x = net.relu(net.node("Add", [net.conv(x, 24, "b_down", kernel=1, strides=[2, 2]), y], "add_b"))
    left, right = net.relu(net.conv(x, 8, "c1", kernel=1)), net.relu(net.conv(x, 16, "c2"))
    x = net.node("Concat", [left, right], "concat", axis=1)
    net.channels[x] = 24
    x = net.relu(net.conv(x, 32, "d1"))
    y = net.conv(x, 32, "e1")
    net.head(net.relu(net.node("Add", [y, x], "add_e")))
    return net


@functools.cache
def residual() -> tuple[bytes, RangeTable, np.ndarray]:
    """``residual_net`` with its table and the inputs that it was made from."""
    net = residual_net()
    graph, tensors = net.bytes(), net.tensors(8)
    return graph, range_table(graph, tensors), tensors


def build_rtx(model: bytes) -> tuple[list[str], bytes | None]:
    """What TensorRT for RTX's strongly typed builder has against a model, and its plan; needs no GPU."""
    trt = rtx()
    try:
        built = builder.build(model, "trt-int8", Profile(max_batch=4), rtx_machine(), trt=trt)
    except PlanError as error:
        return [line for line in error.log if not line.startswith("warning")], None
    return [line for line in built.log if not line.startswith("warning")], built.plan
