"""A TensorRT without a GPU, made from the recorded names of a version: for call order, refusals and asynchrony.

    trt = fake_tensorrt("10.3", driver=FakeDriver(...))

The result stands where ``import tensorrt as trt`` stands. It has the names, parameters and writable properties of that
version and no other; enumeration members have numbers of no version, so that no literal fits. Where TensorRT
returns None, False or -1, so does this, with the library's words in the log; what TensorRT leaves undefined (a parser
whose network is gone, an unaligned address, a second thread in one context) raises :class:`Misuse`. A plan holds the
ONNX graph, which ONNX Runtime runs on the CPU as it is written, in the fake driver's stream and memory, when the stream
comes to it. ``trt.fake`` is the test's own side: :class:`~.state.Fake`.
"""

from __future__ import annotations

from .module import VERSIONS, FakeModule, fake_tensorrt
from .state import Fake, Faults, Misuse

__all__ = ["VERSIONS", "Fake", "FakeModule", "Faults", "Misuse", "fake_tensorrt"]
