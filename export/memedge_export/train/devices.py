"""Where a training runs, through Lightning Fabric: on one device, or in one process for each of several."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import TrainingError

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Devices:
    """``kind``: ``auto`` (GPUs where there are some), ``cpu`` or ``gpu``. ``count``: devices, or processes on a CPU.
    ``threads``: of each process; 0: as the libraries choose."""

    kind: str = "auto"
    count: int = 1
    threads: int = 0


def open_fabric(devices: Devices, precision: str, *, partial: bool = False) -> Any:
    """A launched Fabric: with several devices, one process for each.

    Args:
        partial: a step may leave parameters that are trained without a gradient, as outputs of a system that its
            targets do not hang on do.

    Raises:
        TrainingError: no such device, or a precision that it lacks.
    """
    kind = _kind(devices)
    if kind == "cpu" and precision == "fp16":
        raise TrainingError("fp16 autocast needs a GPU; a CPU takes bf16 or fp32", fix="--set precision=bf16")
    from lightning_fabric import Fabric

    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about devices that were not asked for
        fabric = Fabric(
            accelerator="cuda" if kind == "gpu" else "cpu",
            devices=devices.count,
            strategy=("ddp_find_unused_parameters_true" if partial else "ddp") if devices.count > 1 else "auto",
            precision=_PRECISION[precision],  # type: ignore[arg-type]
        )
        fabric.launch()
    if devices.threads:  # the launcher sets a number of its own
        torch.set_num_threads(devices.threads)
    return fabric


def torch_device(kind: str) -> torch.device:
    """The one device of a work that needs no more. Raises TrainingError: there is none of that kind."""
    return torch.device("cuda" if _kind(Devices(kind)) == "gpu" else "cpu")


def _kind(devices: Devices) -> str:
    """``gpu`` or ``cpu``. Raises TrainingError: fewer are there than were asked for."""
    if devices.kind not in ("auto", "cpu", "gpu") or devices.count < 1:
        raise TrainingError(f"devices {devices.kind} x {devices.count}; expected auto, cpu or gpu, and at least 1")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = ("gpu" if there else "cpu") if devices.kind == "auto" else devices.kind
    if kind == "gpu" and devices.count > there:
        raise TrainingError(f"{devices.count} GPUs were asked for; torch {torch.__version__} sees {there}")
    return kind
