"""The rules of the fidelity gate, each with scores that pass and scores that fail; figures against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from memedge_export.errors import ExportError
from memedge_export.quant.fidelity import OtherScores, drop_interval, float_faults, measure


def scores(count: int = 300, seed: int = 0, std: float = 0.08) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(0.55, std, count), 0, 1)


def noisy(values: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    return values + np.random.default_rng(seed).normal(0, noise, len(values))


def test_close_scores_pass_and_the_figures_are_scipys() -> None:
    a = scores()
    b = noisy(a, 0.004)
    found = measure(a, b)
    assert found.passed
    assert found.reasons == found.warnings == ()
    assert found.spearman == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)
    assert found.float_std == pytest.approx(scipy.stats.tstd(a, ddof=0))
    assert found.std_ratio == pytest.approx(scipy.stats.tstd(b, ddof=0) / scipy.stats.tstd(a, ddof=0))
    assert found.mean_abs == pytest.approx(np.mean(np.abs(a - b)))
    assert found.max_abs == pytest.approx(scipy.stats.tmax(np.abs(a - b)))
    assert (found.frames, found.finite) == (300, True)


def test_ties_take_their_average_rank() -> None:
    a = np.round(scores(), 2)
    b = np.round(noisy(a, 0.003), 2)
    assert len(np.unique(a)) < 100
    assert measure(a, b).spearman == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


A = scores()
MEAN = A.mean()


@pytest.mark.parametrize(
    ("lowered", "told"),
    [
        (noisy(A, 0.012), "Spearman with float scores 0.98"),
        (A + 0.0101, "mean |difference| from float scores 0.0101; expected at most 0.01"),
        (MEAN + (A - MEAN) * 1.11, "standard deviation 1.110 of float's; expected 0.9 to 1.1"),
        (MEAN + (A - MEAN) * 0.89, "standard deviation 0.890 of float's"),
        (np.full(300, 0.55), "no rank correlation"),
        (np.where(np.arange(300) == 7, np.nan, A), "1 of 300 scores are not finite; expected none"),
        (np.where(np.arange(300) < 3, np.inf, A), "3 of 300 scores are not finite"),
    ],
)
def test_each_rule_fails_by_itself(lowered: np.ndarray, told: str) -> None:
    found = measure(A, lowered)
    assert not found.passed
    assert any(told in reason for reason in found.reasons), found.reasons


@pytest.mark.parametrize("lowered", [A + 0.01, A - 0.01, MEAN + (A - MEAN) * 1.1, MEAN + (A - MEAN) * 0.9])
def test_the_bounds_themselves_pass(lowered: np.ndarray) -> None:
    assert measure(A, lowered).passed


def test_not_finite_has_no_figures() -> None:
    found = measure(A, np.where(np.arange(300) == 0, np.nan, A))
    assert not found.finite
    assert (found.spearman, found.mean_abs, found.std_ratio, found.human) == (None, None, None, None)


def test_faults_of_the_float_scores() -> None:
    flat = 0.5 + scores(std=0.001) / 100
    assert "all but constant" in float_faults(flat)[0]
    assert not measure(flat, flat).passed
    assert "all but constant" in measure(np.full(300, 0.5), np.full(300, 0.5)).reasons[0]
    assert "not finite" in float_faults(np.append(A, np.nan))[0]
    assert float_faults(A) == []
    # .01 itself is not above .01.
    assert float_faults(np.tile([0.49, 0.51], 150))


def test_small_gates_fail_unless_allowed() -> None:
    a, b = scores(199), noisy(scores(199), 0.001)
    found = measure(a, b)
    assert not found.passed
    assert found.reasons == ("the gate has 199 pictures; expected at least 200 that calibration did not see",)
    found = measure(a, b, small_ok=True)
    assert found.passed
    assert "199 pictures only" in found.warnings[0]
    assert measure(scores(200), scores(200)).passed


def human_of(a: np.ndarray, seed: int = 5) -> np.ndarray:
    return np.clip(noisy(a, 0.12, seed), 0, 1)


def test_human_drop_and_its_interval_against_scipy() -> None:
    a = scores(400)
    b, y = noisy(a, 0.01), human_of(a)
    found = measure(a, b, human=y).human
    assert found is not None

    def rho(x: np.ndarray, z: np.ndarray) -> float:
        return float(scipy.stats.spearmanr(x, z).statistic)

    assert found.float_rho == pytest.approx(rho(a, y))
    assert found.rho == pytest.approx(rho(b, y))
    assert found.drop == pytest.approx(rho(a, y) - rho(b, y))
    reference = scipy.stats.bootstrap(
        (a, b, y), lambda p, q, z: rho(p, z) - rho(q, z), paired=True, vectorized=False, n_resamples=600,
        method="percentile", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    assert found.interval == pytest.approx((reference.low, reference.high), abs=0.004)
    assert drop_interval(a, b, y, seed=1) == drop_interval(a, b, y, seed=1)


def test_a_drop_fails_and_an_uncertain_one_warns() -> None:
    a = scores(600)
    y = human_of(a)
    worse = a + 0.3 * (np.argsort(np.argsort(-y)) / 600 - 0.5) * 0.06
    found = measure(a, worse, human=y)
    assert found.human is not None
    assert found.human.drop > 0.005
    assert any("rank correlation with human scores drops by" in reason for reason in found.reasons)
    near = noisy(a, 0.008, seed=2)
    found = measure(a, near, human=y)
    assert found.human is not None
    assert found.human.drop <= 0.005 < found.human.interval[1]
    assert not any("human" in reason for reason in found.reasons)
    assert "do not exclude" in found.warnings[0]
    same = measure(a, a, human=y)
    assert same.human is not None
    assert (same.human.drop, same.human.interval, same.warnings) == (0, (0, 0), ())


def test_pictures_without_a_human_score_are_left_out() -> None:
    a, b = scores(), noisy(scores(), 0.002)
    y = human_of(a)
    y[:100] = np.nan
    found = measure(a, b, human=y).human
    assert found is not None
    assert found.frames == 200
    assert found.rho == pytest.approx(scipy.stats.spearmanr(b[100:], y[100:]).statistic)
    alike = measure(a, b, human=np.full(300, 0.5))
    assert alike.human is None
    assert alike.passed
    assert "all are alike" in alike.warnings[0]


def test_other_pictures_warn_and_never_fail_unless_not_finite() -> None:
    c = scores(250, seed=9)
    good = measure(A, A, other=OtherScores("generated", c, noisy(c, 0.004))).other
    assert good is not None
    assert good.spearman == pytest.approx(scipy.stats.spearmanr(c, noisy(c, 0.004)).statistic)
    found = measure(A, A, other=OtherScores("generated", c, noisy(c, 0.04)))
    assert found.passed
    assert "generated: Spearman with float scores 0.8" in found.warnings[0]
    few = measure(A, A, other=OtherScores("generated", c[:50], c[:50]))
    assert "50 pictures; expected at least 200" in few.warnings[0]
    flat = measure(A, A, other=OtherScores("generated", np.full(200, 0.5), np.full(200, 0.5)))
    assert "constant" in flat.warnings[0]
    broken = measure(A, A, other=OtherScores("generated", c, np.full(250, np.nan)))
    assert not broken.passed


def test_arrays_that_do_not_fit() -> None:
    for arguments in ((A, A[:-1]), ([], []), (A[:, None], A[:, None])):
        with pytest.raises(ExportError, match="the fidelity gate got"):
            measure(*arguments)
    with pytest.raises(ExportError, match="299 human scores for 300"):
        measure(A, A, human=A[:-1])
    with pytest.raises(ExportError, match="expected as many"):
        measure(A, A, other=OtherScores("x", A, A[:-1]))
