"""Optical flow on pictures that move by a known distance, and what is told without OpenCV."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from helpers_features import extract, textured
from memedge_engines.errors import EngineError
from memedge_engines.features.flow import flow

_REASON = "OpenCV is absent: the extra opencv is not installed"


def moved(right: int, down: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Two grey pictures ``[size, size, 1]``; the second shows the first one's content moved."""
    ground = textured(size + 64, size + 64, 2, noise=8)[..., :1]
    first = ground[32 : 32 + size, 32 : 32 + size]
    second = ground[32 - down : 32 - down + size, 32 - right : 32 - right + size]
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize("shift", [(3, 0), (-2, 4)])
def test_flow_finds_a_shift(method: str, shift: tuple[int, int]) -> None:
    pytest.importorskip("cv2", reason=_REASON)
    first, second = moved(*shift)
    field = flow(first[..., 0], second[..., 0], method)
    assert field.shape == (2, 128, 128)
    inner = field[:, 24:-24, 24:-24]
    assert np.median(inner, (1, 2)) == pytest.approx(shift, abs=0.3)


def test_magnitude_is_the_log_of_the_mean_length() -> None:
    pytest.importorskip("cv2", reason=_REASON)
    first, second = moved(3, 4)
    for method in ("farneback", "dis"):
        found = extract("flow-magnitude", first, second, method=method)
        assert found.shape == (1,)
        assert found[0] == pytest.approx(np.log(6), abs=0.15)
    assert extract("flow-magnitude", first, first)[0] == pytest.approx(0, abs=0.01)


def test_field_is_clipped_scaled_and_cropped() -> None:
    pytest.importorskip("cv2", reason=_REASON)
    first, second = moved(4, -2)
    whole = extract("flow-field", first, second)
    assert whole.shape == (2, 128, 128)
    assert np.median(whole, (1, 2)) == pytest.approx((4 / 20, -2 / 20), abs=0.02)
    np.testing.assert_array_equal(extract("flow-field", first, second, crop=112), whole[:, 8:-8, 8:-8])
    far = extract("flow-field", *moved(30, 0))
    assert np.abs(far).max() <= 1


def test_what_cannot_be_compared_is_refused() -> None:
    first, second = moved(1, 1)
    with pytest.raises(EngineError, match="1 pictures for flow-magnitude; expected last = 2"):
        extract("flow-magnitude", first)
    with pytest.raises(EngineError, match=r"\[128, 128\] and \[64, 128\]; expected two of one size"):
        extract("flow-field", first, second[:64])
    with pytest.raises(EngineError, match="16 pixels or more a side"):
        extract("flow-field", first[:8], second[:8])
    with pytest.raises(EngineError, match="option method = 'lucas'; expected one of dis, farneback, tvl1"):
        extract("flow-field", first, second, method="lucas")


def test_a_crop_larger_than_the_field_is_refused() -> None:
    pytest.importorskip("cv2", reason=_REASON)
    with pytest.raises(EngineError, match=r"crop 200 of a flow field \[128, 128\]"):
        extract("flow-field", *moved(1, 1), crop=200)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EngineError, match=r"optical flow needs OpenCV.*fix: pip install 'memedge\[opencv\]'"):
        extract("flow-magnitude", *moved(1, 0))


def test_tv_l1_runs_or_names_the_package_that_has_it() -> None:
    cv2 = pytest.importorskip("cv2", reason=_REASON)
    first, second = moved(2, 1, 64)
    if hasattr(cv2, "optflow"):
        assert np.median(flow(first[..., 0], second[..., 0], "tvl1"), (1, 2)) == pytest.approx((2, 1), abs=0.3)
    else:
        with pytest.raises(EngineError, match=r"no TV-L1 flow.*opencv-contrib-python"):
            extract("flow-field", first, second, method="tvl1")
