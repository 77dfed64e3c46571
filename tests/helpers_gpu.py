"""A machine with a GPU and TensorRT, all fake: a driver, the kernel's host emulation, plans that ONNX Runtime runs."""

from __future__ import annotations

import functools
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import onnx

from fake_tensorrt import Faults, fake_tensorrt
from helpers_kernel import fake_kernel
from memedge_engines import bundle as bundles
from memedge_engines import hardware
from memedge_engines.backends.base import Engine, EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.cuda import opening, shared
from memedge_engines.cuda.driver import DeviceInfo
from memedge_engines.cuda.fake import FAKE_DEVICE, FakeDriver
from memedge_engines.executor import Executor
from memedge_engines.frame import Frame, MemoryKind, Plane
from memedge_engines.kernels import image
from memedge_engines.manifest import InputStorage
from memedge_engines.plans import assembly, library
from memedge_engines.plans.messages import Request
from memedge_engines.plans.profile import Profile


@dataclass
class FakeGpu:
    """The fake driver and the fake TensorRT on it."""

    driver: FakeDriver
    trt: Any

    @property
    def faults(self) -> Faults:
        """What shall go wrong in TensorRT."""
        return self.trt.fake.faults  # type: ignore[no-any-return]

    def build(self, bundle: Bundle, lowering: str = "fp32", max_batch: int = 1) -> None:
        """Plans of all graph nodes, built here, proven and stored."""
        request = Request(bundle=str(bundle.path), lowering=lowering, profile=Profile(max_batch, max_batch))
        assembly.assemble(request, self.trt, lambda *_: None, lambda: False)

    def engines(self, bundle: Bundle, lowering: str = "fp32", max_batch: int = 1) -> dict[str, Engine]:
        """The engines of stored plans."""
        from memedge_engines.backends.tensorrt import BACKEND

        options = EngineOptions(max_batch=max_batch)
        return {n.name: BACKEND.open(bundle, n, lowering, options) for n in bundle.manifest.nodes if n.kind == "graph"}

    def executor(
        self, bundle: Bundle, lowering: str = "fp32", max_batch: int = 1, tell: Callable[[str], None] = lambda _: None
    ) -> Executor:
        """The executor that a Scorer would open."""
        from memedge_engines import executors

        return executors.make(bundle, self.engines(bundle, lowering, max_batch), max_batch, tell)


@contextmanager
def fake_gpu(version: str = "10.3", **options: Any) -> Iterator[FakeGpu]:
    """While the block runs, this machine has it; in the end nothing of it may be left.

    ``options``: of :class:`FakeDriver`; the test may read ``driver.calls``.
    """
    driver = FakeDriver({image.NAME: fake_kernel}, **options)

    def open_driver(device: int = 0, provider: str = "auto") -> FakeDriver:
        driver.retain(device)
        driver.bind()
        return driver

    trt = fake_tensorrt(version, driver=driver)
    with ExitStack() as stack:
        stack.enter_context(library.use(trt))
        stack.enter_context(mock.patch.object(opening, "open_driver", open_driver))
        stack.enter_context(mock.patch.object(opening, "load_driver", return_value=driver))
        stack.enter_context(mock.patch.object(hardware, "nvidia_driver", return_value=True))
        stack.enter_context(mock.patch.dict("sys.modules", {"tensorrt": trt}))
        try:
            yield FakeGpu(driver, trt)
        except SystemExit:
            driver.close_check()
            raise
        driver.close_check()


def desktop(**fields: Any) -> DeviceInfo:
    """A device with memory of its own; the fake driver's usual one is integrated."""
    return replace(FAKE_DEVICE, **{"name": "Fake 4090", "integrated": False, **fields})


class DevicePlane:
    """Rows of bytes in the fake driver's device memory."""

    def __init__(self, address: int, shape: tuple[int, int]) -> None:
        self.__cuda_array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": shape, "strides": (shape[1], 1), "data": (address, True),
        }  # fmt: skip


