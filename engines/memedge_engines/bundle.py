"""A bundle on disk: open and verify one, write one atomically.

A folder with ``manifest.json`` and the files it names; copyable to any device, immutable once written. Opening reads
the
manifest only; a file's hash is checked when the file is first read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from . import manifest as _manifest
from .errors import BundleError
from .manifest import FileEntry, Manifest

MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 16 << 20


class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder.
        manifest: the decoded manifest.
        hash: SHA-256 of the manifest's bytes, 64 hex digits; since the manifest holds all other hashes, it names the
        bundle.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.hash = digest
        self._checked: dict[str, tuple[int, int]] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open the bundle in folder ``path``.

        Raises:
            BundleError: no such folder, no manifest, a manifest that does not decode, or a file that is missing.
        """
        folder = Path(path)
        if folder.is_file() and folder.name == MANIFEST:
            folder = folder.parent
        if not folder.is_dir():
            raise BundleError(
                f"no bundle at '{folder}': there is no such folder", fix="memedge export --model resnet18 --out DIR"
            )
        data = _read_manifest(folder / MANIFEST)
        bundle = cls(folder, _manifest.decode(data), hashlib.sha256(data).hexdigest())
        for entry in bundle.entries():
            if not (folder / entry.file).is_file():
                raise BundleError(
                    f"bundle '{folder}' lacks '{entry.file}', which its manifest names",
                    fix="copy the whole folder again",
                )
        return bundle

    def entries(self) -> list[FileEntry]:
        """Every file that the manifest names."""
        manifest = self.manifest
        listed = [entry for node in manifest.nodes for entry in node.files.values()]
        return [*listed, manifest.golden.file, *manifest.files.values()]

    def read(self, entry: FileEntry) -> bytes:
        """The bytes of one file, checked against its hash (once per file, size and time of change).

        Raises:
            BundleError: the file is missing, unreadable or is not what was written.
        """
        path = self.path / entry.file
        try:
            status = path.stat()
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read '{path}': {error.strerror or error}") from None
        stamp = (len(data), status.st_mtime_ns)
        if self._checked.get(entry.file) != stamp:
            found = hashlib.sha256(data).hexdigest()
            if found != entry.sha256:
                raise BundleError(
                    f"'{path}' was altered or cut short: SHA-256 {found[:12]}, manifest {entry.sha256[:12]}",
                    fix="copy the bundle again or export it again",
                )
            self._checked[entry.file] = stamp
        return data

    def verify_files(self, progress: Callable[[str], None] | None = None) -> None:
        """Check every file's hash; BundleError names the first that differs."""
        for entry in self.entries():
            if progress is not None:
                progress(entry.file)
            self.read(entry)

    def lowerings(self) -> tuple[str, ...]:
        """The lowerings that a graph node has, ``fp32`` first; where one of several nodes lacks it, see
        :func:`.manifest.lowering_of`."""
        found = {"fp32"}.union(*(node.files for node in self.manifest.nodes if node.kind == "graph"))
        return tuple(name for name in _manifest.LOWERINGS if name in found)

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {self.manifest.name}, {self.hash[:12]})"


def _read_manifest(path: Path) -> bytes:
    if not path.is_file():
        raise BundleError(f"'{path.parent}' has no {MANIFEST}; a bundle is a folder written by memedge export")
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise BundleError(f"'{path}' has {path.stat().st_size} bytes; a manifest has at most {_LARGEST_MANIFEST}")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read '{path}': {error.strerror or error}") from None


def file_entry(name: str, data: bytes, **fields: object) -> FileEntry:
    """The manifest's entry for a file of these bytes."""
    return FileEntry(file=name, sha256=hashlib.sha256(data).hexdigest(), **fields)  # type: ignore[arg-type]


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes], *, force: bool = False) -> Bundle:
    """Write a bundle so that ``path`` is either complete or not there.

    Args:
        files: every file the manifest names, by plain name.
        force: replace a bundle that is there already.

    Raises:
        BundleError: ``path`` exists and ``force`` is not set, holds something that is not a bundle, or cannot be
        written;
            or ``files`` and the manifest differ.
    """
    data = _manifest.encode(manifest)
    _manifest.decode(data)
    named = {entry.file: entry.sha256 for entry in Bundle(path, manifest, "").entries()}
    if set(named) != set(files):
        raise BundleError(f"manifest names {sorted(named)}, files given are {sorted(files)}")
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != named[name]:
            raise BundleError(f"hash of '{name}' in the manifest is not that of the bytes given")
    check_destination(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise BundleError(f"cannot write '{path}': {error.strerror or error}") from None
    try:
        for name, content in [*files.items(), (MANIFEST, data)]:
            (partial / name).write_bytes(content)
        partial.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.replace(path, old / "bundle")
            os.replace(partial, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, path)
    except OSError as error:
        raise BundleError(f"cannot write '{path}': {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
    return Bundle.open(path)


def check_destination(path: Path, *, force: bool) -> None:
    """Raise BundleError when a bundle may not be written to ``path``; callable before hours of work."""
    if not path.exists():
        return
    if not path.is_dir() or (any(path.iterdir()) and not (path / MANIFEST).is_file()):
        raise BundleError(f"'{path}' exists and is not a bundle; it is left as it is", fix="choose another --out")
    if not force:
        raise BundleError(f"'{path}' exists already", fix="add --force to replace it, or choose another --out")
