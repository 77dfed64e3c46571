"""Hand-crafted features: host extractors that run beside the graphs, in NumPy.

Importing this package registers all of them; :func:`declared` says what each gives. A head belongs to one extractor:
a node that names another version than the one that is here is refused (:func:`check`).
"""

from __future__ import annotations

from . import aesthetics, colorhist, flow, hmp, hog, lbp, lowlevel
from .declared import Feature, check, declared, names

__all__ = [
    "Feature",
    "aesthetics",
    "check",
    "colorhist",
    "declared",
    "flow",
    "hmp",
    "hog",
    "lbp",
    "lowlevel",
    "names",
]
