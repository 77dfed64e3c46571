"""Other measures of distinctiveness that M3-S names: cosine, density, distances. Each takes whitened ``[B, 10]``.

Those that compare with the corpus hold its rows in a buffer of fixed size; rows that are not there have weight 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from .distinctiveness import COMPONENTS, CORPUS, ClusterOneHot, PcaWhiten
from .standardise import Standardise

Measure = Literal[
    "clusters",
    "cosine-mean",
    "cosine-0.4",
    "cosine-0.5",
    "cosine-0.7",
    "density",
    "fractional-mean",
    "euclidean-classes",
    "euclidean-prototypes",
    "fractional-classes",
    "fractional-prototypes",
]
MEASURES: tuple[str, ...] = Measure.__args__  # type: ignore[attr-defined]
PROTOTYPES = 20
_SHORTEST = 1e-6
# A row beyond every kernel would be infinitely distinct: it counts as one with a thousandth of a single kernel's peak.
_LEAST_KERNEL = 1e-3


class DistanceMeasure(nn.Module):
    """A measure that is not a cluster: whitened ``[B, 10]`` to ``[B, features]``."""

    features = 1

    @abstractmethod
    def take(self, rows: Tensor) -> None:
        """Become the measure against the corpus's whitened rows ``[N, 10]``; at most 8,192 are kept."""


def unit(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    return x / x.norm(dim=1, keepdim=True).clamp(min=_SHORTEST)


class CosineMean(DistanceMeasure):
    """Cosine to the corpus's mean direction: the mean of its rows, each of length 1.

    The mean of the rows themselves is 0 by construction of the whitening, and has no direction.
    """

    direction: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("direction", unit(torch.ones(1, COMPONENTS)))

    @torch.no_grad()
    def take(self, rows: Tensor) -> None:
        """See :meth:`DistanceMeasure.take`."""
        self.direction.copy_(unit(unit(rows).mean(0, keepdim=True)))

    def forward(self, x: Tensor) -> Tensor:
        """The cosine."""
        return unit(x) @ self.direction.T


class _Corpus(DistanceMeasure):
    """A measure that holds the corpus's rows, and 1/N of each."""

    rows: Tensor
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(CORPUS, COMPONENTS))
        self.register_buffer("weights", torch.zeros(CORPUS, 1))

    def _keep(self, rows: Tensor) -> None:
        count = min(len(rows), CORPUS)
        self.rows.zero_()
        self.weights.zero_()
        self.rows[:count] = rows[:count].to(self.rows)
        self.weights[:count] = 1 / count


class CosineShare(_Corpus):
    """Share of the corpus whose cosine to a row is at least ``threshold``."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    @torch.no_grad()
    def take(self, rows: Tensor) -> None:
        """See :meth:`DistanceMeasure.take`."""
        self._keep(unit(rows))

    def forward(self, x: Tensor) -> Tensor:
        """The share, 0..1."""
        return (unit(x) @ self.rows.T >= self.threshold).to(x.dtype) @ self.weights


class Density(_Corpus):
    """Minus the logarithm of the corpus's density, estimated with Epanechnikov kernels of one bandwidth."""

    bandwidth: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bandwidth", torch.ones(()))

    @torch.no_grad()
    def take(self, rows: Tensor) -> None:
        """See :meth:`DistanceMeasure.take`; the bandwidth is set apart."""
        self._keep(rows)

    def forward(self, x: Tensor) -> Tensor:
        """-log density."""
        squares = (x**2).sum(1, keepdim=True) + (self.rows**2).sum(1)[None] - 2 * x @ self.rows.T
        peak = torch.clamp(1 - squares / self.bandwidth**2, min=0) @ self.weights
        count = 1 / self.weights[0].clamp(min=1 / CORPUS)
        # Volume of the unit ball times 2 / (d + 2): the kernel's integral.
        half = COMPONENTS / 2
        integral = half * math.log(math.pi) - math.lgamma(half + 1) + math.log(2 / (COMPONENTS + 2))
        norm = integral + COMPONENTS * torch.log(self.bandwidth)
        return norm - torch.log(torch.maximum(peak, _LEAST_KERNEL / count))


class PointDistances(DistanceMeasure):
    """Distances to ``count`` points: the corpus's mean, its clusters' means or prototypes.

    ``fractional`` is L_0.5, (sum of |difference| ** 0.5) ** 2, which tells rows apart where many axes blur the
    Euclidean distance.
    """

    points: Tensor

    def __init__(self, count: int, *, fractional: bool) -> None:
        super().__init__()
        self.fractional = fractional
        self.features = count
        self.register_buffer("points", torch.zeros(count, COMPONENTS))

    @torch.no_grad()
    def set_points(self, points: Tensor) -> None:
        """The points, ``[n, 10]``, n at most ``count``; further ones lie at 0, the corpus's mean."""
        self.points.zero_()
        self.points[: len(points)] = points.to(self.points)

    @torch.no_grad()
    def take(self, rows: Tensor) -> None:
        """See :meth:`DistanceMeasure.take`: the only point is the corpus's mean; more are set apart."""
        if self.features == 1:
            self.set_points(rows.mean(0, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """The distances."""
        away = x[:, None] - self.points[None]
        if self.fractional:
            return away.abs().sqrt().sum(2) ** 2
        return (away**2).sum(2).sqrt()


class Distinctiveness(nn.Module):
    """Features ``[B, F]`` to how they stand out from the corpus, ``[B, features]``.

    Args:
        size: F. classes: clusters, noise included, of the measures that have some.
        measure: one of :data:`MEASURES`; all but ``clusters`` are standardised.
        noise_quirk, faithful_labels: see :class:`ClusterOneHot`.
    """

    def __init__(
        self,
        size: int,
        classes: int,
        measure: str = "clusters",
        *,
        noise_quirk: bool = False,
        faithful_labels: bool = False,
    ) -> None:
        super().__init__()
        self.pca = PcaWhiten(size)
        self.kind = measure
        self.measure: ClusterOneHot | DistanceMeasure
        if measure == "clusters":
            self.measure = ClusterOneHot(classes, noise_quirk=noise_quirk, faithful_labels=faithful_labels)
        else:
            self.measure = _distance_measure(measure, classes)
        self.standard = None if measure == "clusters" else Standardise(self.measure.features)

    @property
    def features(self) -> int:
        """Numbers that come out."""
        return self.measure.features

    def forward(self, x: Tensor) -> Tensor:
        """The measure of each row."""
        found: Tensor = self.measure(self.pca(x))
        return found if self.standard is None else self.standard(found)


def _distance_measure(measure: str, classes: int) -> DistanceMeasure:
    kind, _, what = measure.partition("-")
    if measure == "cosine-mean":
        return CosineMean()
    if kind == "cosine" and measure in MEASURES:
        return CosineShare(float(what))
    if measure == "density":
        return Density()
    if measure in MEASURES:
        count = {"mean": 1, "prototypes": PROTOTYPES, "classes": max(classes - 1, 1)}[what]
        return PointDistances(count, fractional=kind == "fractional")
    raise ValueError(f"measure '{measure}'; expected one of {', '.join(MEASURES)}")
