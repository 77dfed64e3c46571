from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from memedge_export.blocks.dsve import DsveTower
from memedge_export.blocks.unit_norm import unit_norm
from memedge_export.blocks.weldon import SpatialAttention2d, WeldonPool2d
from memedge_export.models import count


def _weldon(x: np.ndarray, places: int) -> np.ndarray:
    """Largest and smallest values by sorting, channel by channel."""
    ordered = np.sort(x.reshape(*x.shape[:2], -1), axis=2)
    return ordered[:, :, -places:].mean(2) + ordered[:, :, :places].mean(2)


@pytest.mark.parametrize("size", [(8, 8), (3, 7)])
def test_weldon_is_the_mean_of_the_15_largest_and_of_the_15_smallest(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, *size)).astype(np.float32)
    assert np.allclose(WeldonPool2d()(torch.from_numpy(x)).numpy(), _weldon(x, 15), atol=1e-6)


def test_weldon_on_a_map_of_few_places_is_twice_its_mean() -> None:
    x = torch.randn(2, 5, 2, 3)
    assert torch.allclose(WeldonPool2d()(x), 2 * x.mean((2, 3)), atol=1e-6)


def test_attention_is_a_softmax_over_places_and_even_attention_changes_nothing() -> None:
    torch.manual_seed(0)
    attention = SpatialAttention2d(6)
    seen, weighted = torch.randn(2, 6, 4, 5), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        assert torch.allclose(attention(seen, weighted)[0], weighted, atol=1e-6)
        nn.init.normal_(attention.conv.weight)
        nn.init.normal_(attention.conv.bias)
        product, weights = attention(seen, weighted)
        logits = np.einsum("bchw,c->bhw", seen.numpy(), attention.conv.weight.numpy()[0, :, 0, 0])
        expected = np.exp(logits + attention.conv.bias.item())
        expected /= expected.sum((1, 2), keepdims=True)
        assert np.allclose(weights.numpy()[:, 0], expected, atol=1e-6)
        assert np.allclose(product.numpy(), weighted.numpy() * expected[:, None] * 20, atol=1e-5)


def test_a_vector_of_zeros_stays_one() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert unit_norm(x).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_golden_counts() -> None:
    with torch.device("meta"):
        plain, attended = DsveTower(), DsveTower(attention=True)
    assert (count.parameters(plain), count.parameters(attended)) == (68_823_808, 68_823_808 + 2_049)
