"""The inspector's JSON in the two schemas: 10.x and 11.x."""

from __future__ import annotations

import json
from typing import Any

import onnx

from .parsing import TYPES

_WORDS = {"FLOAT": "FP32", "HALF": "FP16", "INT8": "Int8", "BF16": "BF16"}
_FUSED = ("Relu", "Clip", "BatchNormalization", "DequantizeLinear", "QuantizeLinear")


def information(major: int, model: onnx.ModelProto, told: dict[str, Any]) -> str:
    """What ``get_engine_information`` gives: names only without detailed verbosity."""
    quantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    kinds = {t["name"]: t["dtype"] for t in told["tensors"]}
    body = next((TYPES.get(i.data_type, "FLOAT") for i in model.graph.initializer if i.data_type in (1, 10)), "FLOAT")
    layers: list[Any] = []
    for node in model.graph.node:
        if node.op_type in _FUSED:
            continue
        if not told["detailed"]:
            layers.append(node.name or node.output[0])
            continue
        kind = "INT8" if set(node.input) & quantized else kinds.get(node.input[0] if node.input else "", body)
        layers.append(
            {
                "Name": node.name or node.output[0],
                "LayerType": "CaskConvolution" if node.op_type == "Conv" else node.op_type,
                "Inputs": [_tensor(major, name, kind) for name in node.input[:1]],
                "Outputs": [_tensor(major, name, kind) for name in node.output],
                "TacticName": "fake",
            }
        )
    return json.dumps({"Layers": layers, **_ends(major, told)}, indent=1)


def _tensor(major: int, name: str, kind: str) -> dict[str, Any]:
    told: dict[str, Any] = {"Name": name, "Location": "Device", "Dimensions": [1]}
    if major < 11:
        return {**told, "Format/Datatype": f"Row major linear {_WORDS.get(kind, kind)} format"}
    return {**told, "Format": "Linear", "DataType": _WORDS.get(kind, kind).upper()}


def _ends(major: int, told: dict[str, Any]) -> dict[str, Any]:
    if major < 11:
        return {"Bindings": [t["name"] for t in told["tensors"]]}
    return {
        "I/O Tensors": [
            {
                "Name": t["name"], "Mode": t["mode"].title(), "DataType": t["dtype"], "Dimensions": t["shape"],
                "Location": "Device", "Format": "Linear",
                "Profiles": [{k: v for k, v in p.items() if k == t["name"]} for p in told["profiles"]],
            }
            for t in told["tensors"]
        ]
    }  # fmt: skip
