"""Clip systems streamed, against torch on frames picked by hand: read with plain PyAV, prepared with Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from helpers_offline import decode, readings, tensor
from helpers_video import write_video
from memedge.pictures import picture
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Preprocess
from memedge_export import system_bundle
from memedge_export.models.system import System, SystemEntry, build_system, system_entry

RATE, SECONDS, CLIP = 18, 9, 16


def small(name: str, **more: Any) -> SystemEntry:
    """The entry, narrow and with few layers."""
    known = system_entry(name)
    assert known is not None
    return SystemEntry(known.id, lambda _, **given: known.build(0.04, **{**more, **given}), known.options)


def video(folder: Path) -> Path:
    """A picture for each second, of another brightness, which moves within it."""
    frames = []
    for second in range(SECONDS):
        still = picture(200 + second)[:160, :200] * (0.2 + 0.2 * (second * 2 % 5))
        frames += [np.roll(still.astype(np.uint8), 5 * step, 1) for step in range(RATE)]
    return write_video(folder / "clip.mp4", frames, rate=RATE)


def clips(frames: list[NDArray[np.uint8]], contract: Preprocess) -> torch.Tensor:
    """Sixteen consecutive frames from every second on, as far as they fit: float32 ``[n,3,16,112,112]``."""
    starts = [second * RATE for second in range(SECONDS) if second * RATE + CLIP <= len(frames)]
    prepared = torch.cat([tensor(frame, contract) for frame in frames])
    return torch.stack([prepared[start : start + CLIP].transpose(0, 1) for start in starts])


@torch.no_grad()
def exported(entry: SystemEntry, node: str, folder: Path, **options: Any) -> tuple[System, Bundle, torch.Tensor]:
    """A network whose scores lie around .5, a bundle of it, and what the node makes of the clips: its first output, a
    row a clip. The scores deviate by seven times the tolerance: untrained networks hang on fine detail, and more would
    show the half levels between two decoders."""
    network = build_system(entry, options=options)
    contract = network.node(node).inputs[0].preprocess
    assert contract is not None
    given, module = clips(decode(video(folder)), contract), network.graphs[node].module
    read: list[torch.Tensor] = []
    last = network.linears[0]
    hook = last.register_forward_hook(lambda _, __, found: read.append(found))
    found = module(given)[0]
    if not read:
        network.get_submodule("head").head(found)
    hook.remove()
    spread = 0.007 / float(read[0].std())
    last.weight *= spread
    last.bias += 0.5 - last.bias - (read[0].mean() - last.bias) * spread
    file = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
    bundle = system_bundle.export_system(entry, [str(file)], folder / "bundle", options=options)
    return network, bundle, module(given)[0]


@pytest.mark.slow
@pytest.mark.parametrize("conv", ["2d", "3d"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_resnet3d34(shortcut: str, conv: str, tmp_path: Path) -> None:
    entry = small("resnet3d34", depths=(1, 1, 1, 1))
    _, bundle, scores = exported(entry, "model", tmp_path, shortcut=shortcut, conv=conv)
    every = readings(bundle, tmp_path / "clip.mp4")
    expected = scores[:, 0].clamp(0, 1).numpy()
    assert expected.std() > 0.005
    scored = [reading for reading in every if reading.score is not None]
    # A clip is scored once, when its last frame is there.
    assert [reading.frame_index for reading in scored] == [k * RATE + CLIP - 1 for k in range(SECONDS)]
    np.testing.assert_allclose([reading.score for reading in scored], expected, atol=1e-3)
    assert scored[6].rolling == pytest.approx(expected[:7].mean(), abs=1e-3)
    assert every[-1].rolling == pytest.approx(expected[-7:].mean(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["first", "newest"])
@pytest.mark.parametrize("name", ["c3d-mlp", "c3d-mlp-videomem"])
def test_c3d_mlp(name: str, clip: str, tmp_path: Path) -> None:
    network, bundle, features = exported(small(name), "c3d", tmp_path, clip=clip)
    every = readings(bundle, tmp_path / "clip.mp4")
    with torch.no_grad():
        expected = network.get_submodule("head").head(features)[:, 0].clamp(0, 1).numpy()
    assert expected.std() > 0.005
    scored = [reading for reading in every if reading.score is not None]
    assert [reading.frame_index for reading in scored] == [k * RATE + CLIP - 1 for k in range(SECONDS)]
    # The published vector is that of a video's first 16 frames: of the last 7 s here.
    shown = [expected[max(0, k - 6) if clip == "first" else k] for k in range(SECONDS)]
    np.testing.assert_allclose([reading.score for reading in scored], shown, atol=1e-3)
    assert every[-1].rolling == pytest.approx(shown[-1], abs=1e-3)
