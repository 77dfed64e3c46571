"""The preprocess contract: its geometry, its float reference and the CPU's fast paths, compiled and without a compiler.

A frame of any host format becomes an upright uint8 picture (``Preprocessor.picture``), and pictures become the tensor
of a node (``to_tensor``). ``reference_*`` do the same in float: every fast path stays within one level of them.
"""

from __future__ import annotations

from .chosen import Preprocessor, preprocessing, to_rgb
from .geometry import Geometry, geometry
from .reference import reference_picture, reference_rgb, reference_tensor
from .tensor import to_tensor

__all__ = [
    "Geometry",
    "Preprocessor",
    "geometry",
    "preprocessing",
    "reference_picture",
    "reference_rgb",
    "reference_tensor",
    "to_rgb",
    "to_tensor",
]
