"""Ranges against ONNX Runtime's own calibrators and numpy on the values themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from memedge.errors import UsageError
from memedge_export.quant.calib_statistics import HALF, Statistics, TensorStatistics
from memedge_export.quant.methods import entropy_bins, range_of
from memedge_export.quant.ranges import graph_hash


def values_of(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    data = {
        "normal": rng.normal(0, 1, 300_000),
        "laplace": rng.laplace(0, 0.3, 300_000),
        "half": np.abs(rng.normal(0, 2, 300_000)),
        "tail": np.concatenate([np.abs(rng.normal(0, 1, 300_000)), rng.uniform(10, 40, 30)]),
        "uniform": rng.uniform(-3, 3, 300_000),
    }[kind]
    return data.astype(np.float32)


def statistics(values: np.ndarray) -> TensorStatistics:
    found = TensorStatistics()
    for part in np.array_split(values, 7):
        found.add(part)
    return found


def ort(values: np.ndarray, method: str, *, symmetric: bool, bins: int, levels: int, **options: Any) -> Any:
    """Range by ONNX Runtime's collector: (low, high)."""
    collector = HistogramCollector(
        method=method, symmetric=symmetric, num_bins=bins, num_quantized_bins=levels, percentile=99.9, scenario="same"
    )
    collector.collect({"x": [values]})
    low, high = collector.compute_collection_result()["x"][:2]
    return float(low), float(high)


@pytest.mark.parametrize("kind", ["normal", "laplace", "half", "tail", "uniform"])
def test_minmax_is_exact(kind: str) -> None:
    values = values_of(kind)
    assert range_of(statistics(values), "minmax") == (values.min(), values.max())


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 99.99])
@pytest.mark.parametrize("kind", ["normal", "laplace", "half", "tail", "uniform"])
def test_percentile_is_numpys_within_one_bin(kind: str, percentile: float) -> None:
    values = values_of(kind)
    found = statistics(values)
    low, high = range_of(found, "percentile", percentile)
    expected = float(np.percentile(np.abs(values), percentile, method="inverted_cdf"))
    threshold = max(-low, high)
    assert expected <= threshold * (1 + 1e-6)
    assert threshold <= expected + found.width * (1 + 1e-6)
    assert (np.abs(values) <= threshold).mean() >= percentile / 100
    assert low == (0 if values.min() >= 0 else low) or low == values.min()


