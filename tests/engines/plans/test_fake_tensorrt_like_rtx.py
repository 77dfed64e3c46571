"""The fake TensorRT beside a real library: the same sequences of calls give the same answers.

TensorRT for RTX has TensorRT's front end and a builder that needs no GPU; what both can do is compared here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fake_tensorrt import fake_tensorrt
from helpers_plans import conv, graph, rtx

node = helper.make_node


class Log:
    """Lines of a logger, made for either module."""

    made: dict[int, Any] = {}  # noqa: RUF012 - one logger for each module and process

    @classmethod
    def of(cls, trt: Any) -> Any:
        if id(trt) not in cls.made:

            class Keep(trt.ILogger):  # type: ignore[misc,name-defined]
                def __init__(self) -> None:
                    trt.ILogger.__init__(self)
                    self.lines: list[str] = []

                def log(self, severity: Any, msg: str) -> None:
                    if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                        self.lines.append(msg)

            cls.made[id(trt)] = Keep()
        cls.made[id(trt)].lines.clear()
        return cls.made[id(trt)]


class Parts:
    """Builder, network, parser and configuration of one build."""

    def __init__(self, trt: Any, model: bytes) -> None:
        self.trt, self.log = trt, Log.of(trt)
        self.builder = trt.Builder(self.log)
        self.network = self.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.parser = trt.OnnxParser(self.network, self.log)
        self.parsed = self.parser.parse(model) if model else None
        self.config = self.builder.create_builder_config()
        if hasattr(trt, "ComputeCapability"):  # so that TensorRT for RTX needs no GPU
            self.config.num_compute_capabilities = 1
            self.config.set_compute_capability(trt.ComputeCapability.SM86, 0)

    def profile(self, shapes: tuple[Any, ...] = ((1, 3, 16, 16),) * 3, name: str = "frames") -> tuple[Any, ...]:
        made = self.builder.create_optimization_profile()
        return made.set_shape(name, *shapes), bool(made), self.config.add_optimization_profile(made)

    def build(self) -> bytes | None:
        plan = self.builder.build_serialized_network(self.network, self.config)
        return None if plan is None else bytes(plan)

    def said(self, *fragments: str) -> list[bool]:
        text = "\n".join(self.log.lines).lower()
        return [fragment.lower() in text for fragment in fragments]


@pytest.fixture(scope="module", params=["fake", "rtx"])
def trt(request: pytest.FixtureRequest) -> Any:
    return fake_tensorrt("11.4") if request.param == "fake" else rtx()


def _quantized(scale: float = 0.1, zero: int = 0) -> bytes:
    nodes = [
        node("QuantizeLinear", ["frames", "s", "z"], ["q"], name="q"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        node("Conv", ["d", "w"], ["score"], name="stem"),
    ]
    return graph(nodes, s=np.float32(scale), z=np.int8(zero), w=np.ones((4, 3, 1, 1), np.float32))


def _integer_bias() -> bytes:
    nodes = [
        node("DequantizeLinear", ["b", "s"], ["bias"], name="bias"),
        node("Conv", ["frames", "w", "bias"], ["score"], name="stem"),
    ]
    return graph(nodes, b=np.ones(4, np.int32), s=np.float32(0.1), w=np.ones((4, 3, 1, 1), np.float32))


# What both answer: code of the first error, the node's number, name and operator, a fragment of its text.
PARSED: dict[str, tuple[bytes, tuple[Any, ...]]] = {
    "garbage": (b"garbage", ("MODEL_DESERIALIZE_FAILED", -1, "", "", "Failed to parse the ONNX model")),
    "types": (conv(dtype=np.float16), ("INVALID_NODE", 0, "stem", "Conv", "must be of same type")),
    "operator": (
        graph([node("Nonsense", ["frames"], ["score"], name="odd")]),
        ("INVALID_NODE", 0, "odd", "Nonsense", "Plugin not found"),
    ),
    "zero point": (_quantized(zero=3), ("INVALID_NODE", 0, "q", "QuantizeLinear", "zero point is not supported")),
    "scale": (_quantized(scale=-0.5), ("INVALID_NODE", 0, "q", "QuantizeLinear", "Scale coefficients must all be")),
    "bias": (_integer_bias(), ("INVALID_NODE", 0, "bias", "DequantizeLinear", "input has type Int32 but must have")),
}


@pytest.mark.parametrize("case", PARSED)
def test_graphs_that_the_parser_refuses(trt: Any, case: str) -> None:
    model, expected = PARSED[case]
    parts = Parts(trt, model)
    assert parts.parsed is False
    assert parts.parser.num_errors >= 1
    error = parts.parser.get_error(0)
    found = (error.code().name, error.node(), error.node_name(), error.node_operator())
    assert found == expected[:4]
    assert expected[4] in error.desc()
    assert parts.log.lines
    parts.parser.clear_errors()
    assert parts.parser.num_errors == 0


def test_a_graph_that_both_take(trt: Any) -> None:
    parts = Parts(trt, _quantized())
    assert parts.parsed is True
    assert (parts.parser.num_errors, parts.network.num_inputs, parts.network.num_outputs) == (0, 1, 1)
    tensor = parts.network.get_input(0)
    assert (tensor.name, tuple(tensor.shape), tensor.dtype.name) == ("frames", (-1, 3, 16, 16), "FLOAT")
    assert tensor.is_network_input
    assert parts.profile(((1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))) == (None, True, 0)
    assert parts.config.num_optimization_profiles == 1
    plan = parts.build()
    assert plan is not None
    assert plan[1:4] == b"trt"


def test_a_file_that_is_not_there(trt: Any, tmp_path: Path) -> None:
    parts = Parts(trt, b"")
    assert parts.parser.parse_from_file(str(tmp_path / "none.onnx")) is False
    assert parts.parser.get_error(0).code().name == "INVALID_VALUE"


def test_an_empty_network(trt: Any) -> None:
    assert Parts(trt, b"").build() is None


def test_free_axes_without_a_profile(trt: Any) -> None:
    parts = Parts(trt, conv())
    assert parts.build() is None
    assert parts.said("no optimization profile has been defined") == [True]


@pytest.mark.parametrize("shapes", [((4, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16)), ((2, 3, 16, 16), (2,), (2,))])
def test_a_profile_that_contradicts_itself_raises_nothing(trt: Any, shapes: tuple[Any, ...]) -> None:
    parts = Parts(trt, conv())
    try:
        answer = parts.profile(shapes)
    except (ValueError, RuntimeError, TypeError) as error:  # pragma: no cover - neither does
        pytest.fail(f"raised {error!r}")
    assert answer == (None, False, -1)
    assert parts.build() is None


@pytest.mark.parametrize("shape", [(1, 5, 16, 16), (1, 3, 16)])
def test_a_profile_that_does_not_fit_the_graph(trt: Any, shape: tuple[int, ...]) -> None:
    parts = Parts(trt, conv())
    assert parts.profile((shape,) * 3)[1:] == (True, 0)
    assert parts.build() is None


def test_a_profile_of_another_name(trt: Any) -> None:
    parts = Parts(trt, conv())
    parts.profile(name="pictures")
    assert parts.build() is None


def _monitor(trt: Any, stop: Callable[[int], bool]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.parents: dict[str, str | None] = {}
            self.open: list[str] = []
            self.steps = 0
            self.left: list[str] = []
            self.threads: set[int] = set()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.parents[phase_name] = parent_phase
            self.open.append(phase_name)
            self.threads.add(threading.get_ident())

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.steps += 1
            return not stop(self.steps)

        def phase_finish(self, phase_name: str) -> None:
            self.open.remove(phase_name)

    return Monitor()


@pytest.mark.parametrize("cancel", [False, True])
def test_progress_is_told_in_nested_phases_and_can_cancel(trt: Any, cancel: bool) -> None:
    parts = Parts(trt, _quantized())
    parts.profile()
    monitor = _monitor(trt, lambda steps: cancel and steps >= 2)
    parts.config.progress_monitor = monitor
    plan = parts.build()
    parts.config.progress_monitor = None
    assert (plan is None) == cancel
    assert parts.said("BuildCanceled") == [cancel]
    assert monitor.parents["Building engine"] is None
    assert monitor.steps >= 2
    if not cancel:
        assert "Building engine" in monitor.parents.values()
        assert monitor.open == []


def test_names_parameters_and_values_that_do_not_exist(trt: Any) -> None:
    parts = Parts(trt, conv())
    for bad in (
        lambda: trt.BuilderFlag.FP16,
        lambda: trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH,
        lambda: trt.IInt8Calibrator,
        lambda: parts.config.int8_calibrator,
        lambda: setattr(parts.config, "max_workspace_size", 1),
        lambda: setattr(parts.config, "num_optimization_profiles", 1),
        lambda: setattr(parts.network.get_input(0), "dynamic_range", (0, 1)),
    ):
        with pytest.raises(AttributeError):
            bad()
    for bad in (
        lambda: parts.builder.create_network("strong"),
        lambda: parts.builder.create_network(flag=0),
        lambda: parts.config.set_flag(3),
        lambda: parts.config.set_memory_pool_limit(0, 1 << 20),
        lambda: parts.builder.build_serialized_network(parts.network),
        lambda: trt.INetworkDefinition(),
        lambda: trt.Builder(),
    ):
        with pytest.raises(TypeError):
            bad()


def test_options_read_back(trt: Any) -> None:
    config = Parts(trt, b"").config
    assert config.get_flag(trt.BuilderFlag.TF32) is True
    config.clear_flag(trt.BuilderFlag.TF32)
    assert config.get_flag(trt.BuilderFlag.TF32) is False
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 20)
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 20
    config.builder_optimization_level, config.max_aux_streams = 5, 0
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert (config.builder_optimization_level, config.max_aux_streams) == (5, 0)
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.progress_monitor is None


def test_numbers_of_members_and_numpy_types(trt: Any) -> None:
    assert trt.nptype(trt.DataType.HALF) == np.float16
    assert trt.nptype(trt.int8) == np.int8
    with pytest.raises(TypeError):
        trt.nptype(trt.DataType.BF16)
    assert (trt.DataType.INT4.itemsize, trt.DataType.FLOAT.itemsize, trt.volume((2, 3))) == (0.5, 4, 6)
    assert int(trt.BuilderFlag.TF32) != trt.BuilderFlag.TF32
    assert 1 << int(trt.BuilderFlag.TF32) == 2 ** int(trt.BuilderFlag.TF32)
    assert str(trt.DataType.HALF) == "DataType.HALF"
    assert "TF32" in trt.BuilderFlag.__members__


def test_a_logger_whose_base_was_not_initialised(trt: Any) -> None:
    class Forgetful(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="__init__"):
        trt.Builder(Forgetful())


def test_half_precision_input(trt: Any) -> None:
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT16, [1, 3, 16, 16])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT16, [1, 4, 16, 16])
    weights = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float16), "w")
    body = helper.make_graph([node("Conv", ["frames", "w"], ["score"], name="stem")], "m", [frames], [score], [weights])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    parts = Parts(trt, model.SerializeToString())
    assert parts.parsed is True
    assert parts.network.get_input(0).dtype == trt.DataType.HALF
    assert parts.build() is not None  # nothing is free, so no profile is needed


def test_a_network_is_parsed_once(trt: Any) -> None:
    parts = Parts(trt, b"")
    assert parts.parser.parse(b"") is True  # no byte of a graph: content, and empty
    assert parts.network.num_inputs == 0
    parts = Parts(trt, conv())
    assert parts.parser.parse(conv()) is False


def test_defaults(trt: Any) -> None:
    parts = Parts(trt, conv())
    config = parts.config
    assert config.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.NONE
    assert (config.max_aux_streams, config.avg_timing_iterations, config.num_optimization_profiles) == (-1, 1, 0)
    assert (parts.builder.max_threads, parts.network.name) == (1, "Unnamed Network 0")
    assert parts.network.get_input(5) is None
