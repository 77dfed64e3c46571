"""Distinctiveness fitted to a training corpus, as M3-S does: components, clusters, a classifier that tells them.

Rows are whitened along ten principal axes, laid out in three dimensions by t-SNE and clustered there by DBSCAN (radius
1.25 for HRNet's features, 0.9 for CSN's, 5 neighbours); a network with 100 hidden units learns to tell the cluster from
the components. t-SNE and DBSCAN never leave this module. Everything follows from the seed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memedge.console import say

from ..blocks.distance_measures import PROTOTYPES, Density, Distinctiveness, PointDistances
from ..blocks.distinctiveness import COMPONENTS, CORPUS, ClusterOneHot, PcaWhiten
from ..blocks.k_means import k_means
from ..errors import TrainingError

if TYPE_CHECKING:
    from ..models.system import System
    from .fitting import Fit, FitData

RADIUS = {"mid": 1.25, "high": 0.9}
_NEIGHBOURS = 5
_PERPLEXITY = 30.0
_HIDDEN = 100
_ROUNDS = 500
_BANDWIDTHS = np.logspace(-2, 2, 40)
_FOLDS = 5
NOISE = -1
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """Principal axes of rows ``[N, F]``: their mean ``[F]``, axes ``[10, F]`` and the variances along them ``[10]``."""

    mean: Floats
    axes: Floats
    variances: Floats

    def set(self, pca: PcaWhiten) -> None:
        """Make a network's projection whiten along these axes."""
        pca.set_axes(*(torch.from_numpy(a) for a in (self.mean, self.axes, self.variances)))


def components(rows: NDArray[Any]) -> Components:
    """The ten strongest principal axes; axes that the rows do not have are zeros of variance 0.

    Raises:
        TrainingError: fewer than two rows.
    """
    if len(rows) < 2:
        raise TrainingError(
            f"{len(rows)} training samples to find principal axes in; expected 2 or more", fix="train on more data"
        )
    mean = rows.mean(0, dtype=np.float64)
    centered = rows - mean.astype(rows.dtype)
    # The smaller of the two products of the rows with themselves has the same axes: few rows of many numbers (34,596
    # of a histogram of gradients) or many rows of few.
    if len(rows) <= rows.shape[1]:
        _, vectors = np.linalg.eigh((centered @ centered.T).astype(np.float64))
        axes = (centered.T @ vectors[:, ::-1][:, :COMPONENTS]).T.astype(np.float64)
    else:
        _, vectors = np.linalg.eigh((centered.T @ centered).astype(np.float64))
        axes = vectors[:, ::-1][:, :COMPONENTS].T.copy()
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    axes = np.divide(axes, lengths, out=np.zeros_like(axes), where=lengths > 1e-6 * lengths.max(initial=1e-12))
    # An axis has no direction of its own: its largest component is made positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    variances = ((centered @ axes.T.astype(rows.dtype)).astype(np.float64) ** 2).sum(0) / (len(rows) - 1)
    missing = COMPONENTS - len(axes)
    return Components(mean, np.pad(axes, ((0, missing), (0, 0))), np.pad(variances, (0, missing)))


