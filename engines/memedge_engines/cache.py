"""What memedge remembers of this device between runs: engine choices, keyed by bundle, device and library versions.

One small JSON file each, written atomically. Nothing here is ever fatal: a cache that is corrupt, read-only or absent
costs a measurement, and :func:`status` says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_ENTRIES = 256
_LARGEST = 64 << 10
_problem = ""


def folder() -> Path:
    """The user's cache folder: ``MEMEDGE_CACHE``, else ``XDG_CACHE_HOME/memedge``, else the platform's. Not created."""
    own = os.environ.get("MEMEDGE_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "memedge"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "memedge" / "cache"
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home directory
        return Path(tempfile.gettempdir()) / "memedge-cache"
    return home / "Library" / "Caches" / "memedge" if sys.platform == "darwin" else home / ".cache" / "memedge"


def load(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The value remembered for ``key``, or none. ``kind`` is a plain word that names the sub-folder."""
    entry = _decode(_path(kind, key))
    return entry["value"] if entry is not None and entry["key"] == dict(key) else None


def store(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Remember ``value`` for ``key``; the oldest entries beyond 256 are forgotten. False when it cannot be written."""
    global _problem
    path = _path(kind, key)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"key": dict(key), "value": dict(value)}, file)
        os.replace(partial, path)
        _prune(path.parent)
    except OSError as error:
        _problem = f"cannot write to '{path.parent}': {error.strerror or error}"
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        return False
    _problem = ""
    return True


def entries(kind: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every (key, value) of a kind that can be read, newest first."""
    found = [_decode(path) for path in _files(folder() / kind)]
    return [(entry["key"], entry["value"]) for entry in found if entry is not None]


def forget(kind: str, key: Mapping[str, Any]) -> None:
    """Drop the value of ``key``, if there is one."""
    with contextlib.suppress(OSError):
        _path(kind, key).unlink()


def status() -> str:
    """What is wrong with the cache, or empty. Looks whether the folder could be written without writing to it."""
    place = folder()
    if _problem:
        return _problem
    nearest = place
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"'{nearest}' is not a folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"'{nearest}' is read-only; nothing will be remembered"


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    text = json.dumps(dict(key), sort_keys=True)
    return folder() / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _decode(path: Path) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    right = isinstance(data, dict) and isinstance(data.get("key"), dict) and isinstance(data.get("value"), dict)
    return data if right else None


def _files(place: Path) -> list[Path]:
    """JSON files of a sub-folder, newest first; files that vanish meanwhile are left out."""
    dated = []
    with contextlib.suppress(OSError):
        for path in place.glob("*.json"):
            with contextlib.suppress(OSError):
                dated.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _prune(place: Path) -> None:
    for path in _files(place)[MAX_ENTRIES:]:
        with contextlib.suppress(OSError):
            path.unlink()
