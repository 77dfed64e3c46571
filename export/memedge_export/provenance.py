"""When and with what a bundle was made."""

from __future__ import annotations

import datetime
import importlib.metadata
import os

import torch

from .onnx_form import OPSET


def now() -> str:
    """UTC time to the second; SOURCE_DATE_EPOCH, where set, makes an export reproducible to the byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        if epoch and epoch.isdigit()
        else datetime.datetime.now(datetime.timezone.utc)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def tools() -> dict[str, str]:
    """Versions of what makes graphs."""
    found = {"torch": str(torch.__version__), "opset": str(OPSET)}
    for package in ("memedge", "onnx", "onnxscript", "onnxruntime"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
