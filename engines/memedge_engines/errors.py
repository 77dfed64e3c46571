"""The tree of errors of the engines package; memedge's and memedge_export's own errors derive from the same root.

A message says what was found, what was expected and, where there is one, the command that fixes it.
"""

from __future__ import annotations


class MemedgeError(Exception):
    """Root of every error that memedge raises on purpose; the command line prints it as one line and exits with 1.

    Args:
        message: what was found and what was expected.
        fix: a command or an action that mends it, or none.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message if fix is None else f"{message} (fix: {fix})")
        self.message = message
        self.fix = fix


class BundleError(MemedgeError):
    """A bundle is missing, incomplete, altered, of a newer schema or contradicts itself."""


class FrameError(MemedgeError):
    """A frame whose planes, size, format or lifetime are not what was declared."""


class PreprocessError(MemedgeError):
    """A preprocess contract that cannot be carried out on this frame."""


class EngineError(MemedgeError):
    """An engine got inputs of another shape or dtype than it declares, or failed while running."""


class UnknownName(EngineError):
    """An engine or a precision that does not exist; on the command line, bad usage."""


class BackendUnavailable(EngineError):
    """A back end cannot be used on this machine.

    Attributes:
        reason: why, in one sentence.
        fix: the command or action that would make it usable, or none.
    """

    def __init__(self, reason: str, *, fix: str | None = None) -> None:
        super().__init__(reason, fix=fix)
        self.reason = reason


class ExecutorError(MemedgeError):
    """An executor was used out of order: unknown stream, closed executor, state of another bundle."""


class CudaError(EngineError):
    """A CUDA driver call failed.

    Attributes:
        call: the driver's name of the call, or empty.
        code: the driver's number of the error, or none.
    """

    def __init__(self, message: str, *, call: str = "", code: int | None = None, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.call = call
        self.code = code


class DriverMissing(CudaError):
    """No NVIDIA driver, or no package that speaks to it."""


class DriverTooOld(CudaError):
    """The driver is older than what was asked of it."""


class NoDevice(CudaError):
    """A driver, but no device that this process may use."""


class DeviceOutOfMemory(CudaError):
    """Device or page-locked memory ran out."""


class CudaUnsupported(CudaError):
    """This provider, driver or device lacks the call."""


class PlanError(EngineError):
    """A TensorRT plan cannot be built, or the library refuses it.

    Attributes:
        log: what the library said, bounded.
        cause: ``memory``, ``disk``, ``typing``, ``unsupported`` ...: a code of :mod:`memedge_engines.plans.classify`;
            ``killed``, ``crash`` and ``hang`` of a child process; or empty.
    """

    def __init__(self, message: str, *, log: tuple[str, ...] = (), fix: str | None = None, cause: str = "") -> None:
        super().__init__(message, fix=fix)
        self.log = log
        self.cause = cause


class PlanMissing(PlanError):
    """No plan was built yet for this bundle, lowering and profile; building one mends it."""


class PlanMismatch(PlanError):
    """A plan that exists does not belong to this machine or bundle; rebuilding mends it.

    Attributes:
        reason: ``hash``, ``header``, ``version``, ``architecture``, ``platform``, ``schema``, ``golden``.
    """

    def __init__(self, reason: str, message: str, *, log: tuple[str, ...] = (), fix: str | None = None) -> None:
        super().__init__(message, log=log, fix=fix)
        self.reason = reason


class BuildCancelled(PlanError):
    """A plan's build was cancelled before it was done."""