def cluster(rows: Floats, radius: float, seed: int) -> Labels:
    """DBSCAN's label of each whitened row ``[N, 10]``: the largest cluster is 0, noise is -1.

    Raises:
        TrainingError: too few rows for t-SNE.
    """
    if len(rows) <= _NEIGHBOURS:
        raise TrainingError(
            f"{len(rows)} training samples to cluster; expected more than {_NEIGHBOURS}", fix="train on more data"
        )
    from_sklearn = _sklearn()
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layout = from_sklearn.TSNE(3, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
    found: Labels = from_sklearn.DBSCAN(eps=radius, min_samples=_NEIGHBOURS).fit_predict(layout).astype(np.int64)
    sizes = np.bincount(found[found >= 0], minlength=1)
    rank = np.empty_like(sizes)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return np.where(found >= 0, rank[found], NOISE)


def classifier(rows: Floats, labels: Labels, seed: int) -> tuple[list[Tensor], list[Tensor], Labels]:
    """One hidden layer of 100 that tells labels from whitened rows: weight and bias of both layers, and the label of
    each row of the last one."""
    present = np.unique(labels)
    if len(present) == 1:
        hidden = [torch.zeros(_HIDDEN, COMPONENTS), torch.zeros(_HIDDEN)]
        return hidden, [torch.zeros(1, _HIDDEN), torch.zeros(1)], present
    network = _sklearn().MLPClassifier((_HIDDEN,), max_iter=_ROUNDS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 500 rounds are what was published, whether they suffice or not
        network.fit(rows, labels)
    weights = [torch.from_numpy(np.ascontiguousarray(w.T)) for w in network.coefs_]
    biases = [torch.from_numpy(b) for b in network.intercepts_]
    if len(present) == 2:  # one logistic unit stands for both
        weights[1] = torch.cat([torch.zeros_like(weights[1]), weights[1]])
        biases[1] = torch.cat([torch.zeros_like(biases[1]), biases[1]])
    return [weights[0], biases[0]], [weights[1], biases[1]], network.classes_.astype(np.int64)


def bandwidth(rows: Floats, seed: int) -> float:
    """Of Epanechnikov kernels: the one of 40 between 0.01 and 100 whose density of held-out rows is highest, by
    five-fold cross-validation."""
    sklearn = _sklearn()
    order = np.random.default_rng(seed).permutation(len(rows))
    best, best_density = float(_BANDWIDTHS[-1]), -np.inf
    for width in _BANDWIDTHS:
        total = 0.0
        for fold in range(min(_FOLDS, len(rows))):
            held = order[fold::_FOLDS]
            rest = np.setdiff1d(order, held)
            kernels = sklearn.KernelDensity(kernel="epanechnikov", bandwidth=float(width)).fit(rows[rest])
            with np.errstate(divide="ignore"):
                total += float(kernels.score_samples(rows[held]).sum())
            if not np.isfinite(total):
                break
        if np.isfinite(total) and total > best_density:
            best, best_density = float(width), total
    return best


def fit(block: Distinctiveness, features: Tensor, radius: float, seed: int) -> None:
    """Fit all of a block to the features ``[N, F]`` of its training corpus; at most 8,192 rows are used.

    Raises:
        TrainingError: too few rows.
    """
    rows = features[:CORPUS].float().cpu()
    components(rows.numpy()).set(block.pca)
    whitened = block.pca(rows.to(block.pca.weight)).cpu()
    points = whitened.double().numpy()
    measure = block.measure
    if isinstance(measure, ClusterOneHot):
        _fit_clusters(measure, whitened, points, radius, seed)
        return
    measure.take(whitened)
    if isinstance(measure, Density):
        measure.bandwidth.fill_(bandwidth(points, seed))
    elif isinstance(measure, PointDistances) and block.kind.endswith("-prototypes"):
        measure.set_points(k_means(whitened, min(PROTOTYPES, len(whitened)), seed=seed)[0])
    elif isinstance(measure, PointDistances) and block.kind.endswith("-classes"):
        labels = _limited(cluster(points, radius, seed), measure.features, block.kind)
        centers = [points[labels == label].mean(0) for label in range(int(labels.max(initial=NOISE)) + 1)]
        measure.set_points(torch.from_numpy(np.array(centers).reshape(-1, COMPONENTS)))
    assert block.standard is not None
    block.standard.fit([measure(whitened.to(block.pca.weight))])


def _fit_clusters(measure: ClusterOneHot, whitened: Tensor, points: Floats, radius: float, seed: int) -> None:
    labels = _limited(cluster(points, radius, seed), measure.classes - 1, "clusters")
    hidden, out, present = classifier(points, labels, seed)
    noise = measure.classes - 1
    used = np.where(present == NOISE, noise, present)
    measure.set_layers((hidden[0], hidden[1]), (out[0], out[1]), torch.from_numpy(used))
    measure.set_labels(whitened, torch.from_numpy(np.where(labels == NOISE, noise, labels)))
    say(f"distinctiveness: {labels.max(initial=NOISE) + 1} clusters, {np.mean(labels == NOISE):.0%} of the rows noise")


def _limited(labels: Labels, most: int, kind: str) -> Labels:
    """The labels of the ``most`` largest clusters; the rest becomes noise, and that is told."""
    found = int(labels.max(initial=NOISE)) + 1
    if found > most:
        say(f"distinctiveness: {found} clusters, {most} slots for {kind}: the smallest count as noise (--option)")
    return np.where(labels < most, labels, NOISE)


def fit_part(path: str, radius: float) -> Fit:
    """A system's fit of the :class:`Distinctiveness` at a dotted path."""

    def fitted(network: System, data: FitData) -> None:
        block = network.get_submodule(path)
        assert isinstance(block, Distinctiveness)
        fit(block, data.entering(path, CORPUS).values, radius, data.seed)

    return fitted


def fit_components(path: str, most: int) -> Fit:
    """A system's fit of a :class:`PcaWhiten` at a dotted path to at most ``most`` rows."""

    def fitted(network: System, data: FitData) -> None:
        pca = network.get_submodule(path)
        assert isinstance(pca, PcaWhiten)
        components(data.entering(path, most).values.numpy()[:most]).set(pca)

    return fitted


@dataclass(frozen=True)
class _Sklearn:
    TSNE: Any
    DBSCAN: Any
    MLPClassifier: Any
    KernelDensity: Any


def _sklearn() -> _Sklearn:
    try:
        from sklearn.cluster import DBSCAN
        from sklearn.manifold import TSNE
        from sklearn.neighbors import KernelDensity
        from sklearn.neural_network import MLPClassifier
    except ImportError as error:
        raise TrainingError(
            f"distinctiveness needs scikit-learn: {error}", fix="pip install 'memedge[export]'"
        ) from None
    return _Sklearn(TSNE, DBSCAN, MLPClassifier, KernelDensity)
