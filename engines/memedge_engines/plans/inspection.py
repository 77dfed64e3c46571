"""How many layers of a plan really run int8: the engine inspector's JSON, in the schemas of TensorRT 10 and 11.

In 10.x an input's type stands inside the text ``Format/Datatype`` ("... row major Int8 format"); 11.x splits it into
``Format`` and ``DataType``. A layer computes in what it reads: a convolution with int8 inputs is an int8 convolution,
whatever type it writes. Plans built without detailed verbosity list names only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .sidecar import Layers

# Not computing: reformats, copies and what changes shapes only.
_MOVES = ("reformat", "quantize", "noop", "shuffle", "copy", "constant", "shapehostto", "slice", "identity")
_TYPES = (
    ("int8", re.compile(r"\b(int8|kint8)\b", re.IGNORECASE)),
    ("fp16", re.compile(r"\b(fp16|half|khalf|float16)\b", re.IGNORECASE)),
    ("fp32", re.compile(r"\b(fp32|float|kfloat|float32)\b", re.IGNORECASE)),
)


def summary(information: str | Mapping[str, Any]) -> Layers | None:
    """Count the layers of ``get_engine_information``'s JSON; none where it does not tell what layers compute in."""
    if isinstance(information, str):
        try:
            information = json.loads(information)
        except (ValueError, RecursionError):
            return None
    layers = information.get("Layers") if isinstance(information, Mapping) else None
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, Mapping) for layer in layers):
        return None
    counts = dict.fromkeys(("int8", "fp16", "fp32", "other", "moves"), 0)
    for layer in layers:
        counts[_kind(layer)] += 1
    return Layers(total=len(layers), **counts)


def inspect_plan(trt: Any, logger: Any, plan: bytes) -> Layers | None:
    """Deserialise a plan and count its layers; none where that is not possible (TensorRT for RTX, no detail kept)."""
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan) if runtime is not None else None
    inspector = engine.create_engine_inspector() if engine is not None else None
    if inspector is None:
        return None
    told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return summary(told) if told else None


def _kind(layer: Mapping[str, Any]) -> str:
    word = str(layer.get("LayerType", "")).lower()
    if any(move in word for move in _MOVES):
        return "moves"
    for tensors in (layer.get("Inputs"), layer.get("Outputs")):
        types = set(_types(tensors))
        # A layer that reads int8 and a float shortcut (a sum behind a convolution) is an int8 layer.
        found = next((name for name, _ in _TYPES if name in types), None)
        if found is not None:
            return found
    return "other"


def _types(tensors: Any) -> Iterable[str]:
    for tensor in tensors if isinstance(tensors, list) else ():
        if not isinstance(tensor, Mapping):
            continue
        keys = {str(key).lower().replace("/", "").replace(" ", ""): key for key in tensor}
        # The combined field of 10.x, else the type of 11.x, else what the format's text says.
        for wanted in ("datatype", "formatdatatype", "format"):
            text = str(tensor[keys[wanted]]) if wanted in keys else ""
            found = next((name for name, pattern in _TYPES if pattern.search(text)), None)
            if found is not None:
                yield found
                break
