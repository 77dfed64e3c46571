"""One worker for each device of this process: engines and executors that use a device hold the same one."""

from __future__ import annotations

import threading

from . import opening
from .worker import Worker

_lock = threading.Lock()
_held: dict[int, tuple[Worker, int]] = {}


def hold(device: int = 0) -> Worker:
    """The device's worker, started for its first holder; each holder calls :func:`let_go` once.

    Raises:
        DriverMissing, DriverTooOld, NoDevice, CudaError: as of :func:`.opening.open_driver`.
    """
    with _lock:
        worker, holders = _held.get(device) or (Worker(lambda: opening.open_driver(device)), 0)
        _held[device] = (worker, holders + 1)
        return worker


def let_go(worker: Worker) -> None:
    """Give a worker back; the last holder's call ends it. What the holder made there must be gone."""
    with _lock:
        found = [device for device, (held, _) in _held.items() if held is worker]
        for device in found:
            holders = _held[device][1] - 1
            if holders:
                _held[device] = (worker, holders)
                continue
            del _held[device]
            # Under the lock: a new holder's driver is opened after this one's context was given back.
            worker.close()
