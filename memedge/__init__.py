"""memedge: scores how memorable what a camera sees is, on the device.

    import memedge

    with memedge.load() as scorer:                    # the default bundle
        print(scorer.score("photo.jpg").value)
    with memedge.stream("camera0") as readings:
        for reading in readings:
            print(reading.time_s, reading.rolling)

Everything is imported on first use: ``import memedge`` loads no engine, no decoder and no window library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import MemedgeError
    from .loading import load
    from .reading import Reading
    from .scorer import Score, Scorer
    from .streaming import stream

__version__ = "0.1.0"
__all__ = ["MemedgeError", "Reading", "Score", "Scorer", "__version__", "load", "stream"]

_HOMES = {
    "MemedgeError": "errors",
    "Reading": "reading",
    "Score": "scorer",
    "Scorer": "scorer",
    "load": "loading",
    "stream": "streaming",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'memedge' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
