"""Local binary patterns against scikit-image, and patterns written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_features import extract, textured
from memedge_engines.features.lbp import rotation_invariant, uniform

_REASON = "scikit-image is absent: the extra dev is not installed"


@pytest.mark.parametrize("size", [(64, 70), (37, 12), (9, 90)])
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_equal_scikit_image(size: tuple[int, int], seed: int) -> None:
    feature = pytest.importorskip("skimage.feature", reason=_REASON)
    noise = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    picture = noise if seed else textured(*size)[..., 0]
    np.testing.assert_array_equal(uniform(picture), feature.local_binary_pattern(picture, 8, 1, "nri_uniform"))
    np.testing.assert_array_equal(
        rotation_invariant(picture), feature.local_binary_pattern(picture, 120, 15, "uniform")
    )


def test_histograms_are_shares_of_the_labels() -> None:
    feature = pytest.importorskip("skimage.feature", reason=_REASON)
    picture = textured(45, 52, 5)[..., :1]
    for name, (points, radius, method, count) in {
        "lbp59": (8, 1, "nri_uniform", 59),
        "lbp122": (120, 15, "uniform", 122),
    }.items():
        labels = feature.local_binary_pattern(picture[..., 0], points, radius, method)
        expected = np.histogram(labels, np.arange(count + 1))[0] / labels.size
        np.testing.assert_allclose(extract(name, picture), expected, rtol=0, atol=1e-7)


def test_a_flat_picture_has_all_neighbours_as_light_as_the_centre() -> None:
    """Away from the border, whose outside is black; weights that add up to nearly 1 would break this."""
    for level in (1, 77, 200, 255):
        picture = np.full((50, 60), level, np.uint8)
        assert (rotation_invariant(picture)[16:-16, 16:-16] == 120).all()
        assert (uniform(picture)[1:-1, 1:-1] == 57).all()
    assert (rotation_invariant(np.zeros((20, 20), np.uint8)) == 120).all()


def test_a_light_point_and_an_edge() -> None:
    point = np.full((5, 5), 10, np.uint8)
    point[2, 2] = 200
    assert uniform(point)[2, 2] == 0  # no neighbour is as light
    edge = np.zeros((40, 41), np.uint8)
    edge[:, 20:] = 100
    # On the light side of the edge half of the circle, with both of its ends, is as light as the centre.
    assert rotation_invariant(edge)[20, 20] == 61


def test_label_58_and_121_are_the_patterns_that_change_often() -> None:
    checkers = np.indices((40, 40)).sum(0) % 2 * 255
    checkers = checkers.astype(np.uint8)
    assert uniform(checkers)[20, 20] in (57, 58)
    stripes = np.repeat((np.arange(40) % 2 * 255).astype(np.uint8)[None], 40, 0)
    light = np.argwhere(stripes[20] == 255)[5, 0]
    # Above and below as light, left and right darker: four changes around the circle.
    assert uniform(stripes)[20, light] == 58
    noise = np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8)
    assert (rotation_invariant(noise)[20:40, 20:40] == 121).mean() > 0.75
