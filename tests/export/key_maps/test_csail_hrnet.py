"""Keys of CSAIL's encoder, written out from its description, not from our network."""

from __future__ import annotations

import torch

from memedge_export.blocks.hrnet import HrnetV2
from memedge_export.key_maps import csail_hrnet

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _unit(conv: str, norm: str, out: int, inside: int, kernel: int) -> dict[str, torch.Size]:
    found = {f"{conv}.weight": torch.Size([out, inside, kernel, kernel])}
    for name in _NORM:
        found[f"{norm}.{name}"] = torch.Size([] if name == "num_batches_tracked" else [out])
    return found


def public(width: int, stem: int) -> dict[str, torch.Size]:
    """Names and shapes in the public file."""
    w = [width * 2**i for i in range(4)]
    keys = {**_unit("conv1", "bn1", stem, 3, 3), **_unit("conv2", "bn2", stem, stem, 3)}
    for i in range(4):
        inside = stem if i == 0 else 4 * stem
        for n, (out, take, k) in enumerate([(stem, inside, 1), (stem, stem, 3), (4 * stem, stem, 1)], 1):
            keys |= _unit(f"layer1.{i}.conv{n}", f"layer1.{i}.bn{n}", out, take, k)
    keys |= _unit("layer1.0.downsample.0", "layer1.0.downsample.1", 4 * stem, stem, 1)
    keys |= _unit("transition1.0.0", "transition1.0.1", w[0], 4 * stem, 3)
    keys |= _unit("transition1.1.0.0", "transition1.1.0.1", w[1], 4 * stem, 3)
    keys |= _unit("transition2.2.0.0", "transition2.2.0.1", w[2], w[1], 3)
    keys |= _unit("transition3.3.0.0", "transition3.3.0.1", w[3], w[2], 3)
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        for m in range(modules):
            at = f"stage{stage}.{m}"
            for b in range(stage):
                for k in range(4):
                    for n in (1, 2):
                        block = f"{at}.branches.{b}.{k}"
                        keys |= _unit(f"{block}.conv{n}", f"{block}.bn{n}", w[b], w[b], 3)
            for i in range(stage):
                for j in range(stage):
                    fuse = f"{at}.fuse_layers.{i}.{j}"
                    if j > i:
                        keys |= _unit(f"{fuse}.0", f"{fuse}.1", w[i], w[j], 1)
                    for k in range(i - j):
                        out = w[i] if k == i - j - 1 else w[j]
                        keys |= _unit(f"{fuse}.{k}.0", f"{fuse}.{k}.1", out, w[j], 3)
    return keys


def test_the_public_file_fits_the_full_network() -> None:
    with torch.device("meta"):
        ours = HrnetV2().state_dict()
        theirs = {f"module.{name}": torch.empty(shape) for name, shape in public(48, 64).items()}
    assert csail_hrnet.detect(theirs)
    renamed = csail_hrnet.rename(theirs)
    wanted = {name: tensor.shape for name, tensor in ours.items() if not name.endswith("num_batches_tracked")}
    assert {name: tensor.shape for name, tensor in renamed.items()} == wanted


def test_values_arrive() -> None:
    torch.manual_seed(0)
    state = {name: torch.rand(shape) + 0.1 if shape else torch.tensor(7) for name, shape in public(4, 8).items()}
    network = HrnetV2(4, 8)
    missing, unexpected = network.load_state_dict(csail_hrnet.rename(state), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert torch.equal(network.stage3[2].fuse_layers[2]["0"][0][0].weight, state["stage3.2.fuse_layers.2.0.0.0.weight"])


def test_other_files_are_not_taken_for_it() -> None:
    assert not csail_hrnet.detect({"layer1.0.conv1.weight": torch.zeros(1)})
