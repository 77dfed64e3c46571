"""Fixed-point tables against the float reference's weights, gains and host rounding."""

from __future__ import annotations

import numpy as np
import pytest

from memedge_engines.frame import ColorMatrix, ColorRange
from memedge_engines.manifest import Crop, InputStorage, Preprocess, Resize
from memedge_engines.preprocess.color import ROUNDING, gains
from memedge_engines.preprocess.reference import bilinear_taps, triangle_taps
from memedge_engines.preprocess.tables import (
    CHROMA_BITS,
    LUMA_BITS,
    SUM_BITS,
    WEIGHT_BITS,
    axis_table,
    color_table,
    value_table,
)

SIZES = [(1080, 256), (1920, 455), (100, 256), (7, 3), (1, 5), (5, 1), (3, 4), (8192, 80), (64, 64)]


@pytest.mark.parametrize("filter_name", ["triangle", "bilinear"])
@pytest.mark.parametrize(("source", "resized"), SIZES)
def test_weights_are_the_reference_weights(source, resized, filter_name):
    table = axis_table(source, resized, 0, resized, filter_name)
    dense = np.zeros((resized, source))
    for row, (first, weights) in enumerate(zip(table.first, table.weights, strict=True)):
        assert 0 <= first <= source - len(weights)
        dense[row, first : first + len(weights)] = weights
    reference = (
        np.eye(source)
        if source == resized
        else {"triangle": triangle_taps, "bilinear": bilinear_taps}[filter_name](source, resized)
    )
    assert (dense.sum(axis=1) == 1 << WEIGHT_BITS).all()
    assert table.weights.min() >= 0
    assert np.abs(dense / (1 << WEIGHT_BITS) - reference).max() < 1.01 / (1 << WEIGHT_BITS)
    # Rounded cumulatively: no run of taps is off by more than one unit.
    runs = np.abs(np.cumsum(dense / (1 << WEIGHT_BITS) - reference, axis=1))
    assert runs.max() < 1.01 / (1 << WEIGHT_BITS)


def test_a_crop_is_a_part_of_the_whole_table():
    whole, part = axis_table(1920, 455, 0, 455, "triangle"), axis_table(1920, 455, 115, 224, "triangle")
    assert (whole.first[115:339] == part.first).all()
    assert (whole.weights[115:339] == part.weights[:, : whole.weights.shape[1]]).all()


@pytest.mark.parametrize("color_range", list(ColorRange))
@pytest.mark.parametrize("matrix", list(ColorMatrix))
def test_gains(matrix, color_range):
    fixed, exact = color_table(matrix, color_range), gains(matrix, color_range)
    assert fixed.luma / (1 << LUMA_BITS) == pytest.approx(exact.luma, abs=2**-31)
    for name in ("red_cr", "green_cb", "green_cr", "blue_cb"):
        assert getattr(fixed, name) / (1 << CHROMA_BITS) == pytest.approx(getattr(exact, name), abs=2**-30)
        # 16-bit vector units take the gain in two parts.
        assert -(1 << 15) <= (getattr(fixed, name) + (1 << 15)) >> 16 < 1 << 15
    assert (fixed.base - 1) / (1 << SUM_BITS) == pytest.approx(0.5 - exact.luma * exact.offset, abs=2**-22)
    # The largest sums fit 32 bits.
    assert 255 * exact.luma + 128 * max(exact.red_cr, exact.blue_cb) + 1 < 1 << (31 - SUM_BITS)


@pytest.mark.parametrize("color_range", list(ColorRange))
@pytest.mark.parametrize("matrix", list(ColorMatrix))
def test_levels_are_those_of_exact_arithmetic(matrix, color_range):
    """Every red there is, and random greens: at most one sample in 100,000 differs, by one level."""
    fixed, exact = color_table(matrix, color_range), gains(matrix, color_range)
    y, cr = np.meshgrid(np.arange(256), np.arange(-2048, 2033), indexing="ij")
    cb = np.random.default_rng(3).integers(-2048, 2033, y.shape)

    def level(*terms: tuple[int, np.ndarray]) -> np.ndarray:
        total = fixed.base + (fixed.luma * (y << 23) >> 32)
        total += sum(gain * (chroma << 20) >> 32 for gain, chroma in terms)
        assert np.abs(total).max() < 1 << 31
        return np.clip(total >> SUM_BITS, 0, 255)

    luma = exact.luma * (y - exact.offset)
    for found, value in (
        (level((fixed.red_cr, cr)), luma + exact.red_cr * cr / 16),
        (level((fixed.blue_cb, cr)), luma + exact.blue_cb * cr / 16),
        (level((fixed.green_cb, cb), (fixed.green_cr, cr)), luma + exact.green_cb * cb / 16 + exact.green_cr * cr / 16),
    ):
        difference = np.abs(found - np.floor(np.clip(value, 0, 255) + ROUNDING))
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= y.size // 100_000


def test_values_of_levels():
    contract = Preprocess(
        color="rgb",
        resize=Resize(rule="exact", size=(8, 8), filter="triangle"),
        crop=Crop(rule="none"),
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layout="nchw",
    )
    exact = (np.arange(256) / 255 - np.array([[0.485], [0.456], [0.406]])) / np.array([[0.229], [0.224], [0.225]])
    assert np.abs(value_table(contract, None) - exact).max() < 3e-7
    assert value_table(contract, InputStorage(dtype="float16")).dtype == np.float16
    quantized = value_table(contract, InputStorage(dtype="int8", scale=0.02))
    assert quantized.dtype == np.int8
    assert (quantized == np.clip(np.round(exact / 0.02), -128, 127)).all()
