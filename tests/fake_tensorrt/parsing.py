"""Networks and the ONNX parser. What the parser refuses here, TensorRT for RTX's parser refuses with the same codes."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from .state import Fake, Misuse

TYPES = {
    TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.BFLOAT16: "BF16", TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8", TensorProto.INT32: "INT32", TensorProto.INT64: "INT64", TensorProto.BOOL: "BOOL",
}  # fmt: skip
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def make(cls: type, **fields: Any) -> Any:
    """An object of a class that callers cannot construct."""
    made = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(made, f"_{name}", value)
    return made


class ITensor:
    """An input or output of a network."""

    _fake: Fake

    @property
    def name(self) -> str:
        """As in the graph."""
        return self._name  # type: ignore[attr-defined, no-any-return]

    @property
    def shape(self) -> tuple[int, ...]:
        """-1 where free."""
        return self._shape  # type: ignore[attr-defined, no-any-return]

    @property
    def dtype(self) -> Any:
        """A DataType."""
        return self._dtype  # type: ignore[attr-defined]

    @property
    def is_network_input(self) -> bool:
        """Whether it is one."""
        return self._input  # type: ignore[attr-defined, no-any-return]


class INetworkDefinition:
    """A graph, empty before it is parsed."""

    _fake: Fake
    _model: Any
    _tensors: tuple[list[Any], list[Any]]
    _defaults = {"name": "Unnamed Network 0", "error_recorder": None}  # noqa: RUF012 - read only

    @property
    def num_inputs(self) -> int:
        """How many."""
        return len(self._tensors[0])

    @property
    def num_outputs(self) -> int:
        """How many."""
        return len(self._tensors[1])

    @property
    def num_layers(self) -> int:
        """Nodes of the graph."""
        return len(self._model.graph.node) if self._model is not None else 0

    def get_input(self, index: int) -> Any:
        """None beyond the last."""
        return self._tensors[0][index] if 0 <= index < self.num_inputs else None

    def get_output(self, index: int) -> Any:
        """None beyond the last."""
        return self._tensors[1][index] if 0 <= index < self.num_outputs else None

    def get_flag(self, flag: Any) -> bool:
        """Strong typing is a flag in 10.x and the only way in 11.x."""
        return bool(self._flags >> int(flag) & 1)  # type: ignore[attr-defined]


class ParserError:
    """One complaint; every accessor is a method."""

    def code(self) -> Any:
        """An ErrorCode."""
        return self._code  # type: ignore[attr-defined]

    def desc(self) -> str:
        """The text."""
        return self._text  # type: ignore[attr-defined, no-any-return]

    def node(self) -> int:
        """Number of the node, -1 for none."""
        return self._number  # type: ignore[attr-defined, no-any-return]

    def node_name(self) -> str:
        """Name of the node."""
        return self._node[0]  # type: ignore[attr-defined, no-any-return]

    def node_operator(self) -> str:
        """Its operator."""
        return self._node[1]  # type: ignore[attr-defined, no-any-return]

    def file(self) -> str:
        """Source file of the parser."""
        return "fake.cpp"

    def line(self) -> int:
        """Line of it."""
        return 1

    def func(self) -> str:
        """Function of it."""
        return "parse"

    def local_function_stack(self) -> list[str]:
        """Of ONNX functions."""
        return []


class OnnxParser:
    """Fills a network. It does not keep the network alive, as the bindings do not."""

    _fake: Fake

    def __init__(self, network: Any, logger: Any) -> None:
        self._logger = self._fake.need_logger(logger)
        self._network = weakref.ref(network)
        self._errors: list[Any] = []
        network._parsers.append(self)

    def parse(self, model: Any, path: str | None = None) -> bool:
        """Parse bytes; False and errors where they are no graph that TensorRT takes."""
        network = self._network()
        if network is None:
            raise Misuse("parse with a network that is gone: the parser does not keep it alive")
        if network._model is not None:
            self._fake.say(self._logger, "ERROR", "In function parse: the network is not empty")
            return False
        return self._fake_parse(network, bytes(model))

    def parse_from_file(self, model: str) -> bool:
        """Parse a file."""
        if not Path(model).is_file():
            self._complain("INVALID_VALUE", f"Failed to open file: {model}")
            return False
        return bool(self.parse(Path(model).read_bytes()))

    @property
    def num_errors(self) -> int:
        """Since the last ``clear_errors``."""
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        """One of them."""
        if not 0 <= index < len(self._errors):
            raise Misuse(f"parser error {index} of {len(self._errors)}")
        return self._errors[index]

    def clear_errors(self) -> None:
        """Forget them."""
        self._errors.clear()

    def _fake_parse(self, network: Any, data: bytes) -> bool:
        if self._fake.faults.parse:
            self._complain("INVALID_NODE", self._fake.faults.parse)
            return False
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except Exception:  # protobuf's error class differs between its implementations
            self._complain("MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.")
            return False
        for number, code, text in complaints(model):
            self._complain(code, text, number, model.graph.node[number])
            return False
        network._model = model
        constants = {tensor.name for tensor in model.graph.initializer}
        for place, values in enumerate((model.graph.input, model.graph.output)):
            network._tensors[place].extend(
                make(
                    self._fake.trt.ITensor,
                    name=value.name,
                    shape=tuple(
                        d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim
                    ),
                    dtype=self._fake.trt.DataType[TYPES[value.type.tensor_type.elem_type]],
                    input=place == 0,
                )
                for value in values
                if value.name not in constants
            )
        return True

    def _complain(self, code: str, text: str, number: int = -1, node: Any = None) -> None:
        trt = self._fake.trt
        named = (node.name, node.op_type) if node is not None else ("", "")
        self._errors.append(make(trt.ParserError, code=trt.ErrorCode[code], text=text, number=number, node=named))
        if node is not None:
            told = f'While parsing node number {number} [{node.op_type} -> "{next(iter(node.output), "")}"]:'
            self._fake.say(self._logger, "ERROR", f"ModelImporter.cpp:1: {told}")
        self._fake.say(self._logger, "ERROR", f"In function parse: {code}: {text}")


def complaints(model: onnx.ModelProto) -> Iterator[tuple[int, str, str]]:
    """(node, code, text) of what TensorRT's parser would refuse, in the graph's order."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    kinds.update({name: tensor.data_type for name, tensor in constants.items()})
    for number, node in enumerate(model.graph.node):
        if not _known(node.op_type, node.domain):
            text = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
            yield number, "INVALID_NODE", text
        elif node.op_type in _QUANTIZERS:
            text = _quantizer(node, constants)
            if text:
                yield number, "INVALID_NODE", text
        elif node.op_type == "Conv":
            found = {kinds.get(name) for name in node.input} - {None}
            if len(found) > 1:
                told = " but ".join(sorted(TYPES.get(kind, str(kind)).title() for kind in found))
                said = f"Invalid Node - {node.name}\n{node.name}: IConvolutionLayer `input` and `kernel`"
                yield number, "INVALID_NODE", f"{said} must be of same type: {told}."
        kinds.update(_result(node, kinds, constants))


