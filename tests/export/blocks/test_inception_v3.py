"""Inception-v3 against torchvision's own, its counts, its graph, and files with torchvision's keys."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is absent: the export extra is not installed", exc_type=ImportError)

from torch import nn  # noqa: E402

from helpers_blocks import export_block, largest_difference, operators  # noqa: E402
from memedge_export.blocks.inception_v3 import MIXED, InceptionV3, Mixed  # noqa: E402
from memedge_export.key_maps.inception_v3 import is_inception_v3, rename  # noqa: E402
from memedge_export.models.count import macs, parameters  # noqa: E402
from memedge_export.onnx_export import fold_batch_norm  # noqa: E402


def lively(network: nn.Module) -> nn.Module:
    """Statistics and weights of the norms as after training, so that their order and eps matter."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


def torchvision_s() -> nn.Module:
    from memedge_export.errors import WeightsError
    from memedge_export.torchvision_compat import import_torchvision

    try:
        torchvision = import_torchvision()
    except WeightsError as error:
        pytest.skip(f"torchvision is absent: {error.message}")
    found: nn.Module = torchvision.models.inception_v3(weights=None, aux_logits=True, init_weights=False)
    return found


def test_counts() -> None:
    with torch.device("meta"):
        network = InceptionV3()
    assert parameters(network) == 23_834_568
    assert macs(network, (299, 299)) == 5_713_216_096  # torchvision says 5.713 billion
    assert network.features == 1000


def test_norms_fold_into_the_convolutions() -> None:
    torch.manual_seed(0)
    network = lively(InceptionV3(width=0.125))
    frames = torch.rand(3, 3, 91, 91) * 2 - 1
    with torch.no_grad():
        probabilities = network(frames)
        assert probabilities.shape == (3, 1000)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
        folded = fold_batch_norm(network)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        torch.testing.assert_close(folded(frames), probabilities, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("5b", "6a", "7b")])
def test_a_module_as_a_graph(name: str) -> None:
    torch.manual_seed(0)
    chains, pooled = MIXED[name]
    block = fold_batch_norm(lively(Mixed(24, chains, pooled, 0.125)))
    maps = torch.rand(3, 24, 9, 11)
    model = export_block(block, maps)
    assert set(operators(model)) <= {"Conv", "Relu", "MaxPool", "AveragePool", "Concat"}
    assert largest_difference(block, model, maps) < 1e-5


@pytest.mark.slow
def test_the_narrow_network_as_a_graph() -> None:
    torch.manual_seed(0)
    folded = fold_batch_norm(lively(InceptionV3(width=0.125)))
    frames = torch.rand(3, 3, 91, 91) * 2 - 1
    assert largest_difference(folded, export_block(folded, frames), frames) < 1e-6


def test_pool_gives_the_last_map_s_mean() -> None:
    torch.manual_seed(1)
    classes, pooled = lively(InceptionV3(width=0.125)), InceptionV3("pool", 0.125).eval()
    assert pooled.fc is None
    assert pooled.features == 256
    own = pooled.state_dict()
    pooled.load_state_dict({k: v for k, v in classes.state_dict().items() if k in own})
    frames = torch.rand(2, 3, 80, 96) * 2 - 1
    expected = torch.softmax(classes.fc(pooled(frames)), 1)
    torch.testing.assert_close(classes(frames), expected)


def test_a_public_file_s_keys() -> None:
    network = InceptionV3(width=0.125)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    extra = {"module.AuxLogits.conv0.conv.weight": torch.zeros(1), "module.AuxLogits.fc.bias": torch.zeros(1)}
    assert is_inception_v3({**state, **extra})
    assert not is_inception_v3({"fc.weight": torch.zeros(1)})
    renamed = rename({**state, **extra})
    wanted = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(renamed) == wanted


def test_names_and_shapes_are_torchvision_s() -> None:
    with torch.device("meta"):
        public, ours = torchvision_s(), InceptionV3()
    expected = {k: tuple(v.shape) for k, v in rename(public.state_dict()).items()}
    found = {k: tuple(v.shape) for k, v in rename(ours.state_dict()).items()}
    assert found == expected


@pytest.mark.slow
def test_equals_torchvision_s_network() -> None:
    torch.manual_seed(2)
    public, ours = lively(torchvision_s()), InceptionV3().eval()
    ours.load_state_dict(rename(public.state_dict()), strict=False)
    frames = torch.rand(2, 3, 299, 299) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(ours(frames), torch.softmax(public(frames), 1), atol=1e-7, rtol=1e-5)
