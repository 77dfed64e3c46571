"""Losses against the specification's golden vectors and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from memedge_export.errors import TrainingError
from memedge_export.train import losses, ranks, sorter
from memedge_export.train.losses import Batch, ScoreStatistics

X = torch.tensor([0.10, 0.40, 0.35, 0.80], dtype=torch.float64)
M = torch.tensor([0.2, 0.3, 0.9, 0.6], dtype=torch.float64)
LAMEM = ScoreStatistics(0.754, 0.12)


def outputs(score):
    return {"score": torch.as_tensor(score, dtype=torch.float32).reshape(len(score), -1)}


def batch(targets, **more):
    return Batch(torch.as_tensor(targets, dtype=torch.float32).reshape(len(targets), -1), **more)


@pytest.mark.parametrize(
    ("eps", "expected"),
    [
        (1.0, [2.1875, 2.4875, 2.4375, 2.8875]),
        (0.5, [1.875, 2.475, 2.375, 3.275]),
        (0.2, [1.083333, 2.583333, 2.333333, 4]),
        (0.1, [1, 2.75, 2.25, 4]),
        (0.05, [1, 3, 2, 4]),
        (0.01, [1, 3, 2, 4]),
    ],
)
def test_soft_ranks_golden(eps, expected):
    assert ranks.soft_rank(X, eps).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("eps", "expected"), [(1.0, 0.400165), (0.5, 0.400165), (0.2, 0.495674), (0.1, 0.519875), (0.01, 0.4)]
)
def test_smooth_spearman_golden(eps, expected):
    assert float(-losses.spearman_loss(X, M, eps)) == pytest.approx(expected, abs=1e-6)


def test_soft_ranks_against_pool_adjacent_violators():
    rng = np.random.default_rng(3)
    for _ in range(40):
        count, eps = int(rng.integers(2, 40)), float(10 ** rng.uniform(-3, 0.5))
        values = rng.normal(size=count)
        order = np.argsort(-values)
        ordered = values[order] / eps
        fit = scipy.optimize.isotonic_regression(ordered - np.arange(count, 0, -1), increasing=False).x
        expected = np.empty(count)
        expected[order] = ordered - fit
        assert ranks.soft_rank(torch.from_numpy(values), eps).numpy() == pytest.approx(expected, abs=1e-8)


def test_soft_ranks_have_the_stated_gradient():
    """In sorted order: g less its mean over each constant block of the fit, divided by eps."""
    rng = np.random.default_rng(5)
    values, eps = rng.normal(size=12), 0.3
    weights = rng.normal(size=12)
    tensor = torch.from_numpy(values).requires_grad_()
    (ranks.soft_rank(tensor, eps) * torch.from_numpy(weights)).sum().backward()
    order = np.argsort(-values)
    fit = scipy.optimize.isotonic_regression(values[order] / eps - np.arange(12, 0, -1), increasing=False).x
    sorted_g, expected = weights[order], np.empty(12)
    for level in np.unique(np.round(fit, 9)):
        block = np.round(fit, 9) == level
        expected[order[block]] = (sorted_g[block] - sorted_g[block].mean()) / eps
    assert tensor.grad.numpy() == pytest.approx(expected, abs=1e-8)


def test_hard_and_spread_ranks():
    values = torch.tensor([0.3, 0.1, 0.3, 0.9])
    assert ranks.hard_rank(values).numpy() == pytest.approx(scipy.stats.rankdata(values.numpy()))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(size=64))
    soft = ranks.soft_rank(x, ranks.spread_eps(x)).numpy()
    assert np.corrcoef(soft, scipy.stats.rankdata(x.numpy()))[0, 1] > 0.95
    with pytest.raises(ValueError, match="at most 4096"):
        ranks.soft_rank(torch.zeros(4097), 1.0)


def test_pairwise_ranks():
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=30))
    # For any input the ranks add up to (n + 1) / 2; steep enough they are the hard ranks from the top.
    assert float(ranks.pairwise_rank(x).sum()) == pytest.approx(31 / 2)
    hard = (31 - scipy.stats.rankdata(x.numpy())) / 30
    assert ranks.pairwise_rank(x, 1e6).numpy() == pytest.approx(hard, abs=1e-9)
    # The authors' loop, term by term.
    values = x.numpy()
    difference = np.triu(values[None, :] - values[:, None], 1)
    c = 6.8 / difference.std(ddof=1)
    first = (1 + sum(1 / (1 + np.exp(-c * (values[j] - values[0]))) for j in range(1, 30))) / 30
    assert float(ranks.pairwise_rank(x)[0]) == pytest.approx(first, rel=1e-6)


def test_mse_l1_and_missing_targets():
    score, target = [[0.5, 0.2], [0.7, 0.9]], [[0.4, float("nan")], [0.9, 0.5]]
    mse = losses.build(losses.Mse(), LAMEM)(outputs(score), batch(target))
    assert float(mse) == pytest.approx((0.5 * (0.01 + 0.04) + 0.16) / 2)
    l1 = losses.build(losses.L1(), LAMEM)(outputs(score), batch(target))
    assert float(l1) == pytest.approx((0.15 + 0.4) / 2)
    nothing = losses.build(losses.Mse(), LAMEM)(outputs([[0.5]]), batch([[float("nan")]]))
    assert float(nothing) == 0


def test_tail_weights_are_the_published_ones():
    spec = losses.MseTails(center=0.80099205, normalise=False)
    loss = losses.build(spec, LAMEM)
    for target, weight in ((0.5, 1.0164), (0.6, 1.0033), (0.7, 1.0002), (1.0, 1.0031)):
        assert float(loss(outputs([[0.0]]), batch([[target]]))) / target**2 == pytest.approx(weight, abs=5e-5)
    scaled = losses.build(losses.MseTails(scale=True, normalise=False), LAMEM)
    assert float(scaled(outputs([[0.0]]), batch([[0.754 + 0.12]]))) / 0.874**2 == pytest.approx(3.0, rel=1e-5)
    even = losses.build(losses.MseTails(), LAMEM)(outputs([[0.5], [0.5]]), batch([[0.6], [0.6]]))
    assert float(even) == pytest.approx(0.01, rel=1e-5)


def test_schedule_from_mse_to_spearman():
    loss = losses.build(losses.Scheduled(eps=1.0), LAMEM)
    score, target = X.float()[:, None], M.float()[:, None]
    mse, pearson = float(((X - M) ** 2).mean()), 0.400165
    for part in (0.0, 0.25, 1.0):
        found = loss({"score": score}, Batch(target, part=part))
        assert float(found) == pytest.approx((1 - part) * mse - part * pearson / 100, abs=1e-6)


def test_sodeep_falls_when_the_order_is_right():
    loss = losses.build(losses.Sodeep(), LAMEM)
    target = torch.linspace(0.4, 0.9, 20)[:, None]
    right, wrong = target * 0.5, target.flip(0)
    later = Batch(target, epoch=3)
    assert float(loss({"score": right}, later)) < 0.1 * float(loss({"score": wrong}, later))
    warm = loss({"score": right}, Batch(target, epoch=0)) - loss({"score": right}, later)
    assert float(warm) == pytest.approx(float((target * 0.5).mean()), rel=1e-5)


def test_classes():
    spec = losses.Classes(count=4, cuts=(0.68, 0.77, 0.85))
    logits = torch.eye(4) * 50
    target = batch([[0.5], [0.68], [0.80], [0.85]])
    assert float(losses.build(spec, LAMEM)({"class_logits": logits}, target)) == pytest.approx(0, abs=1e-6)
    by_quantile = losses.class_cuts(losses.Classes(count=2), ScoreStatistics(0.7, 0.1, {2: (0.71,)}))
    assert by_quantile == (0.71,)
    with pytest.raises(TrainingError, match="2 to 8"):
        losses.class_cuts(losses.Classes(count=9), LAMEM)
    with pytest.raises(TrainingError, match="3 rising"):
        losses.class_cuts(losses.Classes(count=4, cuts=(0.6, 0.5, 0.7)), LAMEM)


def test_amnet():
    attention = torch.tensor([[[[0.5, 0.5]], [[0.9, 0.1]], [[0.2, 0.8]]]])
    outputs = torch.tensor([[0.1, 0.2, 0.3]])  # of the steps, in the network's own scale: their mean is 0.2
    found = losses.build(losses.AmNet(gamma=0.1), LAMEM)(
        {"step_scores": (outputs / 2 + 0.754) / 3, "attn": attention}, batch([[0.9]])
    )
    assert float(found) == pytest.approx((0.2 - 0.292) ** 2 + 0.1 * ((0.6 - 1.6) ** 2 + (0.6 - 1.4) ** 2), rel=1e-5)


def test_decay_line():
    loss = losses.build(losses.Decay(), LAMEM)
    # Exactly right: the score at 180 of a label at 80 with slope -.001 is .1 lower.
    right = {"score": torch.tensor([[0.7]]), "alpha": torch.tensor([[-0.001]])}
    extra = {"alpha": torch.tensor([-0.001])}
    assert float(loss(right, batch([[0.8]], extra=extra))) == pytest.approx(0, abs=1e-6)
    off = {"score": torch.tensor([[0.8]]), "alpha": torch.tensor([[-0.001]])}
    assert float(loss(off, batch([[0.8]], extra=extra))) == pytest.approx(0.1 + 100 * 0.01, rel=1e-4)


@pytest.mark.parametrize(("spec", "name"), [(losses.AmNet(), "step_scores"), (losses.Decay(), "alpha")])
def test_a_model_without_the_outputs_of_a_loss(spec, name):
    with pytest.raises(TrainingError, match=f"needs the output {name}; this model gives score .*--recipe"):
        losses.build(spec, LAMEM)(outputs([[0.5]]), batch([[0.5]], extra={"alpha": torch.zeros(1)}))


def test_sorter_size_and_draws():
    with torch.device("meta"):
        published = sorter.LstmSorter()
    assert sum(p.numel() for p in published.parameters()) == 18_649_188
    drawn = sorter.draw(64, 8, torch.Generator().manual_seed(0))
    assert drawn.shape == (64, 8)
    assert drawn.abs().max() <= 1
    expected = np.stack([9 - scipy.stats.rankdata(row, method="ordinal") for row in drawn.numpy()]) / 8
    distinct = [len(set(row.tolist())) == 8 for row in drawn]
    assert sorter.true_ranks(drawn).numpy()[distinct] == pytest.approx(expected[distinct], abs=1e-6)


def test_a_sorter_learns_is_kept_and_used(tmp_path):
    error = sorter.train_sorter(tmp_path / "s.safetensors", length=8, hidden=48, steps=300, batch=24)
    assert error < 0.19  # guessing the middle for every value is off by a quarter
    loss = losses.build(losses.Sodeep(sorter=str(tmp_path / "s.safetensors"), warm_up=0), LAMEM)
    score = torch.rand(8, 1, requires_grad=True)
    loss({"score": score}, batch(torch.rand(8, 1))).backward()
    assert torch.isfinite(score.grad).all()
    with pytest.raises(TrainingError, match=r"takes 8 scores.*--batch 8"):
        loss({"score": torch.rand(9, 1)}, batch(torch.rand(9, 1)))
    with pytest.raises(TrainingError, match="not a sorter"):
        losses.build(losses.Sodeep(sorter=str(tmp_path / "none")), LAMEM)
