"""Keys of public checkpoints of 3-D networks, written out from their descriptions, not from our networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memedge_export.blocks.c3d import C3dNet
from memedge_export.blocks.i3d import I3dNet
from memedge_export.blocks.video_resnet import ip_csn_152, ir_csn_152, r3d34
from memedge_export.key_maps import c3d, i3d, resnet3d, vmz_csn

State = dict[str, Tensor]
_NORM = ("weight", "bias", "running_mean", "running_var")
# Modules of Inception-V1: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 behind a pool.
INCEPTION = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def unit(conv: str, norm: str, out: int, inside: int, kernel: tuple[int, int, int]) -> State:
    found = {f"{conv}.weight": empty(out, inside, *kernel), f"{norm}.num_batches_tracked": empty()}
    return found | {f"{norm}.{name}": empty(out) for name in _NORM}


def fits(network: nn.Module, renamed: State) -> None:
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    found = {name: tensor.shape for name, tensor in renamed.items() if name not in counters}
    assert found == {name: shape for name, shape in wanted.items() if name not in counters}


def kensho(shortcut: str) -> State:
    keys = unit("module.conv1", "module.bn1", 64, 3, (7, 7, 7))
    inside = 64
    for stage, (count, planes) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), 1):
        for i in range(count):
            at = f"module.layer{stage}.{i}"
            keys |= unit(f"{at}.conv1", f"{at}.bn1", planes, inside, (3, 3, 3))
            keys |= unit(f"{at}.conv2", f"{at}.bn2", planes, planes, (3, 3, 3))
            if inside != planes and shortcut == "B":
                keys |= unit(f"{at}.downsample.0", f"{at}.downsample.1", planes, inside, (1, 1, 1))
            inside = planes
    return keys | {"module.fc.weight": empty(700, 512), "module.fc.bias": empty(700)}


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_3d_resnets_pytorch(shortcut: str) -> None:
    state = kensho(shortcut)
    assert resnet3d.detect(state)
    assert resnet3d.options(state) == {"shortcut": shortcut}
    with torch.device("meta"):
        fits(r3d34("A" if shortcut == "A" else "B"), resnet3d.rename(state))
    assert not resnet3d.detect({"conv1.weight": empty(64, 3, 7, 7)})


def vmz(kind: str) -> State:
    keys = unit("stem.0", "stem.1", 64, 3, (3, 7, 7))
    inside = 64
    for stage, (count, planes) in enumerate(zip((3, 8, 36, 3), (64, 128, 256, 512), strict=True), 1):
        for i in range(count):
            at = f"layer{stage}.{i}"
            keys |= unit(f"{at}.conv1.0", f"{at}.conv1.1", planes, inside, (1, 1, 1))
            if kind == "ip":
                keys |= unit(f"{at}.conv2.0.0", f"{at}.conv2.0.1", planes, planes, (1, 1, 1))
            depthwise = f"{at}.conv2.0.2" if kind == "ip" else f"{at}.conv2.0"
            keys |= unit(depthwise, f"{at}.conv2.1", planes, 1, (3, 3, 3))
            keys |= unit(f"{at}.conv3.0", f"{at}.conv3.1", 4 * planes, planes, (1, 1, 1))
            if i == 0:
                keys |= unit(f"{at}.downsample.0", f"{at}.downsample.1", 4 * planes, inside, (1, 1, 1))
            inside = 4 * planes
    return keys | {"fc.weight": empty(400, 2048), "fc.bias": empty(400)}


def test_vmz_csn() -> None:
    with torch.device("meta"):
        fits(ip_csn_152(), vmz_csn.rename(vmz("ip")))
        fits(ir_csn_152(), vmz_csn.rename(vmz("ir")))
    assert (vmz_csn.detect_ip(vmz("ip")), vmz_csn.detect_ir(vmz("ip"))) == (True, False)
    assert (vmz_csn.detect_ip(vmz("ir")), vmz_csn.detect_ir(vmz("ir"))) == (False, True)
    assert ip_csn_152(0.125, (1, 1, 1, 1)).layer3[0].bn2.eps == 1e-3


def units_of_i3d(channels: int) -> list[tuple[str, str, int, int, int]]:
    """(PyTorch name, Keras name, outputs, inputs, kernel) of every convolution."""
    found = [
        ("Conv3d_1a_7x7", "Conv3d_1a_7x7", 64, channels, 7),
        ("Conv3d_2b_1x1", "Conv3d_2b_1x1", 64, 64, 1),
        ("Conv3d_2c_3x3", "Conv3d_2c_3x3", 192, 64, 3),
    ]
    for name, (inside, one, reduce1, three1, reduce2, three2, pooled) in INCEPTION.items():
        for branch, keras_branch, out, of, kernel in (
            ("b0", "0a_1x1", one, inside, 1),
            ("b1a", "1a_1x1", reduce1, inside, 1),
            ("b1b", "1b_3x3", three1, reduce1, 3),
            ("b2a", "2a_1x1", reduce2, inside, 1),
            ("b2b", "2b_3x3", three2, reduce2, 3),
            ("b3b", "3b_1x1", pooled, inside, 1),
        ):
            found.append((f"Mixed_{name}.{branch}", f"Conv3d_{name}_{keras_branch}", out, of, kernel))
    return found


def test_i3d_of_pytorch() -> None:
    state: State = {"logits.conv3d.weight": empty(400, 1024, 1, 1, 1), "logits.conv3d.bias": empty(400)}
    for name, _, out, inside, kernel in units_of_i3d(3):
        state |= unit(f"{name}.conv3d", f"{name}.bn", out, inside, (kernel,) * 3)
    assert i3d.detect(state)
    with torch.device("meta"):
        fits(I3dNet(), i3d.rename(state))
    assert {name: tuple(t.shape) for name, t in i3d.head(state).items()} == {
        "weight": (400, 1024, 1, 1, 1),
        "bias": (400,),
    }
    assert i3d.channels(state) == 3


@pytest.mark.parametrize("inside_a_model", [False, True])
def test_i3d_of_keras(inside_a_model: bool) -> None:
    state: State = {}
    for _, name, out, inside, kernel in units_of_i3d(2):
        for layer, shapes in (
            (f"{name}_conv", {"kernel": (kernel, kernel, kernel, inside, out)}),
            (f"{name}_bn", {"beta": (out,), "moving_mean": (out,), "moving_variance": (out,)}),
        ):
            prefix = f"model_weights/i3d_inception/{layer}" if inside_a_model else f"{layer}/{layer}"
            state |= {f"{prefix}/{key}:0": torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    head = "Conv3d_6a_1x1_conv"
    state[f"model_weights/{head}/{head}/kernel:0"] = torch.randn(1, 1, 1, 1024, 2)
    state[f"model_weights/{head}/{head}/bias:0"] = torch.ones(2)
    assert i3d.detect(state)
    assert i3d.channels(state) == 2
    renamed = i3d.rename(state)
    with torch.device("meta"):
        fits(I3dNet(2), renamed)
    assert torch.equal(renamed["Mixed_5c.b2b.bn.weight"], torch.ones(128))
    last = i3d.head(state)
    assert torch.equal(last["weight"][1, :, 0, 0, 0], state[f"model_weights/{head}/{head}/kernel:0"][0, 0, 0, :, 1])
    assert last["bias"].shape == (2,)


def test_keras_kernels_convolve_as_keras_does() -> None:
    rng = np.random.default_rng(0)
    kernel, clip = rng.normal(size=(2, 3, 3, 4, 5)), rng.normal(size=(6, 7, 8, 4))  # T,H,W,I,O and T,H,W,C
    name = "Conv3d_1a_7x7_conv/kernel:0"
    weight = i3d.rename({name: torch.from_numpy(kernel)})["Conv3d_1a_7x7.conv3d.weight"]
    ours = nn.functional.conv3d(torch.from_numpy(clip).permute(3, 0, 1, 2)[None], weight)[0].permute(1, 2, 3, 0)
    windows = np.lib.stride_tricks.sliding_window_view(clip, (2, 3, 3), (0, 1, 2))
    np.testing.assert_allclose(ours.numpy(), np.einsum("thwcijk,ijkco->thwo", windows, kernel), atol=1e-12)


C3D_LAYERS = (("1", 64, 3), ("2", 128, 64), ("3a", 256, 128), ("3b", 256, 256))
C3D_LAYERS += (("4a", 512, 256), ("4b", 512, 512), ("5a", 512, 512), ("5b", 512, 512))
C3D_DENSE = (("d1", 8192, 4096), ("d2", 4096, 4096), ("out", 4096, 101))


def test_c3d_of_pytorch() -> None:
    state: State = {}
    for name, out, inside in C3D_LAYERS:
        state |= {f"conv{name}.weight": empty(out, inside, 3, 3, 3), f"conv{name}.bias": empty(out)}
    for name, inside, out in (("fc6", 8192, 4096), ("fc7", 4096, 4096), ("fc8", 4096, 487)):
        state |= {f"{name}.weight": empty(out, inside), f"{name}.bias": empty(out)}
    assert (c3d.detect_torch(state), c3d.detect_tensorflow(state)) == (True, False)
    assert c3d.options(state) == {"pool5": "both", "classes": 487}
    with torch.device("meta"):
        fits(C3dNet(487, "both"), c3d.rename(state))


def test_c3d_of_tensorflow() -> None:
    state: State = {"global_step": torch.zeros(())}
    for name, out, inside in C3D_LAYERS:
        state |= {f"var_name/wc{name}": empty(3, 3, 3, inside, out), f"var_name/bc{name}": empty(out)}
    for name, inside, out in C3D_DENSE:
        state |= {f"var_name/w{name}": empty(inside, out), f"var_name/b{name}": empty(out)}
    assert (c3d.detect_torch(state), c3d.detect_tensorflow(state)) == (False, True)
    assert c3d.options(state) == {"pool5": "after", "classes": 101}
    with torch.device("meta"):
        fits(C3dNet(), c3d.rename(state))
