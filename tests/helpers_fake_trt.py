"""A TensorRT of a few lines for what TensorRT for RTX cannot do here: refuse each call, be old, cache timings, hang.

The module stands for ``tensorrt`` itself. A plan is a header and the ONNX graph; ``open_plan`` runs it by ONNX Runtime,
so that golden frames get real scores. ``behaviour`` says what goes wrong; in a child process it comes from the
environment variable FAKE_TRT (JSON).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import onnxruntime

from memedge_engines.backends.base import Engine
from memedge_engines.backends.onnxruntime import specs
from memedge_engines.plans import proof

__version__ = "10.3.0"


class Behaviour:
    """What the fake does.

    Attributes:
        refuse: calls that return None, False or -1.
        says: call to error text that is logged when it happens.
        raises: calls that raise RuntimeError.
        weak_only: strongly typed networks fail with this text.
        act: what the child process does while it builds: abort, kill, hang, print.
        bad_builds: so many builds give plans that score 0.2 too high.
        steps, pause_s: steps of a build, and what each takes.
    """

    def __init__(self, **fields: Any) -> None:
        self.refuse: tuple[str, ...] = ()
        self.says: dict[str, str] = {}
        self.raises: tuple[str, ...] = ()
        self.weak_only = ""
        self.act = ""
        self.bad_builds = 0
        self.steps = 4
        self.pause_s = 0.0
        self.calls: list[str] = []
        self.caches: list[bytes] = []
        vars(self).update(fields)


behaviour = Behaviour(**json.loads(os.environ.get("FAKE_TRT", "{}")))
if "FAKE_TRT" in os.environ:
    proof.BACKEND = __name__


def reset(**fields: Any) -> Behaviour:
    """Start anew."""
    global behaviour
    behaviour = Behaviour(**fields)
    return behaviour


def _call(name: str, result: Any, refusal: Any = None) -> Any:
    behaviour.calls.append(name)
    if name in behaviour.says:
        Builder.logger.log(ILogger.ERROR, behaviour.says[name])
    if name in behaviour.raises:
        raise RuntimeError(f"{name} raised")
    return refusal if name in behaviour.refuse else result


class ILogger:
    """Severities as in the real one."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = "internal", "error", "warning", "info", "verbose"


class IProgressMonitor:
    """Base class."""


class BuilderFlag:
    """TensorRT 10 has precision flags."""

    FP16, INT8, TF32 = "FP16", "INT8", "TF32"


class NetworkDefinitionCreationFlag:
    """TensorRT 10's value."""

    STRONGLY_TYPED = 1


class ProfilingVerbosity:
    """Base."""

    DETAILED = "DETAILED"


class MemoryPoolType:
    """Base."""

    WORKSPACE = "WORKSPACE"


class LayerInformationFormat:
    """Base."""

    JSON = "JSON"


def session(model: bytes) -> onnxruntime.InferenceSession:
    """ONNX Runtime, on the graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Tensor:
    """A network input or output."""

    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        self.dtype = {"tensor(float)": "DataType.FLOAT", "tensor(float16)": "DataType.HALF"}[value.type]


class Network:
    """Filled by the parser."""

    def __init__(self, strong: bool) -> None:
        self.strong = strong
        self.bytes = b""
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]


class OnnxParser:
    """Parses by ONNX Runtime."""

    num_errors = 0

    def __new__(cls, network: Network, logger: Any) -> Any:
        self = super().__new__(cls)
        self.network = network
        return _call("OnnxParser", self)

    def parse(self, data: bytes) -> bool:
        if self.network.strong and behaviour.weak_only:
            Builder.logger.log(ILogger.ERROR, behaviour.weak_only)
            return False
        opened = session(data)
        self.network.inputs = [Tensor(value) for value in opened.get_inputs()]
        self.network.outputs = [Tensor(value) for value in opened.get_outputs()]
        self.network.bytes = data
        return _call("parse", True, False)


class Profile:
    """Shapes."""

    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *shapes: Any) -> None:
        self.shapes[name] = shapes

    def __bool__(self) -> bool:
        return _call("profile", True, False)


class Blob:
    """IHostMemory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nbytes = len(data)

    def __bytes__(self) -> bytes:
        return self.data


