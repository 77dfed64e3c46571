"""Human consistency on simulated halves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from memedge_export.eval.people import consistency

COUNT, HALVINGS, SUBJECTS = 400, 8, 40


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, np.ndarray]:
    """True scores of the pictures, and means of two halves of the people over random halvings, ``[2, R, N]``."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.3, 0.9, COUNT)
    answers = rng.random((SUBJECTS, COUNT)) < truth
    halves = np.empty((2, HALVINGS, COUNT))
    for number in range(HALVINGS):
        order = rng.permutation(SUBJECTS)
        halves[0, number] = answers[order[: SUBJECTS // 2]].mean(axis=0)
        halves[1, number] = answers[order[SUBJECTS // 2 :]].mean(axis=0)
    return truth, halves


def test_consistency_is_the_mean_over_the_halvings(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    truth, halves = simulated
    noise = np.random.default_rng(1).random(COUNT)
    found = consistency(halves, {"truth": truth, "noise": noise})
    each = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(*halves, strict=True)]
    assert found is not None
    assert (found.count, found.halvings) == (COUNT, HALVINGS)
    assert found.spearman == pytest.approx(np.mean(each))
    assert found.spearman_range == pytest.approx((min(each), max(each)))
    with_halves = [scipy.stats.spearmanr(truth, half).statistic for half in halves.reshape(-1, COUNT)]
    assert found.models["truth"] == pytest.approx(np.mean(with_halves))
    # Nobody predicts a half better than the truth does, and its square is the agreement of two halves.
    assert found.models["truth"] ** 2 == pytest.approx(found.spearman, abs=0.05)
    assert abs(found.models["noise"]) < 0.1


def test_holes_are_left_out(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    truth, halves = simulated
    holes, predicted = halves.copy(), truth.copy()
    holes[0, 2, :10] = np.nan
    predicted[10:20] = np.nan
    found = consistency(holes, {"truth": predicted})
    assert found is not None
    assert found.count == COUNT - 10
    whole = consistency(halves[:, :, 20:], {"truth": truth[20:]})
    assert found.models["truth"] == pytest.approx(whole.models["truth"])


def test_halves_that_say_nothing() -> None:
    assert consistency(np.full((2, 3, 10), 0.5), {}) is None
    rng = np.random.default_rng(0)
    found = consistency(rng.random((2, 3, 10)), {"constant": np.full(10, 0.5)})
    assert found is not None
    assert found.models == {"constant": None}