def _result(node: onnx.NodeProto, kinds: dict[str, int], constants: dict[str, Any]) -> dict[str, int]:
    """Element types of a node's outputs as far as they follow from its inputs."""
    if node.op_type == "DequantizeLinear":
        kind = kinds.get(node.input[1])
    elif node.op_type == "QuantizeLinear":
        kind = constants[node.input[2]].data_type if len(node.input) > 2 else TensorProto.INT8
    elif node.op_type == "Cast":
        kind = next(a.i for a in node.attribute if a.name == "to")
    elif node.op_type in ("Conv", "Relu", "MaxPool", "Add", "Clip", "GlobalAveragePool", "Identity"):
        kind = kinds.get(node.input[0])
    else:
        kind = None
    return {} if kind is None else dict.fromkeys(node.output, kind)


def _quantizer(node: onnx.NodeProto, constants: dict[str, Any]) -> str:
    scale = constants.get(node.input[1])
    if scale is None:
        return "Assertion failed: scale must be an initializer"
    if not (numpy_helper.to_array(scale) > 0).all():
        return "Assertion failed: (scaleAllPositive): Scale coefficients must all be positive"
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is not None and numpy_helper.to_array(zero).any():
        return "Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported."
    first = constants.get(node.input[0])
    if node.op_type == "DequantizeLinear" and first is not None and first.data_type == TensorProto.INT32:
        return f"Invalid Node - {node.name}\n{node.name}: input has type Int32 but must have type FP8, INT4 or INT8"
    return ""


@functools.cache
def _known(operator: str, domain: str) -> bool:
    return domain in ("", "ai.onnx") and onnx.defs.has(operator)


CLASSES = {
    "ITensor": ITensor, "INetworkDefinition": INetworkDefinition, "ParserError": ParserError, "OnnxParser": OnnxParser,
}  # fmt: skip
