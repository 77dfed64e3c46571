from __future__ import annotations

import numpy as np
import torch

from memedge_export.blocks.sru import NeutralEmbedding, SruLayer, SruStack
from memedge_export.models import count


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _step_by_step(layer: SruLayer, words: np.ndarray) -> np.ndarray:
    """One text ``[L, inputs]``, word by word and unit by unit of the published equations."""
    weight, bias = layer.linear.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy()
    hidden = bias.shape[1]
    state, found = np.zeros(hidden), []
    for word in words:
        fresh, forget, reset = weight[:hidden] @ word, weight[hidden : 2 * hidden] @ word, weight[2 * hidden :] @ word
        forget, reset = _sigmoid(forget + bias[0]), _sigmoid(reset[:hidden] + bias[1])
        skip = weight[3 * hidden :] @ word if len(weight) == 4 * hidden else word
        state = forget * state + (1 - forget) * fresh
        found.append(reset * np.tanh(state) + (1 - reset) * skip)
    return np.array(found)


def _tower(width: float = 0.01) -> SruStack:
    torch.manual_seed(0)
    tower = SruStack(width).eval()
    for layer in tower.layers:
        torch.nn.init.normal_(layer.bias)
    return tower


def test_layers_follow_the_published_recurrence() -> None:
    tower = _tower()
    words = np.random.default_rng(0).normal(size=(2, 9, 620))
    given = torch.from_numpy(words.astype(np.float32))
    with torch.no_grad():
        for layer in tower.layers:
            given = layer(given)
    for number, text in enumerate(words):
        for layer in tower.layers:
            text = _step_by_step(layer, text)
        assert np.allclose(given[number].numpy(), text, atol=1e-5)


def test_the_embedding_is_the_last_words_state_and_padding_does_not_count() -> None:
    tower = _tower()
    words = np.random.default_rng(1).normal(size=(5, 620)).astype(np.float32)
    expected = words.astype(np.float64)
    for layer in tower.layers:
        expected = _step_by_step(layer, expected)
    tokens = torch.full((1, 32, 620), 7.0)
    tokens[0, :5] = torch.from_numpy(words)
    mask = (torch.arange(32) < 5).float()[None]
    with torch.no_grad():
        found = tower(tokens, mask)[0].numpy()
    assert np.allclose(found, expected[-1] / np.linalg.norm(expected[-1]), atol=1e-5)


def test_no_words_give_the_neutral_embedding_which_is_the_mean_over_texts() -> None:
    tower, neutral = _tower(), NeutralEmbedding(24)
    tokens, mask = torch.randn(3, 32, 620), torch.ones(3, 32)
    mask[1] = 0
    with torch.no_grad():
        plain = tower(tokens, mask)
        assert not plain[1].any()
        assert torch.equal(neutral(plain, mask), plain)
        neutral.fit(plain)
        found = neutral(plain, mask)
    assert torch.allclose(neutral.embedding, (plain[0] + plain[2]) / 2)
    assert torch.equal(found[1], neutral.embedding)
    assert torch.equal(found[[0, 2]], plain[[0, 2]])
    assert torch.allclose(plain[[0, 2]].norm(dim=1), torch.ones(2))
    neutral.fit(torch.zeros(2, 24))  # no text at all: it stays
    assert neutral.embedding.any()


def test_dropout_hides_the_same_values_at_all_tokens_in_training_only() -> None:
    torch.manual_seed(0)
    layer = SruLayer(16, 16, dropout=0.5)
    torch.nn.init.zeros_(layer.linear.weight)
    with torch.no_grad():
        layer.linear.weight[:16] = torch.eye(16) * 100
    x = torch.ones(1, 3, 16)
    with torch.no_grad():
        states = layer(x)  # tanh(100) where a value is seen, tanh(0) where not: half of it, and half of the skip
    hidden = states < 0.75
    assert 0 < hidden[0, 0].sum() < 16
    assert torch.equal(hidden[0, 0], hidden[0, 2])
    assert (layer.eval()(x) > 0.75).all()


def test_golden_counts() -> None:
    with torch.device("meta"):
        assert count.parameters(SruStack()) == 57_811_200
