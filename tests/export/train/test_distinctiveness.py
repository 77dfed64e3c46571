"""Fits of distinctiveness on rows whose clusters are known, against scikit-learn where it has the same thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier

from memedge_export.blocks.distance_measures import Density, Distinctiveness
from memedge_export.blocks.distinctiveness import ClusterOneHot
from memedge_export.errors import TrainingError
from memedge_export.train import distinctiveness as made

_SIZES = (120, 90, 60, 40, 30)
_SLOTS = 9
_RADIUS = 6.0  # t-SNE spreads few rows wider than many


def _groups() -> tuple[np.ndarray, np.ndarray]:
    """Five far groups, ``[340, 12]`` in no order, and which one each row is of, the largest 0."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(5), _SIZES))
    return (40 * np.eye(5, 12)[labels] + rng.normal(size=(len(labels), 12))).astype(np.float32), labels


@pytest.mark.parametrize(("rows", "size"), [(90, 16), (12, 40)])
def test_components_are_those_of_scikit_learn(rows: int, size: int) -> None:
    data = np.random.default_rng(1).normal(size=(rows, size)) * np.linspace(3, 0.5, size) + 5
    expected = PCA(10, whiten=True).fit(data)
    block = Distinctiveness(size, 4)
    made.components(data.astype(np.float32)).set(block.pca)
    with torch.no_grad():
        found = block.pca(torch.from_numpy(data).float()).numpy()
    assert np.allclose(np.abs(found), np.abs(expected.transform(data)), atol=2e-3)
    assert np.allclose(found.std(0, ddof=1), 1, atol=1e-3)


def test_axes_that_rows_do_not_have_give_zero() -> None:
    rows = np.outer(np.arange(30.0), np.ones(16)).astype(np.float32)
    block = Distinctiveness(16, 4)
    made.components(rows).set(block.pca)
    with torch.no_grad():
        found = block.pca(torch.from_numpy(rows)).numpy()
    assert np.allclose(found.std(0, ddof=1), [1, *[0] * 9], atol=1e-3)


@dataclass(frozen=True)
class Fitted:
    """A fitted block, its rows, the group of each, and DBSCAN's labels."""

    block: Distinctiveness
    rows: np.ndarray
    groups: np.ndarray
    labels: np.ndarray

    @property
    def measure(self) -> ClusterOneHot:
        assert isinstance(self.block.measure, ClusterOneHot)
        return self.block.measure

    @property
    def points(self) -> np.ndarray:
        return self.measure.known[: len(self.rows)].double().numpy()


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    rows, groups = _groups()
    torch.manual_seed(0)
    block = Distinctiveness(12, _SLOTS, faithful_labels=True)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        real = made.cluster
        patch.setattr(made, "cluster", lambda *a: kept.append(real(*a)) or kept[0])
        made.fit(block, torch.from_numpy(rows), _RADIUS, seed=0)
    return Fitted(block, rows, groups, kept[0])


@pytest.fixture
def clustered(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clustering that is done already."""
    monkeypatch.setattr(made, "cluster", lambda *a: fitted.labels)


def test_groups_are_clusters_the_largest_first_and_noise_the_last_class(fitted: Fitted) -> None:
    told = fitted.measure.labels[: len(fitted.rows)].numpy()
    assert np.array_equal(told, np.where(fitted.labels == made.NOISE, _SLOTS - 1, fitted.labels))
    clean = fitted.labels != made.NOISE
    assert clean.mean() > 0.9
    assert np.array_equal(told[clean], fitted.groups[clean])


def test_the_classifier_in_the_block_is_scikit_learns(fitted: Fitted) -> None:
    expected = MLPClassifier((100,), max_iter=500, random_state=0).fit(fitted.points, fitted.labels)
    with torch.no_grad():
        found = fitted.block.eval()(torch.from_numpy(fitted.rows)).numpy()
    predicted = expected.predict(fitted.points)
    assert np.array_equal(found.argmax(1), np.where(predicted == made.NOISE, _SLOTS - 1, predicted))
    assert (found.argmax(1) == fitted.groups).mean() > 0.9
    assert (found.sum(1) == 1).all()


@pytest.mark.usefixtures("clustered")
def test_the_same_seed_gives_the_same_network(fitted: Fitted) -> None:
    again = Distinctiveness(12, _SLOTS, faithful_labels=True)
    made.fit(again, torch.from_numpy(fitted.rows), _RADIUS, seed=0)
    state = fitted.block.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_clusters(fitted: Fitted) -> None:
    assert np.array_equal(made.cluster(fitted.points, _RADIUS, seed=0), fitted.labels)


@pytest.mark.usefixtures("clustered")
def test_more_clusters_than_slots_become_noise_and_that_is_told(
    fitted: Fitted, capsys: pytest.CaptureFixture[str]
) -> None:
    block = Distinctiveness(12, 3)
    made.fit(block, torch.from_numpy(fitted.rows), _RADIUS, seed=0)
    assert "5 clusters, 2 slots for clusters: the smallest count as noise" in capsys.readouterr().err
    with torch.no_grad():
        found = block(torch.from_numpy(fitted.rows)).argmax(1).numpy()
    assert (found == np.minimum(fitted.groups, 2)).mean() > 0.9


def test_two_labels_and_one() -> None:
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.normal(size=(30, 10)) - 3, rng.normal(size=(30, 10)) + 3])
    labels = np.repeat([0, 1], 30)
    hidden, out, present = made.classifier(points, labels, seed=0)
    block = ClusterOneHot(3)
    block.set_layers((hidden[0], hidden[1]), (out[0], out[1]), torch.from_numpy(present))
    assert np.array_equal(block.predicted(torch.from_numpy(points).float())[:, 0].numpy(), labels)
    hidden, out, present = made.classifier(points, np.full(60, made.NOISE), seed=0)
    block.set_layers((hidden[0], hidden[1]), (out[0], out[1]), torch.tensor([2]))
    assert set(block.predicted(torch.from_numpy(points).float())[:, 0].tolist()) == {2}


def test_the_bandwidth_fits_the_spread() -> None:
    rows = np.random.default_rng(3).normal(size=(80, 10))
    small, large = made.bandwidth(rows, 0), made.bandwidth(rows * 8, 0)
    assert 2 < small < 12
    assert 6 < large / small < 11


@pytest.mark.parametrize("measure", ["cosine-mean", "density", "euclidean-prototypes", "fractional-classes"])
@pytest.mark.usefixtures("clustered")
def test_other_measures_are_standardised_over_the_corpus(fitted: Fitted, measure: str) -> None:
    rows = torch.from_numpy(fitted.rows)
    block = Distinctiveness(12, 9, measure)
    made.fit(block, rows, _RADIUS, seed=0)
    with torch.no_grad():
        found = block(rows).numpy()
    moving = found.std(0) > 1e-3
    assert moving.any()
    assert np.allclose(found.mean(0)[moving], 0, atol=1e-3)
    assert np.allclose(found.std(0)[moving], 1, atol=1e-2)
    assert not isinstance(block.measure, Density) or float(block.measure.bandwidth) != 1


def test_too_few_rows_are_told() -> None:
    with pytest.raises(TrainingError, match="1 training samples to find principal axes in"):
        made.components(np.zeros((1, 12), np.float32))
    with pytest.raises(TrainingError, match="5 training samples to cluster"):
        made.cluster(np.zeros((5, 10)), 1.25, 0)
