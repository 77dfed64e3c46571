"""Opening bundles: the one that ships, or one by path."""

from __future__ import annotations

import os
from pathlib import Path

from memedge_engines.bundle import Bundle

from .errors import BundleError
from .scorer import Scorer

DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "default"


def open_bundle(bundle: str | os.PathLike[str] | None = None) -> Bundle:
    """The bundle in a folder, or the default bundle that ships with memedge.

    Raises:
        BundleError: there is no bundle at that path.
    """
    if bundle is None and not DEFAULT_BUNDLE.is_dir():
        raise BundleError("this installation has no default bundle", fix="pip install --force-reinstall memedge")
    return Bundle.open(DEFAULT_BUNDLE if bundle is None else bundle)


def load(
    bundle: str | os.PathLike[str] | None = None, engine: str = "auto", precision: str = "auto", max_batch: int = 1
) -> Scorer:
    """Open a bundle on an engine.

    Args:
        bundle: its folder; none takes the default bundle that ships with memedge.
        engine: a back end's name (``memedge doctor`` lists them), or ``auto``: the remembered or first usable one.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``. ``auto`` takes int8 where its lowering passed the fidelity
            gate and the engine runs it, else fp16 on a GPU and fp32 on a CPU.
        max_batch: pictures that one inference may take together.

    Raises:
        BundleError: no bundle, or a damaged one.
        EngineError: an engine or precision that does not exist, or cannot be used here.
    """
    return Scorer(open_bundle(bundle), engine, precision, max_batch)
