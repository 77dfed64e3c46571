"""Which stored plan serves a wish: any that fits this machine and takes the batch, the one built last first."""

from __future__ import annotations

import contextlib
import os

from ..bundle import Bundle
from ..errors import PlanMismatch, PlanMissing
from ..manifest import PRECISION_OF, Node
from . import sidecar, store
from .machine import Machine
from .profile import Profile
from .store import Plan


def find(bundle: Bundle, node: Node, lowering: str, max_batch: int, machine: Machine) -> Plan:
    """The stored, proven plan of a node for batches of up to ``max_batch`` frames.

    How much effort its build took is not asked for: whoever built it last wanted it so.

    Raises:
        PlanMissing: none was built; the fix is the command that builds it.
        PlanMismatch: what there is belongs to another machine, version or bundle, or is damaged.
    """
    try:
        return _find(bundle, node, lowering, max_batch, machine)
    except PlanMissing as error:
        raise PlanMissing(error.message, log=error.log, fix=build_command(bundle, lowering, max_batch)) from None
    except PlanMismatch as error:
        fix = build_command(bundle, lowering, max_batch)
        raise PlanMismatch(error.reason, error.message, log=error.log, fix=fix) from None


def build_command(bundle: Bundle, lowering: str, max_batch: int) -> str:
    """What a person types to get the plans."""
    batch = f" --batch {max_batch}" if max_batch > 1 else ""
    return f"memedge build '{os.fspath(bundle.path)}' --precision {PRECISION_OF[lowering]}{batch}"


def _find(bundle: Bundle, node: Node, lowering: str, max_batch: int, machine: Machine) -> Plan:
    wanted = Profile(max_batch=max_batch, opt_batch=max_batch)
    problem: PlanMismatch | None = None
    for path in store.stored(bundle):
        if not path.name.startswith(f"{node.name}.{lowering}."):
            continue
        # Unreadable records and other machines' plans: whether there is a better one is seen first, why not last.
        with contextlib.suppress(OSError, PlanMismatch):
            record = sidecar.decode(path.with_name(path.name.removesuffix(".plan") + sidecar.SUFFIX).read_bytes())
            if record.profile.max_batch < max_batch or machine.mismatch(record.machine) is not None:
                continue
            try:
                return store.read(bundle, node, lowering, record.profile, machine)
            except PlanMismatch as error:
                problem = problem or error
            except PlanMissing:  # forgotten by another process meanwhile
                continue
    if problem is not None:
        raise problem
    return store.read(bundle, node, lowering, wanted, machine)
