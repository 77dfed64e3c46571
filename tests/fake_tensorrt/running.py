"""Runtimes, engines and execution contexts over the fake driver."""

from __future__ import annotations

import threading
import weakref
from operator import index
from typing import Any

import numpy as np

from memedge_engines.errors import CudaError

from . import plan
from .execution import Graph
from .inspecting import information
from .parsing import make
from .state import Fake, Misuse


class Runtime:
    """Loads plans."""

    _fake: Fake
    _defaults = {"max_threads": 0, "error_recorder": None, "engine_host_code_allowed": False}  # noqa: RUF012

    def __init__(self, logger: Any) -> None:
        if not self._fake.gpu:
            raise Misuse("Runtime(logger) where no driver is: the real one may crash the process on its first use")
        self._logger = self._fake.need_logger(logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """An engine, or none."""
        data = bytes(serialized_engine)
        lines = self._fake.faults.deserialize or plan.refusal(self._fake, data)
        for line in lines:
            self._fake.say(self._logger, "ERROR", f"IRuntime::deserializeCudaEngine: {line}")
        if lines:
            return None
        model, told = plan.unpack(data)
        trt = self._fake.trt
        return make(trt.ICudaEngine, runtime=self, told=told, data=data, graph=Graph(model, told["skew"]), model=model)


class ICudaEngine:
    """A loaded plan."""

    _fake: Fake
    _told: dict[str, Any]
    _runtime: Any
    _defaults = {"error_recorder": None}  # noqa: RUF012

    def _tensor(self, name: str) -> dict[str, Any]:
        for tensor in self._told["tensors"]:
            if tensor["name"] == name:
                return tensor  # type: ignore[no-any-return]
        raise Misuse(f"the engine has no tensor '{name}'; the real one answers with a default and logs an error")

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self._told["tensors"])

    @property
    def num_layers(self) -> int:
        """Layers of the plan."""
        return len(self._graph.model.graph.node)  # type: ignore[attr-defined]

    @property
    def num_optimization_profiles(self) -> int:
        """At least one: static plans have a default one."""
        return max(1, len(self._told["profiles"]))

    @property
    def num_aux_streams(self) -> int:
        """As the builder was told."""
        return int(self._told["aux_streams"])

    @property
    def name(self) -> str:
        """Of the network."""
        return "Unnamed Network 0"

    @property
    def device_memory_size_v2(self) -> int:
        """Bytes of activations."""
        return 4096

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        """Bytes of activations."""
        return 4096

    def get_tensor_name(self, index: int) -> str:
        """Of the n-th."""
        return str(self._told["tensors"][index]["name"])

    def get_tensor_mode(self, name: str) -> Any:
        """A TensorIOMode."""
        return self._fake.trt.TensorIOMode[self._tensor(name)["mode"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """-1 where free."""
        return tuple(self._tensor(name)["shape"])

    def get_tensor_dtype(self, name: str) -> Any:
        """A DataType."""
        return self._fake.trt.DataType[self._tensor(name)["dtype"]]

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        """A TensorFormat."""
        self._tensor(name)
        return self._fake.trt.TensorFormat.LINEAR

    def get_tensor_location(self, name: str) -> Any:
        """A TensorLocation."""
        self._tensor(name)
        return self._fake.trt.TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        """Never here."""
        self._tensor(name)
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        """Least, best and most shape of an input."""
        tensor = self._tensor(name)
        if tensor["mode"] != "INPUT":
            raise Misuse(f"get_tensor_profile_shape of the output '{name}' gives shapes that fail on use")
        if not 0 <= profile_index < self.num_optimization_profiles:
            raise Misuse(f"there is no profile {profile_index}")
        ranges = self._told["profiles"][profile_index] if self._told["profiles"] else {}
        return [tuple(shape) for shape in ranges.get(name, [tensor["shape"]] * 3)]

    def create_engine_inspector(self) -> Any:
        """An inspector."""
        return make(self._fake.trt.EngineInspector, engine=self)

    def serialize(self) -> Any:
        """The plan again."""
        return make(self._fake.trt.IHostMemory, data=self._data)  # type: ignore[attr-defined]

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        """A context, or none where memory runs out."""
        fake = self._fake
        if fake.driver is None:
            raise Misuse("create_execution_context: fake_tensorrt was given no driver to run on")
        fake.driver._need_bound("create_execution_context")
        if fake.faults.context:
            text = "Requested amount of GPU memory (4096 bytes) could not be allocated. out of memory"
            fake.say(self._runtime._logger, "ERROR", f"Error Code 1: Cuda Runtime ({text})")
            return None
        managed = strategy is not None and strategy.name == "USER_MANAGED"
        return make(
            fake.trt.IExecutionContext, engine=self, shapes={}, addresses={}, inferred=False, warm=None, thread=None,
            memory=None if managed else 0, event=0,
        )  # fmt: skip


class EngineInspector:
    """Tells what a plan consists of."""

    _fake: Fake
    _defaults = {"execution_context": None, "error_recorder": None}  # noqa: RUF012

    def get_engine_information(self, format: Any) -> str:
        """Of all layers."""
        if format.name != "JSON":
            raise Misuse("only JSON is simulated")
        engine = self._engine  # type: ignore[attr-defined]
        return information(self._fake.major, engine._graph.model, engine._told)


class IExecutionContext:
    """One running state of an engine."""

    _fake: Fake
    _engine: Any
    _shapes: dict[str, tuple[int, ...]]
    _addresses: dict[str, int]
    _defaults = {"error_recorder": None, "profiler": None, "persistent_cache_limit": 0, "name": "",  # noqa: RUF012
                 "nvtx_verbosity": None, "enqueue_emits_profile": True, "debug_sync": False}  # fmt: skip

    @property
    def engine(self) -> Any:
        """Whose context it is."""
        return self._engine

    @property
    def active_optimization_profile(self) -> int:
        """The first one."""
        return 0

    def _refuse(self, call: str, text: str) -> bool:
        logger = self._engine._runtime._logger
        self._fake.error(logger, f"IExecutionContext::{call}", "API Usage Error", text)
        return False

    def _known(self, name: str) -> dict[str, Any] | None:
        return next((tensor for tensor in self._engine._told["tensors"] if tensor["name"] == name), None)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """False for what is no input, or is outside the profile."""
        tensor, wanted = self._known(name), tuple(index(size) for size in shape)
        if tensor is None or tensor["mode"] != "INPUT":
            return self._refuse("setInputShape", f"Given invalid tensor name: {name}.")
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        if len(wanted) != len(least) or not all(a <= b <= c for a, b, c in zip(least, wanted, most, strict=True)):
            text = f"Static dimension mismatch or out of profile: input '{name}' {wanted} is not in {least}..{most}."
            return self._refuse("setInputShape", text)
        if self._shapes.get(name) != wanted:
            self._shapes[name] = wanted
            self._inferred, self._warm = False, None
        return True

    def _missing(self) -> list[str]:
        return [
            tensor["name"]
            for tensor in self._engine._told["tensors"]
            if tensor["mode"] == "INPUT" and -1 in tensor["shape"] and tensor["name"] not in self._shapes
        ]

    @property
    def all_binding_shapes_specified(self) -> bool:
        """Whether each free input has its shape."""
        return not self._missing()

    def infer_shapes(self) -> list[str]:
        """Inputs whose shape is not set; empty: outputs' shapes are known now."""
        missing = self._missing()
        self._inferred = not missing
        return missing

    def _shape(self, tensor: dict[str, Any]) -> tuple[int, ...]:
        if tensor["mode"] == "INPUT":
            return self._shapes.get(tensor["name"], tuple(tensor["shape"]))
        if -1 not in tensor["shape"] or not self._inferred:
            return tuple(tensor["shape"])
        inputs = {t["name"]: self._shape(t) for t in self._engine._told["tensors"] if t["mode"] == "INPUT"}
        found: tuple[int, ...] = self._engine._graph.shape(tensor["name"], inputs)
        return found

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """-1 where it does not follow yet."""
        return self._shape(self._engine._tensor(name))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """False for what is no tensor."""
        if self._known(name) is None:
            return self._refuse("setTensorAddress", f"Given invalid tensor name: {name}.")
        self._fake.driver.demand_aligned(index(memory), f"set_tensor_address('{name}')")
        if self._addresses.get(name) != index(memory):
            self._addresses[name] = index(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        """0 where none was set."""
        return self._addresses.get(name, 0)

    def set_device_memory(self, memory: int, size: int) -> None:
        """Scratch memory of a context that has none of its own."""
        if self._memory is None or self._memory:
            if size < self._engine.device_memory_size_v2:
                raise Misuse(f"{size} bytes of device memory; the engine needs {self._engine.device_memory_size_v2}")
            self._fake.driver.demand_aligned(index(memory), "set_device_memory")
            self._memory = index(memory)
            return
        raise Misuse("set_device_memory on a context that allocated its own")

    def set_input_consumed_event(self, event: int) -> bool:
        """Recorded when inputs may be written again; 0 for none."""
        self._event = index(event)
        return True

    def get_input_consumed_event(self) -> int:
        """0 for none."""
        return self._event

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue one inference; False when refused."""
        fake, driver = self._fake, self._fake.driver
        self._own_thread()
        problem = self._not_ready()
        if problem:
            return self._refuse("enqueueV3", problem)
        if fake.faults.enqueue:
            fake.faults.enqueue -= 1
            if not fake.faults.enqueue:
                return self._refuse("enqueueV3", "Error Code 1: Cuda Runtime (an illegal memory access)")
        if driver.capturing(stream_handle) and (fake.faults.capture or self._warm is None):
            try:
                driver.refuse_in_capture("cudaMalloc", stream_handle)
            except CudaError as error:
                return self._refuse("enqueueV3", f"Error Code 1: Cuda Runtime ({error.message})")
        self._queue(stream_handle)
        if not driver.capturing(stream_handle):
            self._warm = True
        return True

    def _own_thread(self) -> None:
        thread = threading.get_ident()
        if self._thread is None:
            self._thread = thread
        elif self._thread != thread:
            raise Misuse("a context is executed from a second thread")

    def _not_ready(self) -> str:
        if not self._inferred and any(-1 in tensor["shape"] for tensor in self._engine._told["tensors"]):
            if self._missing():
                return f"Input shapes are not set: {', '.join(self._missing())}."
            raise Misuse("execute_async_v3 before infer_shapes: nobody has looked whether all shapes are known")
        without = [t["name"] for t in self._engine._told["tensors"] if not self._addresses.get(t["name"])]
        if without:
            return f"Address is not set for tensors {', '.join(without)}. Call setTensorAddress before enqueueV3."
        if self._memory is None:
            return "Device memory is not set: the context was made USER_MANAGED."
        return ""

    def _queue(self, stream: int) -> None:
        fake, graph = self._fake, self._engine._graph
        held = []
        for tensor in self._engine._told["tensors"]:
            shape, address = self._shape(tensor), self._addresses[tensor["name"]]
            dtype = np.dtype(fake.trt.nptype(fake.trt.DataType[tensor["dtype"]]))
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            fake.driver.memory(address, size)  # refuses what is too small now, not when the stream comes to it
            held.append((tensor["mode"], tensor["name"], address, size, dtype, shape))
        alive = weakref.ref(self)

        def work() -> None:
            if alive() is None:
                raise Misuse("an execution context was destroyed before its work was done, or before its graph")
            fake.executions += 1
            views = {name: fake.driver.memory(at, size).view(dtype).reshape(shape)
                     for _, name, at, size, dtype, shape in held}  # fmt: skip
            inputs = {name: views[name].copy() for mode, name, *_ in held if mode == "INPUT"}
            for name, result in graph.run(inputs).items():
                views[name][...] = result

        fake.driver.enqueue(stream, work, "execute_async_v3", [at for _, _, at, *_ in held])
        if self._event:
            fake.driver.event_record(self._event, stream)


CLASSES = {
    "Runtime": Runtime, "ICudaEngine": ICudaEngine, "IExecutionContext": IExecutionContext,
    "EngineInspector": EngineInspector,
}  # fmt: skip
