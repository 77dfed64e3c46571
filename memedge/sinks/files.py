"""Output files that survive: every record is handed to the kernel whole, at once, and synced to disk once a second.

After a kill nothing that was written is lost; after a power cut about the last second is. A record that does not fit on
the disk is cut off again, so that what stays is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from pathlib import Path
from types import TracebackType

from ..errors import SinkError

SYNC_S = 1.0


def sink_error(what: str, error: OSError) -> SinkError:
    """The SinkError of an operating system's error, with what would mend it."""
    fixes = {
        errno.ENOSPC: "free some space, or write elsewhere",
        errno.EDQUOT: "free some space, or write elsewhere",
        errno.EFBIG: "use a file system or limit that allows larger files, or --rotate-mb",
        errno.EACCES: "choose a folder that you may write to",
        errno.EPERM: "choose a folder that you may write to",
        errno.EROFS: "choose a disk that is not read-only",
        errno.ENOENT: "create the folder first",
        errno.ENOTDIR: "choose a folder",
        errno.EISDIR: "name a file, not a folder",
    }
    reason = error.strerror or str(error)
    if error.errno == errno.EPIPE:
        reason = "whoever read it has closed the pipe"
    return SinkError(f"cannot write {what}: {reason}", fix=fixes.get(error.errno or 0))


class OutputFile:
    """A file, pipe or ``-`` (stdout) that takes whole records.

    Args:
        path: where to write; an existing file is replaced, ``-`` is the standard output.

    Attributes:
        size: bytes written.
        regular: whether it is an ordinary file, not a pipe or device.
        error: what ended the writing, or none; further writes raise it again.

    Raises:
        SinkError: it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.label = "standard output" if self.path == "-" else f"'{self.path}'"
        self._fd = -1
        self._owned = self.path != "-"
        self._stream = None
        if self._owned:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o666)
            except OSError as error:
                raise sink_error(self.label, error) from None
        else:
            # A captured stdout has no descriptor: write to its byte stream.
            sys.stdout.flush()
            try:
                self._fd = sys.stdout.fileno()
            except (OSError, ValueError):
                self._stream = sys.stdout.buffer
        self.regular = self._owned and stat.S_ISREG(os.fstat(self._fd).st_mode)
        self.size = 0
        self.error: SinkError | None = None
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._syncer: threading.Thread | None = None

    def write(self, record: bytes) -> int:
        """Write a whole record; the number of its bytes.

        Raises:
            SinkError: disk full, pipe closed; the part of the record that fitted is removed from a regular file.
        """
        if self.error is not None:
            raise self.error
        if self._fd < 0 and self._stream is None:
            raise SinkError(f"cannot write {self.label}: it is closed")
        try:
            if self._stream is not None:
                self._stream.write(record)
                self._stream.flush()
            else:
                left = memoryview(record)
                while left:
                    left = left[os.write(self._fd, left) :]
        except OSError as error:
            self.error = sink_error(self.label, error)
            if self.regular:
                self._cut()
            raise self.error from None
        self.size += len(record)
        if self.regular:
            self._dirty.set()
            if self._syncer is None:
                self._syncer = threading.Thread(target=self._sync, name="memedge-sync", daemon=True)
                self._syncer.start()
        return len(record)

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self.size)

    def _sync(self) -> None:
        while not self._closing.wait(SYNC_S):
            if self._dirty.is_set():
                self._dirty.clear()
                _to_disk(self._fd)

    def close(self) -> None:
        """Sync and close; safe to call twice and after an error. The standard output stays open."""
        self._closing.set()
        if self._syncer is not None:
            self._syncer.join()
            self._syncer = None
        fd, self._fd = self._fd, -1
        self._stream = None
        if fd >= 0 and self._owned:
            if self.regular:
                _to_disk(fd)
            os.close(fd)

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _to_disk(fd: int) -> None:
    with contextlib.suppress(OSError):  # what can be told about the disk, the next write tells
        getattr(os, "fdatasync", os.fsync)(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Write ``path`` so that a reader sees the old or the new file, never half of one.

    Raises:
        SinkError: it cannot be written; the old file stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            _to_disk(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise sink_error(f"'{path}'", error) from None
