"""Plans, their side-cars and timing caches in the user's cache folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle
from ..manifest import Node
from .machine import Machine
from .profile import Profile
from .sidecar import SideCar


@dataclass(frozen=True)
class Plan:
    """A plan that was checked against its side-car, bundle and machine. ``data``: what the library deserialises."""

    path: Path
    data: bytes
    sidecar: SideCar


def read(
    bundle: Bundle, node: Node, lowering: str, profile: Profile, machine: Machine, *, unproven: bool = False
) -> Plan:
    """The stored plan, checked in this order: hash, header, version, architecture, platform, schema.

    Args:
        unproven: also take a plan that has not run its golden frames.

    Raises:
        PlanMissing: none was built for this bundle, node, lowering and profile.
        PlanMismatch: one was, but does not belong to this machine or bundle, or is damaged; ``reason`` says which.
    """
    raise NotImplementedError


def write(bundle: Bundle, node: Node, data: bytes, sidecar: SideCar) -> Path:
    """Keep a plan and its side-car; the oldest plans beyond the bounds are forgotten, never this one.

    Raises:
        PlanError: the cache folder cannot be written; the fix names MEMEDGE_CACHE.
    """
    raise NotImplementedError


def timing_cache(machine: Machine) -> bytes:
    """What earlier builds on this machine measured, or empty."""
    raise NotImplementedError


def keep_timing_cache(machine: Machine, data: bytes) -> bool:
    """Keep it for the next build; false when it cannot be written."""
    raise NotImplementedError


def lock(bundle: Bundle, node: Node, lowering: str, profile: Profile, machine: Machine) -> AbstractContextManager[None]:
    """Held by the one process that builds this plan; others wait."""
    raise NotImplementedError
