from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers_dsve import image_file, text_file
from memedge_export.blocks.dsve import DsveTower
from memedge_export.blocks.sru import SruStack
from memedge_export.errors import WeightsError
from memedge_export.key_maps import dsve


def packed_sru(state: dict[str, torch.Tensor], words: np.ndarray) -> np.ndarray:
    """SRU on one text as its library computes it from the packed weight: u[t, unit, product] = x W."""
    h = words.astype(np.float64)
    for k in range(4):
        weight = state[f"cap_emb.rnn.rnn_lst.{k}.weight"].double().numpy()
        bias = state[f"cap_emb.rnn.rnn_lst.{k}.bias"].double().numpy()
        hidden = len(bias) // 2
        u = (h @ weight).reshape(len(h), hidden, -1)
        skip = u[..., 3] if u.shape[2] == 4 else h
        c, found = np.zeros(hidden), []
        for t in range(len(h)):
            f = 1 / (1 + np.exp(-u[t, :, 1] - bias[:hidden]))
            r = 1 / (1 + np.exp(-u[t, :, 2] - bias[hidden:]))
            c = (c - u[t, :, 0]) * f + u[t, :, 0]
            found.append((np.tanh(c) - skip[t]) * r + skip[t])
        h = np.array(found)
    return h


@pytest.mark.parametrize("attention", [False, True])
def test_image_tower_has_the_files_tensors_and_its_embedding(attention: bool) -> None:
    torch.manual_seed(0)
    public = DsveTower(0.125, layers=(2, 1, 1, 1)).eval()
    state = {**image_file(public), **text_file(620, 24, 4)}
    assert dsve.is_dsve(state)
    assert not dsve.is_dsve({"fc.weight": torch.ones(1)})
    ours = DsveTower(0.125, layers=(2, 1, 1, 1), attention=attention).eval()
    ours.load_state_dict(dsve.rename_attended(state) if attention else dsve.rename_image(state))
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        # Even attention: the file has none.
        assert torch.allclose(ours(x), public(x), atol=1e-5)


def test_text_tower_unpacks_the_files_weights() -> None:
    tower = SruStack(0.01).eval()
    assert tower.features == 24
    state = text_file(620, 24, 4)
    tower.load_state_dict(dsve.rename_text(state))
    words = np.random.default_rng(0).normal(size=(6, 620)).astype(np.float32)
    expected = packed_sru(state, words)[-1]
    with torch.no_grad():
        found = tower(torch.from_numpy(words)[None], torch.ones(1, 6))[0].numpy()
    assert np.allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize(("part", "value"), [("weight_c", torch.ones(48)), ("scale_x", torch.full((1,), 1.7))])
def test_layers_of_the_second_version_are_refused(part: str, value: torch.Tensor) -> None:
    state = {**text_file(620, 24, 4), f"cap_emb.rnn.rnn_lst.1.{part}": value}
    with pytest.raises(WeightsError, match=rf"rnn_lst.1.{part}' is in use.*expected the first"):
        dsve.rename_text(state)


def test_full_size_names_and_shapes_agree_with_the_public_file() -> None:
    with torch.device("meta"):
        tower, text = DsveTower(), SruStack()
    renamed = dsve.rename_image(image_file(tower))
    assert {n: t.shape for n, t in renamed.items()} == {n: t.shape for n, t in tower.state_dict().items()}
    shapes = {0: (620, 9600), 1: (2400, 7200), 2: (2400, 7200), 3: (2400, 7200)}
    state = {f"cap_emb.rnn.rnn_lst.{k}.weight": torch.empty(shape, device="meta") for k, shape in shapes.items()}
    state |= {f"cap_emb.rnn.rnn_lst.{k}.bias": torch.empty(4800, device="meta") for k in shapes}
    wanted = text.state_dict()
    assert {n: t.shape for n, t in dsve.rename_text(state).items()} == {n: t.shape for n, t in wanted.items()}