@pytest.mark.parametrize("kind", ["normal", "half", "tail", "uniform"])
def test_percentile_is_onnxruntimes_within_its_bins(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = values_of(kind)
    found = statistics(values)
    # Never negative: ONNX Runtime's symmetric form is a percentile of |x|; signed: its other form cuts both sides.
    expected = ort(values, "percentile", symmetric=values.min() >= 0, bins=4096, levels=128)
    low, high = range_of(found, "percentile", 99.9)
    step = found.width + 2 * float(np.abs(values).max()) / 4096
    noise = 0.05 if values.min() < 0 else 0.0  # its two sides are estimated apart, each from half as many values
    assert high == pytest.approx(expected[1], abs=step + noise)
    if values.min() < 0:
        assert low == pytest.approx(expected[0], abs=step + noise)


@pytest.mark.parametrize("kind", ["normal", "laplace", "half", "uniform"])
def test_entropy_clips_about_where_onnxruntime_does(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both at 512 bins a side, since the search starts at as many bins as there are levels.

    ONNX Runtime truncates its quantised histogram to integers and puts what does not divide evenly into the last level;
    one bin more or fewer moves its threshold by a tenth or more. So this can only be near; the exact check is below.
    """
    magnitudes = np.abs(values_of(kind))
    # The values with both signs: 256 levels over both sides are this module's 128 levels of magnitude.
    both = np.concatenate([magnitudes, -magnitudes])
    expected = ort(both, "entropy", symmetric=False, bins=1024, levels=256)[1]
    largest = float(magnitudes.max())
    histogram = np.histogram(magnitudes, 512, (0, largest))[0]
    assert entropy_bins(histogram) * largest / 512 == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("kind", ["normal", "laplace", "half", "tail", "uniform"])
def test_entropy_range_lies_within_what_was_seen(kind: str) -> None:
    values = values_of(kind)
    low, high = range_of(statistics(values), "entropy")
    assert values.min() <= low <= 0 or low == values.min()
    assert 0 < high <= values.max()
    assert (np.abs(values) <= max(-low, high)).mean() > 0.999


def brute_force(histogram: np.ndarray, sizes: range) -> dict[int, float]:
    """The published algorithm, written out with loops: divergence of each number of bins kept."""
    counts = [float(c) for c in histogram]
    counts[0] = counts[1]
    found = {}
    for size in sizes:
        p = counts[:size]
        outside = sum(counts[size:])
        groups: dict[int, list[int]] = {}
        for index in range(size):
            groups.setdefault(index * 128 // size, []).append(index)
        q = [0.0] * size
        for members in groups.values():
            filled = [m for m in members if counts[m]]
            for m in filled:
                q[m] = sum(counts[k] for k in members) / len(filled)
        p = [*p[:-1], p[-1] + outside]
        sum_p, sum_q = sum(p), sum(q)
        terms = [a / sum_p * np.log((a / sum_p) / (b / sum_q)) if b else np.inf for a, b in zip(p, q, strict=True) if a]
        found[size] = float(sum(terms))
    return found


def test_entropy_finds_the_least_divergence_of_the_published_algorithm() -> None:
    rng = np.random.default_rng(4)
    found = statistics(np.maximum(rng.standard_t(4, 60_000), 0).astype(np.float32))
    histogram = found.magnitudes()
    used = int(np.flatnonzero(histogram)[-1]) + 1
    best = entropy_bins(histogram)
    divergences = brute_force(histogram, range(128, used + 1, 40))
    at_best = brute_force(histogram, range(best, best + 1))[best]
    assert at_best <= min(divergences.values()) + 1e-12
    assert best < used


def test_many_exact_zeros_do_not_pull_the_threshold_down() -> None:
    values = values_of("half")
    zeros = np.concatenate([values, np.zeros(9 * values.size, np.float32)])
    assert range_of(statistics(zeros), "entropy")[1] == range_of(statistics(values), "entropy")[1] < values.max()


def test_few_bins_and_constants_keep_their_range() -> None:
    for data in ([3.0], [-2.0, -2.0], [5.0, 5.5], [0.0, 1e-38], [-1.0, 0.0]):
        found = statistics(np.float32(data))
        for method in ("minmax", "percentile", "entropy"):
            low, high = range_of(found, method, 100)
            assert np.float32(min(data)) <= low <= high <= np.float32(max(data))
            assert max(-low, high) == pytest.approx(np.abs(np.float32(data)).max(), abs=found.width)


def test_percentile_100_is_minmax_and_range_only_tensors_have_theirs() -> None:
    values = values_of("tail")
    assert range_of(statistics(values), "percentile", 100) == range_of(statistics(values), "minmax")
    found = TensorStatistics(counts=None)
    found.add(np.float32([-7, 2]))
    assert range_of(found, "entropy") == (-7, 2)
    assert range_of(TensorStatistics(), "entropy") == (0, 0)


def test_bad_methods_are_refused() -> None:
    made = Statistics(graph_hash(b""), "test", ["a"], {"x": statistics(values_of("half"))})
    assert made.table().method == "percentile"
    with pytest.raises(UsageError, match="--calib-method kl; expected one of auto, minmax, percentile, entropy"):
        made.table("kl")
    with pytest.raises(UsageError, match=r"percentile 101; expected 50\.\.100"):
        made.table("percentile", 101)


def test_table_holds_ranges_of_every_tensor_and_untouched_magnitudes() -> None:
    values = values_of("tail")
    made = Statistics(graph_hash(b""), "test", ["a", "b"], {"x": statistics(values), "y": statistics(-values)})
    table = made.table("percentile", 99.0)
    assert table.tensors["x"][1] == -table.tensors["y"][0] < 5
    assert table.tensors["x"][0] == values.min()
    assert table.magnitudes["x"] == table.magnitudes["y"] == values.max()
    assert HALF == 2048