def device_frame(gpu: FakeGpu, frame: Frame) -> Frame:
    """A host frame's copy in device memory; the host frame is released with it, once."""
    driver, addresses, planes = gpu.driver, [], []
    worker = shared.hold()
    for array in frame.host_planes():
        array = np.ascontiguousarray(array)
        address = worker.call(lambda size=array.nbytes: driver.device_alloc(size))
        driver.memory(address, array.nbytes)[:] = array.reshape(-1)
        addresses.append(address)
        planes.append(Plane(DevicePlane(address, array.shape), array.shape[1], MemoryKind.DEVICE))

    def free() -> None:
        for address in addresses:
            worker.call(lambda address=address: driver.device_free(address))
        shared.let_go(worker)
        frame.release()

    return replace(frame, planes=planes, on_release=free, _references=1, _lock=threading.Lock())


def add_half_and_int8(bundle: Bundle) -> Bundle:
    """The bundle with lowerings whose inputs are float16 and int8, turned into float32 by their graphs' first node."""
    (node,) = bundle.manifest.nodes
    files, golden = dict(node.files), bundle.manifest.golden
    data = {entry.file: bundle.read(entry) for entry in bundle.entries()}
    arrays = dict(np.load(io.BytesIO(bundle.read(golden.file))))
    for lowering, storage in _STORED.items():
        name = f"{node.name}.{lowering}.onnx"
        data[name] = _with_input(bundle.read(node.files["fp32"]), storage)
        files[lowering] = bundles.file_entry(name, data[name], inputs={node.inputs[0].name: storage})
        arrays[f"score_{lowering}"] = arrays["score_fp32"]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    data[golden.file.file] = buffer.getvalue()
    manifest = msgspec.structs.replace(
        bundle.manifest,
        nodes=(msgspec.structs.replace(node, files=files),),
        golden=msgspec.structs.replace(
            golden,
            file=bundles.file_entry(golden.file.file, buffer.getvalue()),
            tolerance={**golden.tolerance, **dict.fromkeys(_STORED, 0.02)},
        ),
    )
    return bundles.write(bundle.path.parent / f"{bundle.path.name}-lowered", manifest, data)


_STORED = {"trt-fp16": InputStorage(dtype="float16"), "trt-int8": InputStorage(dtype="int8", scale=2.7 / 127)}


def _with_input(model: bytes, storage: InputStorage) -> bytes:
    """The graph with an input of another type."""
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    value, kind = graph.input[0], {"float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[storage.dtype]
    value.type.tensor_type.elem_type = kind
    inner = f"{value.name}_float"
    for one in graph.node:
        one.input[:] = [inner if name == value.name else name for name in one.input]
    if storage.scale is None:
        first = onnx.helper.make_node("Cast", [value.name], [inner], to=onnx.TensorProto.FLOAT)
    else:
        graph.initializer.extend(
            [onnx.numpy_helper.from_array(np.array(v, d), n) for n, v, d in _quantizer(inner, storage.scale)]
        )
        first = onnx.helper.make_node("DequantizeLinear", [value.name, *(q[0] for q in _quantizer(inner, 0))], [inner])
    graph.node.insert(0, first)
    return bytes(loaded.SerializeToString())


def _quantizer(name: str, scale: float) -> list[tuple[str, float, Any]]:
    return [(f"{name}_scale", scale, np.float32), (f"{name}_zero", 0, np.int8)]


@contextmanager
def gpu_for_runs(**options: Any) -> Iterator[FakeGpu]:
    """:func:`fake_gpu`, with children of ``memedge run`` that build with the same fake TensorRT."""
    from memedge import building, planning
    from memedge_engines.plans.machine import Machine

    with fake_gpu(devices=[desktop()], **options) as gpu:
        build = functools.partial(building.build, machine=Machine.here(gpu.trt), module="helpers_child_trt")
        with mock.patch.object(planning, "build", build):
            yield gpu


if __name__ == "__main__":  # memedge on such a machine, as a process of its own
    from memedge import cli

    with gpu_for_runs():
        cli.main(sys.argv[1:])
