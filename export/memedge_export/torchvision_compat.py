"""Import torchvision beside a CPU build of torch.

A torchvision wheel that was built for another torch cannot load its compiled operators, and importing it then fails
while registering the fake kernel of ``torchvision::nms`` (some versions: ``qnms``), an operator that nobody defined.
Defining the two schemas first lets the import through; the operators themselves stay unusable, and nothing here calls
them. torchvision is wanted for one thing only: ``--weights imagenet``, its own download of its own weights.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType

from .errors import WeightsError

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# A Library's definitions live as long as the object does.
_library: object | None = None


def define_operators() -> None:
    """Define the schemas ``torchvision::nms`` and ``torchvision::qnms`` where nobody has; safe to call twice."""
    global _library
    import torch

    missing = [schema for name, schema in _SCHEMAS.items() if not _defined(torch, name)]
    if not missing:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in missing:
        library.define(schema)
    _library = (_library, library)


def _defined(torch: ModuleType, name: str) -> bool:
    try:
        getattr(torch.ops.torchvision, name)
    except (AttributeError, RuntimeError):
        return False
    return True


def import_torchvision() -> ModuleType:
    """The torchvision package.

    Raises:
        WeightsError: it is not installed, or does not fit the torch that is.
    """
    if importlib.util.find_spec("torchvision") is None:
        raise WeightsError(
            "'imagenet' weights are torchvision's own download, and torchvision is not installed",
            fix="pip install torchvision, or pass --weights FILE with a state dict you have",
        )
    try:
        import torchvision
    except RuntimeError:
        # Its compiled operators did not load. Only then are the schemas ours to define: an intact torchvision defines
        # them itself and would meet ours twice.
        define_operators()
        for name in [m for m in _loaded() if m == "torchvision" or m.startswith("torchvision.")]:
            _forget(name)
        try:
            import torchvision
        except (ImportError, RuntimeError, OSError) as error:
            raise _unfit(error) from None
    except (ImportError, OSError) as error:
        raise _unfit(error) from None
    return torchvision


def _loaded() -> list[str]:
    import sys

    return list(sys.modules)


def _forget(name: str) -> None:
    import sys

    sys.modules.pop(name, None)


def _unfit(error: BaseException) -> WeightsError:
    return WeightsError(
        f"torchvision is installed but does not fit this torch: {error}",
        fix="install the torchvision of the same release as torch, or pass --weights FILE",
    )
