"""What a data set says to a system beside its pictures: titles as word vectors, released features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memedge.errors import UsageError
from memedge.titles import title_shape, tokenise

from ..data.records import Record
from ..data.released_inputs import released_inputs
from ..errors import DataError
from ..models.system import System
from ..word_vectors import read_words
from .system_feed import CallerOf

_LABELS = ("title", "caption")


def title_of(record: Record) -> str | None:
    """A record's title, or its first caption, where that has a word."""
    text = next((record.labels[name][0] for name in _LABELS if record.labels.get(name)), None)
    return text if text is not None and tokenise(text) else None


def caller_of(network: System, words: Path | None = None) -> CallerOf:
    """Values of a system's caller inputs for a record. A record without a title (:func:`title_of`), and a system
    without ``words``, keep the inputs' defaults.

    Args:
        words: word vectors, in one of the forms of :mod:`memedge_export.word_vectors`.

    Raises:
        UsageError: ``words`` for a system that takes no title.
        DataError: they cannot be read, or have another length than the system takes.
    """
    shape = title_shape(network.dataflow)
    if words is not None and shape is None:
        raise UsageError(f"--words {words}: the system takes no title", fix="--model ic-image-text")
    vocabulary = None if words is None else read_words(words)
    if vocabulary is not None and shape is not None and vocabulary.vectors.shape[1] != shape[1]:
        raise DataError(f"'{words}' has vectors of {vocabulary.vectors.shape[1]} numbers; the system takes {shape[1]}")

    def found(record: Record) -> Mapping[str, NDArray[np.float32]]:
        values = dict(released_inputs(network, record.path))
        text = title_of(record)
        if vocabulary is not None and shape is not None and text is not None:
            values.update(vocabulary.encode(tokenise(text), shape[0]))
        return values

    return found
