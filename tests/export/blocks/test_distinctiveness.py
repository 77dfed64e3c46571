"""Measures of distinctiveness against direct NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import KernelDensity

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.distance_measures import (
    MEASURES,
    CosineMean,
    CosineShare,
    Density,
    Distinctiveness,
    PointDistances,
)
from memedge_export.blocks.distinctiveness import ClusterOneHot, PcaWhiten

_CORPUS = np.random.default_rng(0).normal(size=(60, 10)) ** 3
_ROWS = np.random.default_rng(1).normal(size=(7, 10)) * 1.5


def _values(measure: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        return measure(torch.from_numpy(_ROWS).float()).double().numpy()


def test_whitening_is_the_projection_on_the_axes() -> None:
    rng = np.random.default_rng(2)
    rows, axes = rng.normal(size=(5, 24)), np.linalg.qr(rng.normal(size=(24, 10)))[0].T
    mean, variances = rng.normal(size=24), np.array([9.0, 4, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.01, 0.0])
    pca = PcaWhiten(24)
    pca.set_axes(*(torch.from_numpy(a) for a in (mean, axes, variances)))
    with torch.no_grad():
        found = pca(torch.from_numpy(rows).float()).numpy()
    assert np.allclose(found[:, :9], (rows - mean) @ axes[:9].T / np.sqrt(variances[:9]), atol=1e-4)
    assert (found[:, 9] == 0).all()
    assert not list(pca.parameters())


def _clusters(**options: bool) -> ClusterOneHot:
    torch.manual_seed(3)
    return ClusterOneHot(6, **options)


def test_the_one_hot_is_the_classifiers_class() -> None:
    block = _clusters()
    hidden = np.maximum(_ROWS @ block.hidden_weight.numpy().T + block.hidden_bias.numpy(), 0)
    expected = (hidden @ block.out_weight.numpy().T + block.out_bias.numpy()).argmax(1)
    assert len(set(expected)) > 2
    assert (_values(block) == np.eye(6)[expected]).all()


def test_noise_shares_the_last_slot_where_asked() -> None:
    block, quirk = _clusters(), _clusters(noise_quirk=True)
    for one in (block, quirk):
        one.out_bias[4] += 2.0
        one.out_bias[5] += 1.8
    plain = _values(block)
    assert plain[:, 4].any()
    assert plain[:, 5].any()
    found = _values(quirk)
    assert found.shape[1] == quirk.features == 5
    assert (found[:, :4] == plain[:, :4]).all()
    assert (found[:, 4] == plain[:, 4] + plain[:, 5]).all()


def test_classes_that_were_not_used_are_never_told() -> None:
    block = _clusters()
    hidden, out = torch.randn(100, 10), torch.randn(2, 100)
    block.set_layers((hidden, torch.zeros(100)), (out, torch.full((2,), -900.0)), torch.tensor([1, 5]))
    assert set(_values(block).argmax(1)) <= {1, 5}


def test_faithful_labels_hold_for_rows_of_the_corpus_in_training_only() -> None:
    block = _clusters(faithful_labels=True)
    x = torch.from_numpy(_ROWS).float()
    told = block.predicted(x)[:, 0]
    other = (told + 1) % 6
    block.set_labels(x[:4], other[:4])
    assert torch.equal(block.train()(x).argmax(1), torch.cat([other[:4], told[4:]]))
    assert torch.equal(block.eval()(x).argmax(1), told)


def test_cosines() -> None:
    corpus = torch.from_numpy(_CORPUS)
    cosines = 1 - cdist(_ROWS, _CORPUS, "cosine")
    share = CosineShare(0.4)
    share.take(corpus)
    assert np.allclose(_values(share)[:, 0], (cosines >= 0.4).mean(1), atol=1e-6)
    mean = CosineMean()
    mean.take(corpus)
    found = _values(mean)[:, 0]
    direction = (_CORPUS / np.linalg.norm(_CORPUS, axis=1, keepdims=True)).mean(0)
    assert np.allclose(found, 1 - cdist(_ROWS, direction[None], "cosine")[:, 0], atol=1e-6)
    # It ranks rows as the mean cosine to the corpus does.
    assert np.array_equal(np.argsort(found / 1), np.argsort(cosines.mean(1)))


def test_density_is_scikit_learns() -> None:
    block = Density()
    block.take(torch.from_numpy(_CORPUS))
    block.bandwidth.fill_(9.0)
    expected = -KernelDensity(kernel="epanechnikov", bandwidth=9.0).fit(_CORPUS).score_samples(_ROWS)
    assert np.isfinite(expected).all()
    assert np.allclose(_values(block)[:, 0], expected, atol=1e-4)
    block.bandwidth.fill_(1e-2)
    assert np.isfinite(_values(block)).all()


def test_distances_to_points() -> None:
    points = _CORPUS[:4]
    for fractional in (False, True):
        block = PointDistances(4, fractional=fractional)
        block.set_points(torch.from_numpy(points))
        expected = cdist(_ROWS, points, "minkowski", p=0.5) if fractional else cdist(_ROWS, points)
        assert np.allclose(_values(block), expected, rtol=1e-4)
    only = PointDistances(1, fractional=True)
    only.take(torch.from_numpy(_CORPUS))
    assert np.allclose(_values(only), cdist(_ROWS, _CORPUS.mean(0)[None], "minkowski", p=0.5), rtol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_has_its_length_and_finite_values(measure: str) -> None:
    block = Distinctiveness(24, 6, measure)
    with torch.no_grad():
        found = block(torch.randn(3, 24))
    assert found.shape == (3, block.features)
    assert torch.isfinite(found).all()
    assert not list(block.parameters())


class _Several(torch.nn.Module):
    """Blocks side by side."""

    def __init__(self, blocks: list[Distinctiveness]) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(block(x) for block in self.blocks)


def test_measures_are_exported_without_operators_that_engines_lack() -> None:
    torch.manual_seed(5)
    corpus = torch.randn(200, 24)
    blocks = [Distinctiveness(24, 6, measure) for measure in ("clusters", "cosine-0.5", "density", "fractional-mean")]
    for block in blocks[1:]:
        block.measure.take(block.pca(corpus))  # type: ignore[operator, union-attr]
    several, x = _Several(blocks), torch.randn(5, 24)
    graph = export_block(several, x)
    found = operators(graph)
    assert found[:7] == ["Gemm", "Gemm", "Relu", "Gemm", "ArgMax", "Equal", "Cast"]
    assert set(found).isdisjoint({"OneHot", "Shape", "Expand", "Where", "Gather", "CastLike"})
    assert largest_difference(several, graph, x) < 1e-4


def test_unknown_measures_and_impossible_classes() -> None:
    with pytest.raises(ValueError, match=r"'cosine-0\.6'; expected one of clusters"):
        Distinctiveness(24, 6, "cosine-0.6")
    with pytest.raises(ValueError, match="1 classes, noise included; expected at least 2"):
        ClusterOneHot(1, noise_quirk=True)
