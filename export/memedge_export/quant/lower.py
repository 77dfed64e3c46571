"""From a float graph and its range table to the graphs that back ends run: ``cpu``, ``trt-int8`` and ``trt-fp16``."""

from __future__ import annotations

from .graph import Layer, layers
from .lower_cpu import lower_cpu
from .lower_kernels import integer_convs
from .lower_trt import lower_trt_fp16, lower_trt_int8
from .lower_types import Lowered

__all__ = ["Layer", "Lowered", "integer_convs", "layers", "lower_cpu", "lower_trt_fp16", "lower_trt_int8"]
