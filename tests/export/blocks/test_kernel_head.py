from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.k_means import k_means
from memedge_export.blocks.kernel_head import KernelHead
from memedge_export.blocks.standardise import Standardise
from memedge_export.key_maps import svr


def _fitted(seed: int, count: int = 40, size: int = 7) -> dict[str, np.ndarray]:
    """Arrays as scikit-learn's SVR and the StandardScaler before it leave them."""
    rng = np.random.default_rng(seed)
    return {
        "support_vectors": rng.normal(size=(count, size)),
        "dual_coef": rng.normal(size=(1, count)),
        "intercept": rng.normal(size=1),
        "gamma": np.array(0.13),
        "mean": rng.normal(size=size) * 4,
        "scale": rng.uniform(0.5, 3, size),
    }


def _decision(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Sum of dual coefficients times the kernel, one pair at a time."""
    scores = []
    for row in (x - arrays["mean"]) / arrays["scale"]:
        kernel = [np.exp(-arrays["gamma"] * np.sum((row - v) ** 2)) for v in arrays["support_vectors"]]
        scores.append(np.dot(arrays["dual_coef"][0], kernel) + arrays["intercept"][0])
    return np.array(scores)


def test_a_fitted_svr_gives_the_same_scores() -> None:
    arrays = _fitted(0)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert svr.detect(state)
    assert svr.options(state) == {"kind": "rbf", "vectors": 40}
    head = KernelHead(7, 40)
    head.load_state_dict(svr.rename(state))
    x = np.random.default_rng(1).normal(size=(5, 7)) * 4
    tensor = torch.from_numpy(x.astype(np.float32))
    with torch.no_grad():
        assert np.allclose(head(tensor).numpy()[:, 0], _decision(arrays, x), atol=1e-5)
    graph = export_block(head, tensor)
    assert operators(graph).count("Exp") == 1
    assert operators(graph).count("MatMul") + operators(graph).count("Gemm") == 2
    assert largest_difference(head, graph, tensor) < 1e-5


def test_a_fitted_linear_svr() -> None:
    rng = np.random.default_rng(0)
    coef, intercept = rng.normal(size=(1, 7)), rng.normal(size=1)
    head = KernelHead(7, kind="linear")
    state = {"coef": torch.from_numpy(coef), "intercept": torch.from_numpy(intercept)}
    assert svr.options(state) == {"kind": "linear"}
    head.load_state_dict(svr.rename(state))
    x = rng.normal(size=(3, 7))
    with torch.no_grad():
        found = head(torch.from_numpy(x.astype(np.float32))).numpy()
    assert np.allclose(found, x @ coef.T + intercept, atol=1e-5)


def test_a_file_that_is_no_svr_is_told_by_its_keys() -> None:
    assert not svr.detect({"support_vectors": torch.zeros(1, 2)})
    assert svr.detect({"coef": torch.zeros(1, 2), "intercept": torch.zeros(1)})


def test_nearest_neighbours_agree_with_sorting() -> None:
    rng = np.random.default_rng(0)
    stored, values = rng.normal(size=(30, 5)), rng.uniform(0.4, 0.9, 30)
    head = KernelHead(5, 64, kind="neighbours", neighbours=4)
    head.set_vectors(torch.from_numpy(stored).float())
    with torch.no_grad():
        head.out.weight[:, :30] = torch.from_numpy(values)
        head.out.weight[:, 30:] = 1e6  # places without a vector never count
        head.out.bias.zero_()
    x = rng.normal(size=(6, 5)).astype(np.float32)
    expected = []
    for row in x:
        distances = np.sqrt(((stored - row) ** 2).sum(1))
        near = np.argsort(distances)[:4]
        expected.append(np.average(values[near], weights=1 / distances[near]))
    tensor = torch.from_numpy(x)
    with torch.no_grad():
        assert np.allclose(head(tensor).numpy()[:, 0], expected, atol=1e-5)
    graph = export_block(head, tensor)
    assert operators(graph).count("TopK") == 1
    assert largest_difference(head, graph, tensor) < 1e-5


def test_a_query_on_a_stored_vector_takes_its_value() -> None:
    stored = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    head = KernelHead(3, 8, kind="neighbours", neighbours=3)
    head.set_vectors(stored)
    with torch.no_grad():
        head.out.weight.copy_(torch.arange(8.0)[None])
        head.out.bias.zero_()
        assert torch.allclose(head(stored)[:, 0], torch.arange(8.0), atol=0.02)


@pytest.mark.parametrize("kind", ["rbf", "linear", "neighbours"])
def test_fitting_to_training_features(kind: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 6)) * rng.uniform(0.1, 50, 6) + 7
    features[:, 2] = 3.0  # never changes
    scores = rng.uniform(0.4, 0.9, (50, 1))
    scores[7] = np.nan
    head = KernelHead(6, 16, kind=kind, neighbours=2)  # type: ignore[arg-type]
    head.fit_inputs(torch.from_numpy(features).float(), torch.from_numpy(scores).float())
    std = features.std(0)
    std[2] = 1
    assert np.allclose(head.standardise.mean.numpy(), features.mean(0), rtol=1e-4)
    assert np.allclose(head.standardise.std.numpy(), std, rtol=1e-4)
    with torch.no_grad():
        found = head(torch.from_numpy(features).float()).numpy()[:, 0]
    if kind == "neighbours":
        assert np.corrcoef(found, np.nan_to_num(scores[:, 0], nan=np.nanmean(scores)))[0, 1] > 0.3
    else:
        assert np.allclose(found, np.nanmean(scores), atol=1e-6)
    if kind == "rbf":
        x = (features - features.mean(0)) / std
        assert float(head.gamma) == pytest.approx(1 / (6 * x.var()), rel=1e-4)


def test_more_vectors_than_places() -> None:
    head = KernelHead(3, 4)
    with pytest.raises(ValueError, match="5 vectors; there is room for 4"):
        head.set_vectors(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="9 neighbours of 4"):
        KernelHead(3, 4, kind="neighbours", neighbours=9)


def test_fewer_training_rows_than_places() -> None:
    head = KernelHead(3, 1024)
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    head.fit_inputs(rows, torch.full((5, 1), 0.5))
    with torch.no_grad():
        assert torch.isfinite(head.similarities(rows)).all()
        assert head.similarities(rows)[:, 5:].eq(0).all()


def test_centres_are_the_means_of_their_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    blobs = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    rows = blobs.repeat(20, 1) + 0.1 * torch.randn(60, 2, generator=generator)
    centers, nearest = k_means(rows, 3)
    for number in range(3):
        assert torch.allclose(centers[number], rows[nearest == number].mean(0), atol=1e-5)
    assert sorted((centers / 10).round().tolist()) == [[0, 0], [0, 1], [1, 0]]
    again, _ = k_means(rows, 3)
    assert torch.equal(again, centers)


def test_as_many_centres_as_rows_also_where_rows_are_equal() -> None:
    rows = torch.tensor([[1.0], [1.0], [1.0], [2.0]])
    centers, nearest = k_means(rows, 4)
    assert sorted(centers[:, 0].tolist()) == [1, 1, 1, 2]
    assert sorted(nearest.tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="5 centres of 4 rows"):
        k_means(rows, 5)


def test_statistics_of_large_values_in_parts() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 3)) * 0.01 + 1e5
    found = Standardise(3).fit(torch.from_numpy(part) for part in np.array_split(rows, 7))
    assert np.allclose(found.std.numpy(), rows.std(0), rtol=1e-5)
    with pytest.raises(ValueError, match="at least one"):
        Standardise(3).fit([])
