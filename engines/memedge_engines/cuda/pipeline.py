"""The device side of an executor: what makes tensors of frames, the slots, what was found out when they were opened.

Everything here happens in the worker's thread.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import EngineError
from ..frame import Frame
from ..manifest import InputStorage, Preprocess
from ..plans.runtime import LoadedPlan
from .capture import Capture
from .driver import DeviceInfo, Driver
from .pictures import PicturesToTensor
from .slots import Slot

SLOTS = 2
# Each way is timed this often on the picture of a usual camera, in turns; medians are compared.
_WARM_UP = 2
_ROUNDS = 15
_CAMERA = (1080, 1920)


@dataclass(frozen=True)
class Way:
    """How a frame's bytes get in and its outputs get out: copied, or used in place where host memory is mapped."""

    input_mapped: bool = False
    output_mapped: bool = False

    def __str__(self) -> str:
        given, made = ("in place" if mapped else "copied" for mapped in (self.input_mapped, self.output_mapped))
        return f"frames {given}, outputs {made}"


class Pipeline:
    """Slots for one plan that takes pictures.

    Args:
        driver: bound in this thread.
        info: the device; on an integrated one the ways of moving frames and outputs are timed.
        plan: takes one input.
        contract, storage: how frames become that input.
        tell: told, in one line each, what is worth knowing.

    Attributes:
        slots: idle at first; the caller keeps count.
        way: how frames and outputs are moved.

    Raises:
        EngineError: no memory; or the plan gives something that is not finite.
    """

    def __init__(
        self,
        driver: Driver,
        info: DeviceInfo,
        plan: LoadedPlan,
        contract: Preprocess,
        storage: InputStorage,
        tell: Callable[[str], None],
    ) -> None:
        self._driver = driver
        self._plan = plan
        self._contract = contract
        self._storage = storage
        self._capture = Capture(driver, tell)
        self.slots: list[Slot] = []
        self._makers: list[PicturesToTensor] = []
        try:
            self.way = self._fastest(tell) if info.integrated and info.can_map_host else Way()
            maker = self._maker(self.way, SLOTS)
            for number in range(SLOTS):
                _once(self._add(maker, number, self.way), (48, 64))
        except BaseException:
            self.close()
            raise

    @property
    def captured(self) -> bool:
        """Whether frames are replayed as one CUDA graph."""
        return self._capture.on

    def _maker(self, way: Way, slots: int) -> PicturesToTensor:
        maker = PicturesToTensor(
            self._driver, self._contract, self._storage, self._plan.max_batch, slots, way.input_mapped
        )
        self._makers.append(maker)
        return maker

    def _add(self, maker: PicturesToTensor, number: int, way: Way) -> Slot:
        slot = Slot(number, self._driver, self._plan, maker, self._capture, way.output_mapped)
        self.slots.append(slot)
        return slot

    def _fastest(self, tell: Callable[[str], None]) -> Way:
        """Every way, in turns; what was timed is closed."""
        ways = [Way(*mapped) for mapped in itertools.product((False, True), repeat=2)]
        timed = {way: self._add(self._maker(way, 1), 0, way) for way in ways}
        seconds: dict[Way, list[float]] = {way: [] for way in ways}
        for number in range(-_WARM_UP, _ROUNDS):
            for way, slot in timed.items():
                spent = _once(slot, _CAMERA)
                if number >= 0:
                    seconds[way].append(spent)
        self.close()
        medians = {way: statistics.median(times) * 1e3 for way, times in seconds.items()}
        best = min(medians, key=lambda way: medians[way])
        tell(f"{best}: {', '.join(f'{way} {ms:.2f} ms' for way, ms in medians.items())}")
        return best

    def close(self) -> None:
        """Give everything back; nothing may be queued. Safe to call twice."""
        # Graphs of the slots hold the kernels and parameter blocks of the makers.
        while self.slots:
            self.slots.pop().close()
        while self._makers:
            self._makers.pop().close()


def _once(slot: Slot, size: tuple[int, int]) -> float:
    """A grey picture of (height, width) through a slot, with finite outputs; the seconds that it took."""
    frame = Frame.from_rgb(np.full((*size, 3), 128, np.uint8))
    began = time.perf_counter()
    try:
        slot.start([frame])
        slot.wait()
        outputs = slot.finish().outputs
    finally:
        frame.release()
    spent = time.perf_counter() - began
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EngineError(f"engine tensorrt: output '{name}' of a grey picture is not finite", fix="memedge verify")
    return spent
