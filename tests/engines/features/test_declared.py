"""Every extractor: what it declares, what it refuses, and pictures of awkward sizes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers_features import extract, host_node, textured
from memedge_engines import extractors, features
from memedge_engines.errors import BundleError, EngineError

PICTURE = {  # extractor: channels, side of a square picture or 0 for any
    "hmp-blocks": (1, 0),
    "colorhist-rgb": (3, 0),
    "colorhist-hsv": (3, 0),
    "lbp122": (1, 0),
    "lbp59": (1, 0),
    "aes-lite": (3, 0),
    "hog": (3, 256),
    "brightness": (3, 0),
    "contrast": (3, 0),
    "blurriness": (3, 0),
}
OTHERS = {"hmp-codes", "hmp", "flow-magnitude", "flow-field", "flow-clip"}


def picture(name: str, height: int, width: int, level: int | None = None) -> np.ndarray:
    channels, side = PICTURE[name]
    rgb = textured(side or height, side or width) if level is None else np.full((height, width, 3), level, np.uint8)
    return rgb[..., :channels].copy()


def test_all_of_them_are_declared_and_registered() -> None:
    assert set(features.names()) == set(PICTURE) | OTHERS
    for name in features.names():
        assert features.declared(name).version == 1
        assert extractors.find(host_node(name, version=1))
    sizes = {"hmp": 6075, "colorhist-rgb": 768, "lbp122": 122, "lbp59": 59, "aes-lite": 40, "hog": 34_596}
    assert {name: features.declared(name).dim for name in sizes} == sizes
    assert features.declared("hmp").per == "video"
    assert features.declared("mean") is None


@pytest.mark.parametrize("name", PICTURE)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (15, 33), (50, 7)])
def test_tiny_and_odd_pictures_give_finite_numbers_of_the_declared_length(name: str, size: tuple[int, int]) -> None:
    found = extract(name, picture(name, *size))
    assert np.isfinite(found).all()
    dim = features.declared(name).dim
    assert dim is None or found.shape == (dim,)


@pytest.mark.parametrize("name", [name for name, (_, side) in PICTURE.items() if not side])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_give_finite_numbers(name: str, level: int) -> None:
    assert np.isfinite(extract(name, picture(name, 40, 56, level))).all()


@pytest.mark.parametrize("name", PICTURE)
def test_the_same_picture_gives_the_same_numbers(name: str) -> None:
    one = picture(name, 48, 60)
    before = one.copy()
    first, second = extract(name, one), extract(name, one)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(one, before)  # the executor keeps pictures: nothing writes into them


@pytest.mark.parametrize("name", PICTURE)
def test_what_is_no_such_picture_is_refused(name: str) -> None:
    channels = PICTURE[name][0]
    wrong = [
        np.zeros((32, 32, 4 - channels), np.uint8),
        np.zeros((32, 32, channels), np.float32),
        np.zeros(7, np.uint8),
    ]
    for value in wrong:
        with pytest.raises(
            EngineError, match=rf"node '{name}'.*expected a picture, uint8 \[height, width, {channels}\]"
        ):
            extract(name, value)
    with pytest.raises(EngineError, match=r"2 elements .*expected last = 1"):
        extract(name, picture(name, 32, 32), picture(name, 32, 32))


def test_hog_takes_one_size_only() -> None:
    with pytest.raises(EngineError, match="100x64; expected 256x256"):
        extract("hog", textured(64, 100))


def test_another_version_of_an_extractor_is_refused() -> None:
    with pytest.raises(BundleError, match=r"version 2 of the extractor lbp59; this memedge has version 1.*fix: export"):
        extractors.find(host_node("lbp59", version=2))


def test_an_unknown_extractor_names_the_nearest() -> None:
    with pytest.raises(BundleError, match="no host node 'lbp58'; did you mean 'lbp59'"):
        extractors.find(host_node("lbp58"))
