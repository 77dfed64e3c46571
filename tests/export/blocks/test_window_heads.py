from __future__ import annotations

import numpy as np
import pytest
import torch

import helpers_keras
from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.linear_chain import collapsed
from memedge_export.blocks.window_heads import AmNetRnnHead, AmNetVidHead, ScoreRange
from memedge_export.key_maps.amnetvid import is_amnetvid, rename

_ALL = helpers_keras.SCORES | helpers_keras.MAPS | helpers_keras.TAIL


def _state(weights: dict[str, helpers_keras.Layer]) -> dict[str, torch.Tensor]:
    """As a file holds them: ``lstm/lstm/lstm_cell/kernel:0``, and an optimiser's state besides."""
    state = {
        f"model_weights/{name}/{name}/{key}:0": torch.tensor(values, dtype=torch.float32)
        for name, layer in weights.items()
        for key, values in layer.items()
    }
    return state | {"optimizer_weights/Adam/dense_2/kernel/m:0": torch.zeros(3, 3)}


def _load(head: torch.nn.Module, weights: dict[str, helpers_keras.Layer]) -> None:
    state = _state(weights)
    assert is_amnetvid(state)
    found = head.load_state_dict(rename(state), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], [])
    head.eval()


def _pictures(head: AmNetVidHead, maps: torch.Tensor) -> helpers_keras.Array:
    """What the network sees of ``[4, 3, 14, 14]``, channels last."""
    return head.maps.render(maps[None])[0].permute(0, 2, 3, 1).double().numpy()


def test_published_amnetvid_head_gives_what_keras_would() -> None:
    weights = helpers_keras.random_weights(_ALL)
    head = AmNetVidHead(known=(0.4, 0.9))
    _load(head, weights)
    torch.manual_seed(0)
    maps, scores = torch.rand(4, 3, 14, 14) ** 3, torch.rand(4, 1) / 2 + 0.4
    mixed = helpers_keras.maps_branch(weights, _pictures(head, maps))
    mixed = (mixed + helpers_keras.scores_branch(weights, (scores.double().numpy() - 0.4) / 0.5)) / 2
    with torch.no_grad():
        found = head(maps[None], scores[None])[0]
        assert found.item() == pytest.approx(helpers_keras.tail(weights, mixed), abs=1e-5)
        assert collapsed(head)(maps[None], scores[None])[0].item() == pytest.approx(found.item(), abs=1e-6)


def test_maps_alone() -> None:
    weights = helpers_keras.random_weights(helpers_keras.MAPS | helpers_keras.TAIL, seed=1)
    head = AmNetVidHead(use_scores=False)
    _load(head, weights)
    maps = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = head(maps[None])[0].item()
    expected = helpers_keras.tail(weights, helpers_keras.maps_branch(weights, _pictures(head, maps)))
    assert found == pytest.approx(expected, abs=1e-5)


def test_published_rnn_head_gives_what_keras_would() -> None:
    weights = helpers_keras.random_weights(helpers_keras.SCORES | helpers_keras.TAIL, seed=2)
    head = AmNetRnnHead(known=(0, 1))
    _load(head, weights)
    scores = np.array([[0.1], [0.7], [0.4], [0.9]])
    expected = helpers_keras.tail(weights, helpers_keras.scores_branch(weights, scores))
    with torch.no_grad():
        found = head(torch.tensor(scores[None], dtype=torch.float32))[0].item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_file_that_lacks_a_layer() -> None:
    weights = helpers_keras.random_weights({name: shapes for name, shapes in _ALL.items() if name != "lstm_1"})
    missing = AmNetVidHead(known=(0, 1)).load_state_dict(rename(_state(weights)), strict=False).missing_keys
    assert missing == [f"scores.lstm2.cell.{name}" for name in ("input.weight", "input.bias", "recurrent.weight")]


def test_published_sizes() -> None:
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in head().parameters()) for head in (AmNetRnnHead, AmNetVidHead)]
    # Keras's totals, 38,017 and 230,937, count the batch-norm's 256 running statistics, too.
    assert sizes == [37_761, 230_681]


@pytest.mark.slow
def test_rnn_head_is_exported_unrolled_and_collapsed() -> None:
    scores = torch.rand(2, 4, 1)
    head = collapsed(AmNetRnnHead().eval())
    graph = export_block(head, scores)
    assert largest_difference(head, graph, scores) < 1e-6
    assert operators(graph)[-2:] == ["Gemm", "Sigmoid"]


@pytest.mark.slow
def test_amnetvid_head_is_exported_unrolled() -> None:
    torch.manual_seed(0)
    maps, scores = torch.rand(2, 4, 3, 14, 14), torch.rand(2, 4, 1)
    head = collapsed(AmNetVidHead().eval())
    graph = export_block(head, maps, scores)
    assert largest_difference(head, graph, maps, scores) < 1e-5
    assert operators(graph).count("Conv") == 12


def test_a_range_is_a_weight_unless_it_is_known() -> None:
    assert {"scores.range.low", "scores.range.high"} <= AmNetRnnHead().state_dict().keys()
    assert not [name for name in AmNetRnnHead((0.5, 0.9)).state_dict() if "range" in name]
    with pytest.raises(ValueError, match=r"from 0\.8 to 0\.8"):
        ScoreRange().set_range(0.8, 0.8)
