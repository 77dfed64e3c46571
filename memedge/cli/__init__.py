"""The command line: ``memedge run``, ``bench``, ``doctor``, ``models``, ``info``, ``verify`` and whatever is plugged
in.

Commands of other packages (``train``, ``eval``, ``export``, ``data``) are found through the entry-point group
``memedge.commands``; where their libraries are missing, they say what to install.
"""

from __future__ import annotations

from .app import main

__all__ = ["main"]
