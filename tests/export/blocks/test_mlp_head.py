from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.mlp_head import MlpHead, mish
from memedge_export.models import count


def _numpy(head: MlpHead, x: np.ndarray, act: str, out: str) -> np.ndarray:
    functions = {
        "relu": lambda v: np.maximum(v, 0),
        "tanh": np.tanh,
        "mish": lambda v: v * np.tanh(np.log1p(np.exp(v))),
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "linear": lambda v: v,
    }
    for number, layer in enumerate(head):
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = functions[act if number < len(head) - 1 else out](x)
    return x


@pytest.mark.parametrize(("act", "out"), [("relu", "linear"), ("tanh", "relu"), ("mish", "sigmoid")])
def test_values_agree_with_numpy(act: str, out: str) -> None:
    torch.manual_seed(0)
    head = MlpHead((6, 5, 4, 2), act=act, out_act=out, dropout=0.5).eval()  # type: ignore[arg-type]
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32) * 3
    with torch.no_grad():
        assert np.allclose(head(torch.from_numpy(x)).numpy(), _numpy(head, x, act, out), atol=1e-6)
    assert list(head.state_dict()) == [f"{i}.{name}" for i in range(3) for name in ("weight", "bias")]


def test_dropout_is_after_hidden_layers_and_where_asked_after_the_last() -> None:
    torch.manual_seed(0)
    x = torch.ones(4, 64)
    plain = MlpHead((64, 64), dropout=0.5)
    assert (plain(x) != 0).all()
    branch = MlpHead((64, 64), dropout=0.5, out_act="tanh", drop_out=True)
    share = float((branch(x) == 0).float().mean())
    assert 0.3 < share < 0.7
    assert torch.equal(branch.eval()(x), branch(x))


def test_mish_is_torchs_own_and_finite_at_both_ends() -> None:
    x = torch.tensor([-200.0, -20.0, -1.0, 0.0, 1.0, 30.0, 200.0], requires_grad=True)
    assert torch.allclose(mish(x), torch.nn.functional.mish(x), atol=1e-6)
    mish(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_mish_is_exported_as_softplus_tanh_mul() -> None:
    torch.manual_seed(0)
    head = MlpHead((6, 4, 1), act="mish", out_act="sigmoid")
    x = torch.tensor([[-90.0] * 6, [0.5] * 6, [90.0] * 6])
    graph = export_block(head, x)
    assert operators(graph) == ["Gemm", "Softplus", "Tanh", "Mul", "Gemm", "Sigmoid"]
    assert largest_difference(head, graph, x) < 1e-6


def test_published_sizes() -> None:
    with torch.device("meta"):
        sizes = {
            dims: count.parameters(MlpHead(dims)) for dims in [(768, 100, 1), (4096, 512, 128, 4), (3635, 512, 64, 1)]
        }
    assert sizes == {(768, 100, 1): 77_001, (4096, 512, 128, 4): 2_163_844, (3635, 512, 64, 1): 1_894_529}


@pytest.mark.parametrize("dims", [(5,), (5, 0, 1)])
def test_impossible_sizes(dims: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected two or more positive"):
        MlpHead(dims)