class TimingCache:
    """Remembers one more byte for every build."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> Blob:
        return Blob(self.data)


class Config:
    """Takes every setting of the common subset, and no other."""

    __slots__ = (
        "builder_optimization_level", "cache", "flags", "max_aux_streams", "profiles", "profiling_verbosity",
        "progress_monitor", "workspace",
    )  # fmt: skip

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.profiles: list[Profile] = []
        self.workspace: int | None = None

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return _call("add_optimization_profile", 0, -1)

    def create_timing_cache(self, data: bytes) -> TimingCache | None:
        if data == b"corrupt":
            return None
        return _call("create_timing_cache", TimingCache(data))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.data == b"of another GPU":
            return False
        self.cache = cache
        behaviour.caches.append(cache.data)
        return _call("set_timing_cache", True, False)

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Builder:
    """Builds nothing; the plan is the graph."""

    logger: Any = None
    configs: tuple[Config, ...] = ()

    def __new__(cls, logger: Any) -> Any:
        Builder.logger = logger
        return _call("Builder", super().__new__(cls))

    def create_network(self, flags: int) -> Any:
        return _call("create_network", Network(flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED))

    def create_builder_config(self) -> Any:
        Builder.configs = (*Builder.configs[-8:], Config())
        return _call("create_builder_config", Builder.configs[-1])

    def create_optimization_profile(self) -> Any:
        return _call("create_optimization_profile", Profile())

    def build_serialized_network(self, network: Network, config: Config) -> Blob | None:
        _act()
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, behaviour.steps)
        for step in range(behaviour.steps):
            time.sleep(behaviour.pause_s)
            if not monitor.step_complete("Building engine", step):
                self.logger.log(ILogger.ERROR, "Error Code 10: Internal Error (BuildCanceled)")
                return None
        monitor.phase_finish("Building engine")
        config.cache.data += b"+"
        bad = behaviour.bad_builds > 0
        behaviour.bad_builds -= 1
        version = bytes(int(n) for n in __version__.split(".")) + b"\0"
        header = b"ftrt" + bytes(20) + version + (b"B" if bad else b"G")
        return _call("build_serialized_network", Blob(header + network.bytes))


def _act() -> None:
    act = behaviour.act
    if act == "abort":
        print("free(): invalid pointer", file=sys.stderr, flush=True)
        os.abort()
    elif act == "kill":
        os.kill(os.getpid(), 9)
    elif act == "hang":
        time.sleep(600)
    elif act == "print":
        # A library that prints to the process's first file, past Python.
        os.write(1, b"not JSON {\n\xff\xfe" + b"x" * 5000 + b"\n")


class Runtime:
    """Deserialises for the inspector."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        return _call("deserialize_cuda_engine", self)

    def create_engine_inspector(self) -> Any:
        return _call("create_engine_inspector", self)

    def get_engine_information(self, form: str) -> str:
        layers = [
            {"Name": "c", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row major Int8 format"}]}
        ]
        return json.dumps({"Layers": layers, "Bindings": ["frames", "score"]})


class PlanEngine(Engine):
    """A fake plan's graph, run by ONNX Runtime."""

    def __init__(self, lowering: str, data: bytes) -> None:
        self._session = session(data[29:])
        self._offset = np.float32(0.2 if data[28:29] == b"B" else 0.0)
        super().__init__(
            "tensorrt",
            lowering,
            specs(self._session.get_inputs(), "input"),
            specs(self._session.get_outputs(), "output"),
        )

    def _run(self, inputs: Any) -> Any:
        names = [spec.name for spec in self.outputs]
        found = dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        return {name: value + self._offset if name == "score" else value for name, value in found.items()}


def open_plan(node: Any, lowering: str, plan: Any) -> Engine:
    """As the TensorRT back end opens a plan."""
    return PlanEngine(lowering, plan.data)
