from __future__ import annotations

import numpy as np
import pytest

from helpers_media import make_contract, noise_planes
from memedge_engines.errors import PreprocessError
from memedge_engines.frame import Frame, PixelFormat
from memedge_engines.manifest import Crop, Preprocess, Resize
from memedge_engines.preprocess import Preprocessor, reference_tensor, to_tensor


def pictures(count: int, channels: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (12, 10, channels), dtype=np.uint8) for _ in range(count)]


def formula(picture: np.ndarray, contract: Preprocess) -> np.ndarray:
    scaled = picture.astype(np.float64) * contract.scale
    return ((scaled - contract.mean) / contract.std).transpose(2, 0, 1)


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_layouts(color: str) -> None:
    channels = 1 if color == "gray" else 3
    window = pictures(4, channels)
    contract = make_contract(color=color)
    each = [formula(p, contract) for p in window]
    cases = {
        "nchw": np.stack(each),
        "ncthw": np.stack(each, axis=1)[None],
        "ntchw": np.stack(each)[None],
    }
    for layout, expected in cases.items():
        found = to_tensor(window, make_contract(color=color, layout=layout))
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.shape == expected.shape
        assert np.array_equal(found, expected.astype(np.float32))
    assert to_tensor(window[:1], contract).shape == (1, channels, 12, 10)


def test_equals_the_reference_on_the_same_levels() -> None:
    rgb = noise_planes(PixelFormat.RGB24, 20, 16)[0].reshape(16, 20, 3)
    contract = make_contract(None, 12)
    frame = Frame.from_rgb(rgb)
    assert np.array_equal(
        to_tensor([Preprocessor(contract).picture(frame)], contract), reference_tensor(frame, contract)
    )


def test_bad_pictures() -> None:
    contract = make_contract()
    with pytest.raises(PreprocessError, match="no picture"):
        to_tensor([], contract)
    with pytest.raises(PreprocessError, match=r"float32 \(12, 10, 3\); expected uint8 \[h, w, 3\]"):
        to_tensor([pictures(1)[0].astype(np.float32)], contract)  # type: ignore[list-item]
    with pytest.raises(PreprocessError, match=r"uint8 \(12, 10, 1\)"):
        to_tensor(pictures(1, 1), contract)
    with pytest.raises(PreprocessError, match="all of one size"):
        to_tensor([pictures(1)[0], pictures(1)[0][:5]], contract)


@pytest.mark.parametrize(
    ("mean", "std", "message"), [((0.5,), (1.0,), "1 means"), ((0.5,) * 3, (1.0, 0.0, 1.0), "zero")]
)
def test_bad_normalisation(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    contract = Preprocess(
        color="rgb", resize=Resize(rule="none"), crop=Crop(rule="none"), scale=1.0, mean=mean, std=std
    )
    with pytest.raises(PreprocessError, match=message):
        to_tensor(pictures(1), contract)
