"""How a plan is built: batch range, workspace and optimisation level."""

from __future__ import annotations

import msgspec

from ..errors import PlanError

HIGHEST_LEVEL = 5
# The pool is shared with the CPU on a Jetson, so the library's default (all memory) is too much there.
INTEGRATED_WORKSPACE_MIB = 1024
_LARGEST_BATCH = 1024


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Batch range and effort of a build; part of a plan's key.

    Attributes:
        max_batch: frames that one inference may take together; the least is always 1.
        opt_batch: the batch that kernels are chosen for.
        workspace_mib: scratch memory that kernels may use, in MiB; none: 1 GiB on integrated GPUs, else the library's
            default.
        level: 0 (fast build) to 5 (fast plan); TensorRT's default is 3.

    Raises:
        PlanError: values that contradict each other or are out of range.
    """

    max_batch: int = 1
    opt_batch: int = 1
    workspace_mib: int | None = None
    level: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.opt_batch <= self.max_batch <= _LARGEST_BATCH:
            raise PlanError(
                f"batch {self.opt_batch} of at most {self.max_batch}; expected 1 <= opt <= max <= {_LARGEST_BATCH}"
            )
        if not 0 <= self.level <= HIGHEST_LEVEL:
            raise PlanError(f"level {self.level}; expected 0 to {HIGHEST_LEVEL}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise PlanError(f"workspace {self.workspace_mib} MiB; expected at least 1")

    def workspace_bytes(self, *, integrated: bool) -> int | None:
        """Limit of the workspace pool in bytes on such a GPU, or none for the library's default."""
        if self.workspace_mib is None:
            return INTEGRATED_WORKSPACE_MIB << 20 if integrated else None
        return self.workspace_mib << 20
