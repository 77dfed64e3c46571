from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.as_2d import as_2d
from memedge_export.blocks.c3d import C3dNet
from memedge_export.blocks.i3d import I3dNet
from memedge_export.blocks.video_resnet import ip_csn_152, ir_csn_152, r3d34
from memedge_export.models.count import macs_of, parameters


def with_head(trunk: nn.Module, outputs: int) -> nn.Module:
    return nn.Sequential(trunk, nn.Linear(trunk.features, outputs))


def meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


# Published or computed from the papers' layers; shortcuts of type A multiply nothing.
GOLDEN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, float]] = {
    "r3d34, type B": (lambda: with_head(r3d34(), 1), (3, 16, 112, 112), 63_514_049, 12.70),
    "r3d34, type A": (lambda: with_head(r3d34("A"), 1), (3, 16, 112, 112), 63_340_225, 12.68),
    "ip-CSN-152": (ip_csn_152, (3, 45, 256, 256), 32_196_992, 158.24),
    "ip-CSN-152, 32 frames": (ip_csn_152, (3, 32, 224, 224), 32_196_992, 83.29),
    "ip-CSN-152, 16 frames": (ip_csn_152, (3, 16, 112, 112), 32_196_992, 10.47),
    "ir-CSN-152, 400 classes": (lambda: with_head(ir_csn_152(), 400), (3, 32, 224, 224), 29_703_568, 74.05),
    "C3D": (C3dNet, (3, 16, 112, 112), 78_409_573, 38.55),
    "C3D, pool5 padded on both sides": (lambda: C3dNet(pool5="both"), (3, 16, 112, 112), 78_409_573, 38.55),
    "I3D": (I3dNet, (3, 45, 224, 224), 12_287_264, 80.5),
    "I3D, optical flow": (lambda: I3dNet(2), (2, 45, 224, 224), 12_265_312, 74.2),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_counts(name: str) -> None:
    build, shape, weights, work = GOLDEN[name]
    network = meta(build)
    assert parameters(network) == weights
    digits = 1 if name.startswith("I3D") else 2
    assert round(macs_of(network, torch.empty(1, *shape, device="meta")) / 1e9, digits) == work


def test_shapes_inside() -> None:
    seen: list[tuple[int, ...]] = []

    def shapes(network: nn.Module, names: tuple[str, ...], clip: tuple[int, ...]) -> list[tuple[int, ...]]:
        seen.clear()
        hooks = [network.get_submodule(n).register_forward_hook(lambda *a: seen.append(a[2].shape[1:])) for n in names]
        with torch.no_grad():
            network(torch.empty(1, *clip, device="meta"))
        for hook in hooks:
            hook.remove()
        return seen

    stages = ("maxpool", "layer1", "layer2", "layer3", "layer4")
    assert shapes(meta(r3d34), ("conv1", *stages), (3, 16, 112, 112)) == [
        *((64, 16, 56, 56), (64, 8, 28, 28), (64, 8, 28, 28)),
        *((128, 4, 14, 14), (256, 2, 7, 7), (512, 1, 4, 4)),
    ]
    assert shapes(meta(ip_csn_152), stages, (3, 45, 256, 256)) == [
        *((64, 45, 64, 64), (256, 45, 64, 64)),
        *((512, 23, 32, 32), (1024, 12, 16, 16), (2048, 6, 8, 8)),
    ]
    assert shapes(meta(I3dNet), ("Mixed_3c", "Mixed_4f", "Mixed_5c"), (3, 45, 224, 224)) == [
        *((480, 23, 28, 28), (832, 12, 14, 14), (1024, 6, 7, 7)),
    ]
    for pool5 in ("after", "both"):
        assert shapes(meta(lambda: C3dNet(pool5=pool5)), ("conv5b", "pool5"), (3, 16, 112, 112)) == [  # noqa: B023
            *((512, 2, 7, 7), (512, 1, 4, 4)),
        ]


def test_pool5_of_the_two_ports_reads_other_windows() -> None:
    x = torch.rand(1, 8, 2, 7, 7)
    after, both = (C3dNet(pool5=pool5, width=0.01).pool5 for pool5 in ("after", "both"))
    with torch.no_grad():
        torch.testing.assert_close(after(x), functional.max_pool3d(x, 2, ceil_mode=True))
        padded = functional.pad(x, (1, 1, 1, 1))
        torch.testing.assert_close(both(x), functional.max_pool3d(padded, 2))
        assert not torch.equal(after(x), both(x))


def test_outputs_of_c3d() -> None:
    torch.manual_seed(0)
    full = C3dNet(output="logits", size=(16, 32, 32), width=0.05).eval()
    clip = torch.rand(2, 3, 16, 32, 32)
    state = full.state_dict()
    with torch.no_grad():
        for output, features in (("probabilities", 101), ("fc6", 205), ("fc7", 205)):
            network = C3dNet(output=output, size=(16, 32, 32), width=0.05).eval()
            kept = {name: state[name] for name in network.state_dict()}
            network.load_state_dict(kept)
            found = network(clip)
            assert found.shape == (2, features) == (2, network.features)
            if output == "probabilities":
                torch.testing.assert_close(found, torch.softmax(full(clip), 1))
                torch.testing.assert_close(found.sum(1), torch.ones(2))
            elif output == "fc7":
                torch.testing.assert_close(full.fc8(found), full(clip))


def plain_i3d(network: I3dNet, x: Tensor) -> Tensor:
    """The trunk with padding worked out as TensorFlow documents it, for every layer alike."""

    def pad(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float) -> Tensor:
        sides: list[int] = []
        for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
            total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
            sides += [total // 2, total - total // 2]
        return functional.pad(x, sides, value=value)

    def unit(unit: nn.Module, x: Tensor) -> Tensor:
        conv, bn = unit.conv3d, unit.bn
        x = functional.conv3d(pad(x, conv.kernel_size, conv.stride, 0), conv.weight, None, conv.stride)
        return torch.relu(functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0, 1e-3))

    def pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return functional.max_pool3d(pad(x, kernel, stride, -torch.inf), kernel, stride)

    x = pool(unit(network.Conv3d_1a_7x7, x), (1, 3, 3), (1, 2, 2))
    x = unit(network.Conv3d_2c_3x3, unit(network.Conv3d_2b_1x1, x))
    x = pool(x, (1, 3, 3), (1, 2, 2))
    for name in network.modules_used:
        if name == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if name == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        m = getattr(network, f"Mixed_{name}")
        branches = [unit(m.b0, x), unit(m.b1b, unit(m.b1a, x)), unit(m.b2b, unit(m.b2a, x))]
        x = torch.cat([*branches, unit(m.b3b, pool(x, (3, 3, 3), (1, 1, 1)))], 1)
    return x


def lively(network: nn.Module) -> nn.Module:
    """Batch-norm statistics that are not 0 and 1, shifts that are not 0."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return network.eval()


@pytest.mark.parametrize("size", [(45, 64, 48), (16, 45, 33)])
def test_i3d_pads_as_tensorflow_does(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = lively(I3dNet(2, width=0.02))
    clip = torch.randn(1, 2, *size)
    with torch.no_grad():
        torch.testing.assert_close(network(clip), plain_i3d(network, clip), rtol=1e-4, atol=1e-5)


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "r3d34 B": (lambda: r3d34("B", 0.125, (1, 2, 1, 1)), (3, 8, 32, 32)),
    "r3d34 A": (lambda: r3d34("A", 0.125, (1, 1, 1, 1)), (3, 8, 33, 32)),
    "ip-CSN": (lambda: ip_csn_152(0.125, (1, 1, 1, 1)), (3, 9, 32, 32)),
    "ir-CSN": (lambda: ir_csn_152(0.125, (1, 1, 1, 1)), (3, 5, 32, 32)),
    "C3D, after": (lambda: C3dNet(size=(16, 48, 48), width=0.03), (3, 16, 48, 48)),
    "C3D, both": (lambda: C3dNet(pool5="both", size=(16, 48, 48), width=0.03), (3, 16, 48, 48)),
    "I3D": (lambda: I3dNet(3, 0.02, ("3b", "3c", "4b", "5b")), (3, 13, 64, 48)),
}


@pytest.mark.parametrize("name", SMALL)
def test_2d_form_is_the_same_network(name: str) -> None:
    torch.manual_seed(0)
    build, shape = SMALL[name]
    network = lively(build()).double()
    found = as_2d(network, shape)
    assert not any(isinstance(m, (nn.Conv3d, nn.MaxPool3d, nn.BatchNorm3d)) for m in found.modules())
    clip = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = network(clip)
        assert expected.std() > 1e-3 * expected.abs().max() > 0
        torch.testing.assert_close(found(clip), expected, rtol=1e-10, atol=1e-12)
    # As much work in both forms.
    assert macs_of(found, clip[:1]) == macs_of(network, clip[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("form", ["3-D", "2-D"])
def test_onnx(name: str, form: str) -> None:
    torch.manual_seed(0)
    build, shape = SMALL[name]
    network = lively(build())
    clip = torch.randn(2, *shape)
    exported = as_2d(network, shape) if form == "2-D" else network
    model = export_block(exported, clip)
    assert not set(operators(model)) & {"Shape", "Gather", "Cast", "Expand", "ScatterND"}
    if form == "2-D":
        assert all(len(t.dims) < 5 for t in model.graph.initializer)
    assert largest_difference(network, model, clip) < 1e-4
