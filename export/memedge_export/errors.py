"""Errors of the export package, on the root that all three packages share."""

from __future__ import annotations

from memedge_engines.errors import MemedgeError


class ExportError(MemedgeError):
    """A network cannot be turned into a bundle, or its graph does not give the network's scores."""


class WeightsError(MemedgeError):
    """A weights file is missing, of an unsafe or unknown kind, or does not fit the model."""


class DataError(MemedgeError):
    """A data set is missing, incomplete or says something that cannot be."""


class TrainingError(MemedgeError):
    """Training cannot start or go on: another run lies there, a loss that is not finite, nothing to validate on."""
