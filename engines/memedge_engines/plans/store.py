"""Plans, their side-cars and timing caches in the user's cache folder.

``plans/<bundle>/<node>.<lowering>.<key>.plan`` with ``....engine.json`` beside it; the key stands for machine and
profile. A plan without a side-car is nobody's and counts as missing. Everything is written atomically; the plans used
longest ago are forgotten beyond 32 plans or 4 GiB. Loading a plan is running code from it: only bytes whose SHA-256 is
in a side-car written here are handed out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from .. import cache
from ..bundle import Bundle
from ..errors import PlanError, PlanMismatch, PlanMissing
from ..manifest import Node
from . import sidecar as records
from .machine import Machine
from .profile import Profile
from .sidecar import SideCar

MAX_PLANS = 32
MAX_BYTES = 4 << 30
MAX_TIMING_CACHES = 8
_LARGEST_TIMING_CACHE = 256 << 20
_DIGEST = hashlib.sha256().digest_size
# Builds wait for each other by lock files that are never deleted, so there is a fixed number of them.
_LOCKS = 16
_LOCK_STEP_S = 0.2
_ABANDONED_S = 86400.0
_BUILD = "memedge build"


@dataclass(frozen=True)
class Plan:
    """A plan that was checked against its side-car, bundle and machine. ``data``: what the library deserialises."""

    path: Path
    data: bytes
    sidecar: SideCar


def read(
    bundle: Bundle, node: Node, lowering: str, profile: Profile, machine: Machine, *, unproven: bool = False
) -> Plan:
    """The stored plan, checked in this order: hash, header, version, architecture, platform, schema, golden.

    Args:
        unproven: also take a plan that has not run its golden frames.

    Raises:
        PlanMissing: none was built for this bundle, node, lowering and profile.
        PlanMismatch: one was, but does not belong to this machine or bundle, or is damaged; ``reason`` says which.
    """
    path = plan_path(bundle, node, lowering, profile, machine)
    record = _record(path)
    if record is None:
        _explain_missing(bundle, node, lowering, profile, machine)
    data = _bytes(path)
    check(data, record, bundle, node, lowering, profile, machine, where=f"'{path}' ")
    if record.golden is None and not unproven:
        raise PlanMismatch("golden", f"'{path}' has not run its golden frames", fix=_BUILD)
    with contextlib.suppress(OSError):  # the order of forgetting; on a read-only disk nothing is forgotten
        os.utime(path)
    return Plan(path, data, record)


def check(
    data: bytes,
    record: SideCar,
    bundle: Bundle,
    node: Node,
    lowering: str,
    profile: Profile,
    machine: Machine,
    *,
    where: str = "the plan ",
) -> None:
    """Raise PlanMismatch unless these bytes are the plan of this record, made of this bundle, for this machine."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.plan_sha256:
        text = f"{where}was altered or cut short: SHA-256 {digest[:12]}, its side-car says {record.plan_sha256[:12]}"
        raise PlanMismatch("hash", text, fix=_BUILD)
    entry = node.files.get(lowering)  # type: ignore[call-overload]
    expected = entry.sha256 if entry is not None else "no such file"
    if record.source.onnx_sha256 != expected:
        text = f"{where}was made of graph {record.source.onnx_sha256[:12]}; the bundle's is {expected[:12]}"
        raise PlanMismatch("hash", text, fix=_BUILD)
    try:
        header = records.read_header(data)
    except PlanMismatch as error:
        raise PlanMismatch(error.reason, where + error.message, fix=error.fix or _BUILD) from None
    if header != record.header:
        raise PlanMismatch("header", f"{where}has another header than its side-car says", fix=_BUILD)
    found = machine.mismatch(record.machine)
    if found is not None:
        raise PlanMismatch(found[0], f"{where}was {found[1]}", fix=_BUILD)
    contracts = {item.name: item.preprocess for item in node.inputs if item.preprocess is not None}
    if record.preprocess != contracts or record.profile != profile or record.source.node != node.name:
        what = "another preprocess contract, profile or node than was asked for"
        raise PlanMismatch("schema", f"{where}was built for {what}", fix=_BUILD)


def write(bundle: Bundle, node: Node, data: bytes, sidecar: SideCar) -> Path:
    """Keep a plan and its side-car; the plans used longest ago are forgotten beyond the bounds, never this one.

    Raises:
        PlanError: the cache folder cannot be written; the fix names MEMEDGE_CACHE.
    """
    path = plan_path(bundle, node, sidecar.source.lowering, sidecar.profile, sidecar.machine)
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a side-car a plan is missing; so at no moment does an old record stand beside a new plan.
        beside.unlink(missing_ok=True)
        _replace(path, data)
        _replace(beside, records.encode(sidecar))
    except OSError as error:
        _refuse(path.parent, error)
    _prune(keep=path)
    return path


def forget(bundle: Bundle, node: Node, lowering: str, profile: Profile, machine: Machine) -> None:
    """Drop a stored plan, if there is one."""
    _drop(plan_path(bundle, node, lowering, profile, machine))


def check_writable() -> None:
    """Raise PlanError where plans cannot be kept: known before minutes of building, not after."""
    place = cache.folder() / "plans"
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=place)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        _refuse(place, error)


def timing_cache(machine: Machine) -> bytes:
    """What earlier builds on this machine measured; empty where there is none or it was altered."""
    try:
        with open(_timing_path(machine), "rb") as file:
            stored = file.read(_LARGEST_TIMING_CACHE + _DIGEST)
    except OSError:
        return b""
    data = stored[_DIGEST:]
    return data if hashlib.sha256(data).digest() == stored[:_DIGEST] else b""


