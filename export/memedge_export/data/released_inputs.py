"""Released features of VideoMem as caller inputs of a system, found from a record's video.

A system that is trained on the files of MediaEval 2018 takes each feature from the caller, under the feature's name
(:func:`memedge_export.models.feature_inputs.released`). They lie beside the videos: ``dev-set/sources/video7.webm`` has
``dev-set/features/HMP/video7.txt``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..models.feature_inputs import RELEASED
from ..models.system import System
from .videomem_features import FRAMES, read_feature


def released_inputs(system: System, video: Path) -> dict[str, NDArray[np.float32]]:
    """Caller inputs of a system for one video: input name to float32 ``[D]``, of key frames ``[3, D]``; empty for a
    system that takes none from files.

    Colour histograms are counts in the files; they are divided by the number of pixels, as the live ones are.

    Raises:
        DataError: a file is missing or has another form, or the video does not lie in a folder ``sources``.
    """
    wanted = [name.removeprefix(RELEASED) for name in system.extractors if name.startswith(RELEASED)]
    shapes = _shapes(system)
    return {name: _read(video, name, len(shapes[name]) == 2) for name in wanted}


def _shapes(system: System) -> Mapping[str, tuple[int, ...]]:
    return {i.name: i.shape for node in system.nodes for i in node.inputs if i.source == "caller" and i.shape}


def _read(video: Path, feature: str, key_frames: bool) -> NDArray[np.float32]:
    part = video.parent.parent
    if video.parent.name.lower() != "sources":
        raise DataError(f"'{video}' does not lie in a folder 'sources', beside which the features are expected")
    name = part.name.lower() if part.name.lower() in ("dev-set", "test-set") else "dev-set"
    root = part.parent if part.name.lower() in ("dev-set", "test-set") else part
    if not key_frames:
        return read_feature(root, feature, video.name, name)
    rows = [read_feature(root, feature, video.name, name, frame) for frame in FRAMES]
    if feature == "ColorHistogram":
        rows = [(row / max(1.0, float(row[0].sum()))).reshape(-1) for row in rows]
    return np.stack(rows).astype(np.float32)
