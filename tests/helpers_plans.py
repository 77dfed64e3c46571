"""Machines, bundles and TensorRT for RTX for tests of plans."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import memedge
from fake_tensorrt import plan as fake_plan
from memedge_engines.backends.base import Engine
from memedge_engines.backends.onnxruntime import specs
from memedge_engines.plans.machine import Machine
from memedge_engines.plans.process import BuildProcess, BuildProgress

DEFAULT = Path(memedge.__file__).parent / "bundles" / "default"


def machine(**fields: Any) -> Machine:
    """An Orin with JetPack 6.2, unless said otherwise."""
    told: dict[str, Any] = {
        "tensorrt": "10.3.0", "gpu": "Orin", "sm": "87", "multiprocessors": 16, "integrated": True,
        "system": "Linux", "arch": "aarch64", "l4t": "R36, REVISION: 4.3", "driver": "540.4.0", "cuda": "12.6",
    }  # fmt: skip
    return Machine(**{**told, **fields})


def rtx() -> Any:
    """The ``tensorrt_rtx`` module, or a skip with the reason."""
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install tensorrt-rtx)")


def rtx_machine() -> Machine:
    """A desktop GPU that TensorRT for RTX builds for without one."""
    desktop = {"gpu": "RTX 3080", "sm": "86", "integrated": False, "arch": "x86_64", "l4t": ""}
    return machine(tensorrt=rtx().__version__, flavour="rtx", **desktop)


def graph(
    nodes: list[onnx.NodeProto], channels: int = 4, shape: tuple[Any, ...] = ("batch", 3, 16, 16), **constants: Any
) -> bytes:
    """frames -> score [batch, channels, h, w] through these nodes; not checked, since tests want bad ones too."""
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, list(shape))
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [shape[0], channels, *shape[2:]])
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "model", [frames], [score], held)
    opset = [helper.make_opsetid("", 19)]
    return bytes(helper.make_model(body, opset_imports=opset, ir_version=10).SerializeToString())


def conv(shape: tuple[Any, ...] = ("batch", 3, 16, 16), dtype: Any = np.float32, channels: int = 4) -> bytes:
    """One 1x1 convolution; a weight of another dtype makes it ill-typed."""
    node = helper.make_node("Conv", ["frames", "w"], ["score"], name="stem")
    return graph([node], channels, shape, w=np.ones((channels, 3, 1, 1), dtype))


def finish(process: BuildProcess, each: Callable[[BuildProgress], None] | None = None) -> list[BuildProgress]:
    """Poll until the child has ended, at most a minute; everything it told."""
    told: list[BuildProgress] = []
    until = time.monotonic() + 60
    while not process.done:
        assert time.monotonic() < until, "the child does not end"
        for event in process.poll():
            told.append(event)
            if each is not None:
                each(event)
        time.sleep(0.01)
    return told + process.poll()


class FakePlanEngine(Engine):
    """A plan of the fake TensorRT on no device at all: its graph as it is written, in ONNX Runtime."""

    def __init__(self, lowering: str, data: bytes) -> None:
        model, told = fake_plan.unpack(data)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._skew = np.float32(told["skew"])
        ends = specs(self._session.get_inputs(), "input"), specs(self._session.get_outputs(), "output")
        super().__init__("tensorrt", lowering, *ends)

    def _run(self, inputs: Any) -> Any:
        names = [spec.name for spec in self.outputs]
        found = self._session.run(names, dict(inputs))
        return {name: value + self._skew for name, value in zip(names, found, strict=True)}


def open_plan(node: Any, lowering: str, plan: Any) -> FakePlanEngine:
    """As the TensorRT back end opens a plan; tests name this module as the back end's."""
    return FakePlanEngine(lowering, plan.data)