def keep_timing_cache(machine: Machine, data: bytes) -> bool:
    """Keep it for the next build; false when it is empty, too large or cannot be written: a loss of time only."""
    if not data or len(data) > _LARGEST_TIMING_CACHE:
        return False
    path = _timing_path(machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Native code will parse it: its hash goes first.
        _replace(path, hashlib.sha256(data).digest() + data)
    except OSError:
        return False
    for old in [p for _, p in _by_age(path.parent, "*.timing") if p != path][MAX_TIMING_CACHES - 1 :]:
        with contextlib.suppress(OSError):
            old.unlink()
    return True


@contextmanager
def lock(bundle: Bundle, lowering: str, machine: Machine, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Held by the one process that builds a lowering of a bundle on this machine; others wait.

    The system releases it when a process dies, so no lock is ever stale. On file systems and systems without such locks
    nothing waits: two processes then build the same plan, and the later one is kept.

    Args:
        waiting: called about five times a second while another process builds; what it raises ends the wait.

    Raises:
        PlanError: the cache folder cannot be written.
    """
    name = f"{bundle.hash} {lowering} {_digest(machine.key())}"
    place = cache.folder() / "plans" / "locks"
    path = place / f"{int(hashlib.sha256(name.encode()).hexdigest(), 16) % _LOCKS}.lock"
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115 - closed below, whatever happens in between
    except OSError as error:
        _refuse(place, error)
    with file:
        while not _try_lock(file):
            if waiting is not None:
                waiting()
            time.sleep(_LOCK_STEP_S)
        yield


def plan_path(bundle: Bundle, node: Node, lowering: str, profile: Profile, machine: Machine) -> Path:
    """Where this plan is or would be."""
    key = _digest({"machine": machine.key(), "profile": msgspec.structs.asdict(profile)})
    return _folder(bundle) / f"{node.name}.{lowering}.{key}.plan"


def stored(bundle: Bundle) -> list[Path]:
    """Paths of all plans of a bundle, of whatever machine, newest first."""
    return [path for _, path in _by_age(_folder(bundle), "*.plan")]


def _explain_missing(bundle: Bundle, node: Node, lowering: str, profile: Profile, machine: Machine) -> NoReturn:
    """PlanMismatch when the newest plan for the same work was made on another machine or version, else PlanMissing."""
    for path in stored(bundle):
        if not path.name.startswith(f"{node.name}.{lowering}."):
            continue
        try:
            record = _record(path)
        except PlanMismatch:
            continue
        found = machine.mismatch(record.machine) if record is not None else None
        if record is not None and found is not None and record.profile == profile:
            raise PlanMismatch(found[0], f"'{path}' was {found[1]}", fix=_BUILD)
    text = f"no plan of node '{node.name}' ({lowering}) was built for this GPU"
    raise PlanMissing(f"{text}: {machine.gpu}, TensorRT {machine.tensorrt}", fix=_BUILD)


def _record(path: Path) -> SideCar | None:
    try:
        data = _beside(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PlanMismatch("schema", f"cannot read '{_beside(path)}': {error.strerror or error}", fix=_BUILD) from None
    try:
        return records.decode(data)
    except PlanMismatch as error:
        raise PlanMismatch(error.reason, f"'{_beside(path)}': {error.message}", fix=_BUILD) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PlanMismatch("hash", f"cannot read '{path}': {error.strerror or error}", fix=_BUILD) from None


def _folder(bundle: Bundle) -> Path:
    return cache.folder() / "plans" / bundle.hash[:32]


def _timing_path(machine: Machine) -> Path:
    return cache.folder() / "timing" / f"{_digest(machine.key())}.timing"


def _beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".plan") + records.SUFFIX)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _replace(path: Path, data: bytes) -> None:
    handle, partial = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            # A device may lose power at any time; the rename must not come before the bytes.
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _refuse(place: Path, error: OSError) -> NoReturn:
    cause = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    raise PlanError(
        f"cannot keep plans in '{place}': {error.strerror or error}",
        fix="set MEMEDGE_CACHE to a folder that can be written and has room",
        cause=cause,
    ) from None


def _prune(keep: Path) -> None:
    """Forget the plans used longest ago beyond the bounds."""
    total = 0
    for _, partial in _by_age(keep.parent.parent, "**/.*.tmp"):
        with contextlib.suppress(OSError):  # of a process that was killed while it wrote
            if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                partial.unlink()
    found = _by_age(keep.parent.parent, "*/*.plan")
    for count, (size, path) in enumerate(sorted(found, key=lambda entry: entry[1] != keep), 1):
        total += size
        if path != keep and (count > MAX_PLANS or total > MAX_BYTES):
            _drop(path)
            total -= size


def _drop(path: Path) -> None:
    for each in (_beside(path), path):
        with contextlib.suppress(OSError):
            each.unlink()
    with contextlib.suppress(OSError):  # the folder of a bundle without plans
        path.parent.rmdir()


def _by_age(place: Path, pattern: str) -> list[tuple[int, Path]]:
    """(bytes, path), newest first; what vanishes meanwhile is left out."""
    dated = []
    with contextlib.suppress(OSError):
        for path in place.glob(pattern):
            with contextlib.suppress(OSError):
                told = path.stat()
                dated.append((told.st_mtime_ns, told.st_size, path))
    return [(size, path) for _, size, path in sorted(dated, reverse=True)]


def _try_lock(file: IO[bytes]) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Anything but "somebody holds it" means that this file system has no locks.
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
    return True
