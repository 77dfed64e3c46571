from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from helpers_training import write_set
from memedge.errors import UsageError
from memedge_engines.manifest import Training
from memedge_export import export_bundle, models, weights
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.data import open_data
from memedge_export.errors import WeightsError
from memedge_export.eval import metrics
from memedge_export.eval.evaluate import evaluate, predictions, record_result


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 12, 60) / 7, rng.normal(size=60)
    assert metrics.spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert metrics.pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert np.array_equal(metrics.ranks(a), scipy.stats.rankdata(a))


def test_interval_is_that_of_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = a + rng.normal(size=200) * 2
    result = metrics.evaluate(a, b)
    reference = scipy.stats.bootstrap(
        (a, b), lambda x, y: scipy.stats.spearmanr(x, y).statistic, paired=True, vectorized=False,
        n_resamples=1000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert result.spearman_interval == pytest.approx((reference.low, reference.high), abs=0.02)
    assert result.mse == pytest.approx(np.mean((a - b) ** 2))
    assert result == metrics.evaluate(a, b)


def test_constant_scores_have_no_correlation() -> None:
    result = metrics.evaluate(np.full(20, 0.5), np.linspace(0, 1, 20))
    assert (result.spearman, result.spearman_interval, result.pearson) == (None, None, None)


def test_quantiles_rise_and_reach_both_ends() -> None:
    values = np.random.default_rng(0).normal(size=500)
    found = metrics.quantiles(values)
    assert len(found) == 101
    assert list(found) == sorted(found)
    assert (found[0], found[50], found[100]) == pytest.approx((values.min(), np.median(values), values.max()), abs=1e-6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = weights.build(models.entry("resnet-s"), seed=1, width=0.25)
    network.linear.bias.data.fill_(0.5)
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    info = CheckpointInfo(
        model="resnet-s", preprocess=models.squash_preset(24, 24), width=0.25, training=Training(status="trained")
    )
    save(path, network.state_dict(), info)
    return path


def test_bundle_and_checkpoint_score_alike(checkpoint: Path, tmp_path: Path) -> None:
    records = open_data(f"folder:{write_set(tmp_path, 12)}").split("all")
    bundle = export_bundle.export("resnet-s", str(checkpoint), tmp_path / "bundle")
    by_torch = predictions(checkpoint, records)
    assert np.ptp(by_torch) > 1e-3
    np.testing.assert_allclose(predictions(bundle.path, records), by_torch, atol=1e-4)


def test_a_recorded_result_reaches_the_metadata(checkpoint: Path, tmp_path: Path) -> None:
    data = open_data(f"folder:{write_set(tmp_path, 40)}")
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    records = data.split("test")
    result = evaluate(predictions(copy, records), [r.score for r in records])
    record_result(copy, data, "test", result)
    training = weights.load("resnet-s", str(copy)).training
    assert training.held_out == "list test (10 pictures)"
    assert training.spearman == pytest.approx(result.spearman, abs=1e-4)
    assert np.array_equal(predictions(copy, records), predictions(checkpoint, records))


def test_targets_that_cannot_be_evaluated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to evaluate"):
        predictions(tmp_path / "none", [])
    from safetensors.torch import save_file

    save_file(weights.build(models.entry("resnet-s"), seed=0, width=0.25).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="does not say which model"):
        predictions(tmp_path / "w.safetensors", [])
    data = open_data(f"folder:{write_set(tmp_path, 4)}")
    with pytest.raises(WeightsError, match="not a checkpoint"):
        record_result(tmp_path / "w.safetensors", data, "test", metrics.evaluate([0.1, 0.2], [0.1, 0.2]))
