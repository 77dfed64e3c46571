"""Parts that are fitted, not trained: constants, components, clusters and stored vectors, taken from training data.

A system names them, in the order in which they are fitted::

    System(nodes, graphs, targets, fitted=(FittedPart("head", fit_head),), ...)

    def fit_head(network: System, data: FitData) -> None:
        rows, scores = data.entering("head")
        network.get_submodule("head").fit_inputs(rows, scores)

They are fitted before the first phase, unless the start weights gave all of the part's buffers, and again before each
phase whose recipe says ``refit = true``. What one part's fit changes is seen by those behind it:
:meth:`FitData.entering` runs the network as it is when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from ..models.system import System
    from .losses import ScoreStatistics

MOST_ROWS = 20_000
"""Rows that a fit gets unless it asks for another number."""


class Rows(NamedTuple):
    """Rows of training data.

    Attributes:
        values: float32 ``[N, ...]`` on the CPU.
        scores: float32 ``[N, T]`` on the first data set's scale: the record's, nan where it has no such score.
    """

    values: Tensor
    scores: Tensor


class FitData(Protocol):
    """The training records, without augmentation, on every call that the targets' published sampling asks for (seven
    frames of a video under S7, its clips, its key frames; a picture once)."""

    @property
    def seed(self) -> int:
        """Seed of the run, for what is random in a fit."""
        ...

    @property
    def statistics(self) -> ScoreStatistics:
        """Mean, deviation and cuts of the training scores."""
        ...

    def entering(self, part: str, most: int = MOST_ROWS) -> Rows:
        """What enters a submodule (dotted path) as its first argument, the network in evaluation mode.

        Records come in an order that depends on the seed alone, and end with the one that reaches ``most`` rows. A
        submodule that is called several times in one pass gives the rows of each call.

        Raises:
            TrainingError: nothing enters that submodule.
        """
        ...


Fit = Callable[["System", FitData], None]


@dataclass(frozen=True)
class FittedPart:
    """A part of a system that is fitted.

    Attributes:
        part: dotted path of the submodule whose buffers and parameters are set.
        fit: sets them; random choices follow from ``data.seed`` alone. It may set parameters, too.
    """

    part: str
    fit: Fit
