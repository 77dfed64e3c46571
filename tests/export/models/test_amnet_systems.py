"""AMNet and what is built on it: counts, public files, graphs equal to torch, and streamed as torch scores offline."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import memedge
from helpers_keras import MAPS, SCORES, TAIL, random_weights
from helpers_media import pillow_picture, swscale_rgb
from helpers_video import numbered, write_video
from memedge.errors import UsageError
from memedge.sinks.base import Sink
from memedge.sinks.jsonl import JsonlSink
from memedge.sinks.moments import MomentsSink
from memedge_engines.bundle import Bundle
from memedge_engines.frame import ColorMatrix, ColorRange
from memedge_export.errors import WeightsError
from memedge_export.models import count
from memedge_export.models.amnet import AmNet
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.system_bundle import export_system
from memedge_export.system_weights import load_system
from memedge_export.train import losses

SMALL = {"trunk": "resnet18"}
RATE = 8
_LARGER = {"att_score.weight": 20, "reg.1.weight": 8, "tail.chain.2.weight": 60, "mix.weight": 4}


def _entry(name: str) -> SystemEntry:
    """The system an eighth as wide, with weights that make scores and attention depend on the picture."""
    found = system_entry(name)
    assert found is not None

    def build(width: float = 1.0, **given: Any) -> System:
        network = found.build(width / 8, **given)
        with torch.no_grad():
            for key, tensor in network.state_dict().items():
                tensor *= next((by for end, by in _LARGER.items() if key.endswith(end)), 1)
        return network

    return dataclasses.replace(found, build=build)


@pytest.mark.parametrize(
    ("trunk", "parameters", "gmac"),
    [("resnet18", 15_319_813, 1.689), ("resnet50", 21_866_757, 3.719), ("resnet101", 40_858_885, 7.431)],
)
def test_counts_of_the_published_networks(trunk: str, parameters: int, gmac: float) -> None:
    with torch.device("meta"):
        network = AmNet(trunk=trunk)
        # torch's LSTM has a second bias, which adds nothing.
        assert count.parameters(network) + 4096 == parameters
        assert round(count.macs(network, (224, 224)) / 1e9, 3) == gmac
        assert [tuple(t.shape[1:]) for t in network(torch.empty(1, 3, 224, 224))] == [(1,), (3, 14, 14), (3,)]


def test_counts_of_the_heads_and_of_vgg() -> None:
    entry = system_entry("amnetvid")
    assert entry is not None
    with torch.device("meta"):
        network = build_system(entry)
        window = torch.empty(1, 4, 3, 14, 14), torch.empty(1, 4, 1)
        assert round(count.macs_of(network.graphs["head"].module, *window) / 1e6) == 464
        assert count.parameters(network) == 21_866_757 - 4096 + 230_681
        trunk = AmNet(trunk="vgg16").trunk
    assert [name for name in trunk.state_dict() if name.endswith("weight")][-1] == "21.weight"  # 23 is the fourth pool


def _public(network: AmNet) -> dict[str, torch.Tensor]:
    """The network's weights under the names of AMNet's code, with what else its files hold."""
    names = {"annot.conv": "inconv", "annot.bn": "bn1", "init_h": "hs1", "init_c": "hc1", "att_static": "e1"}
    names |= {"att_query": "eh1", "att_score": "eh3", "reg.0": "regnet1", "reg.1": "regnet4"}
    state = {}
    for name, tensor in network.state_dict().items():
        if name.startswith("trunk."):
            state[f"core_cnn.core_cnn.{name.removeprefix('trunk.')}"] = tensor
        for ours, theirs in names.items():
            if name.startswith(f"head.{ours}."):
                state[name.replace(f"head.{ours}", theirs)] = tensor
    cell = network.head.cell
    half = torch.randn_like(cell.input.bias)
    state |= {"rnn.weight_ih_l0": cell.input.weight, "rnn.weight_hh_l0": cell.recurrent.weight}
    state |= {"rnn.bias_ih_l0": cell.input.bias - half, "rnn.bias_hh_l0": half}
    state |= {"core_cnn.core_cnn.layer4.0.conv1.weight": torch.zeros(8, 8, 3, 3)}
    state |= {"core_cnn.core_cnn.fc.weight": torch.zeros(1000, 64), "core_cnn.core_cnn.fc.bias": torch.zeros(1000)}
    return {name: tensor.detach().clone() for name, tensor in state.items() if "num_batches" not in name}


def test_public_files_of_both_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    amnet = AmNet(1 / 8, "resnet18").eval()
    torch.save({"model": _public(amnet), "epoch": 55}, tmp_path / "lamem.pkl")
    weights = random_weights(SCORES | MAPS | TAIL)
    arrays = {f"{n}/{n}/{k}:0": v.astype(np.float32) for n, layer in weights.items() for k, v in layer.items()}
    np.savez(tmp_path / "head.npz", **arrays)
    files = [str(tmp_path / "lamem.pkl"), str(tmp_path / "head.npz")]
    loaded = load_system(_entry("amnetvid"), files, options={**SMALL, "low": "0.4", "high": "0.95"})
    assert not loaded.untrained
    assert not loaded.fresh
    frames = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(loaded.network.graphs["amnet"].module(frames), amnet(frames), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    alone = load_system(_entry("amnet"), files[:1], options=SMALL)
    assert not alone.untrained
    with pytest.raises(WeightsError, match=r"head\.scores\.range\.low, head\.scores\.range\.high"):
        load_system(_entry("amnetvid"), files, options=SMALL)
    with pytest.raises(WeightsError, match=r"does not fit: \d+ of \d+ keys are missing"):
        load_system(_entry("amnet"), files[:1], options={"trunk": "resnet50"})


def test_options_that_cannot_be_meant() -> None:
    for name, options, message in (
        ("amnet", {"trunk": "resnet34"}, "trunk=resnet34; expected one of resnet18, resnet50, resnet101, vgg16"),
        ("amnetvid", {"low": "0.9", "high": "0.2"}, "low=0.9 and high=0.2"),
        ("amnet-rnn", {"use_scores": "no"}, "no option 'use_scores'"),
    ):
        with pytest.raises(UsageError, match=message):
            build_system(_entry(name), options=options)
    with pytest.raises(UsageError, match="one target"):
        build_system(_entry("amnet"), targets=("short_term", "long_term"), options=SMALL)


def test_loss_on_the_networks_own_outputs() -> None:
    network = build_system(_entry("amnet"), options=SMALL)
    frames, wanted = torch.randn(3, 3, 224, 224), torch.tensor([[0.9], [0.7], [0.8]])
    names = [f"model.{output.name}" for output in network.node("model").outputs]
    rows = dict(zip(names, network.graphs["model"].module(frames), strict=True))
    found = losses.build(losses.AmNet(), losses.ScoreStatistics(0.754, 0.1))(
        network.for_loss(rows), losses.Batch(wanted, {}, part=0.0, epoch=0)
    )
    # As the paper's code has it: the mean of the steps' raw outputs against the shifted and stretched score.
    raw = (rows["model.step_scores"] * 3 - 0.754) * 2
    error = ((raw.mean(1) - (wanted[:, 0] - 0.754) * 2) ** 2).mean()
    visits = ((0.2 - rows["model.attn"]).sum(1) ** 2).sum((1, 2)).mean()
    assert found.item() == pytest.approx((error + 1e-5 * visits).item(), rel=1e-4)
    found.backward()
    assert all(p.grad is not None for name, p in network.named_parameters() if name.startswith("head."))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = numbered(7 * RATE)
    for number, picture in enumerate(pictures):
        picture[:] = np.roll(picture, 2 * number, 1) if number % (4 * RATE) < 2 * RATE else 255 - picture
    return write_video(tmp_path_factory.mktemp("clip") / "c.mp4", pictures, rate=RATE)


@pytest.fixture(scope="module")
def decoded(clip: Path) -> torch.Tensor:
    """The clip by plain PyAV, squashed by Pillow, normalised: ``[56, 3, 224, 224]``."""
    entry = system_entry("amnet")
    assert entry is not None
    with torch.device("meta"):
        contract = build_system(entry, options=SMALL).nodes[0].inputs[0].preprocess
    assert contract is not None
    with av.open(str(clip)) as container:
        rgb = [swscale_rgb(f, ColorMatrix.BT601, ColorRange.LIMITED) for f in container.decode(video=0)]
    pictures = np.stack([pillow_picture(picture, contract) for picture in rgb]).astype(np.float32) / 255
    normal = (pictures - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())


def _made(name: str, folder: Path, decoded: torch.Tensor, **options: Any) -> tuple[Bundle, System]:
    """A bundle and the network that it is of; the range of scores is that of the clip."""
    given = {**SMALL, **options}
    network = build_system(_entry(name), options=given)
    if any(key.startswith("head.scores.range.") for key in network.state_dict()):
        with torch.no_grad():
            scores = network.graphs["amnet"].module(decoded[::RATE])[0]
        network.get_submodule("head.scores.range").set_range(float(scores.min()), float(scores.max()))
    if "head" in network.graphs:
        # A sigmoid far from its middle would hide what the window holds.
        last = network.get_submodule("head.tail.chain.2").get_parameter("bias")
        last.data -= torch.logit(torch.tensor(_window(network, decoded)[2]))
    save_file(network.state_dict(), folder / "weights.safetensors")
    bundle = export_system(_entry(name), [str(folder / "weights.safetensors")], folder / name, options=given)
    for node in bundle.manifest.nodes:
        kinds = {n.op_type for n in onnx.load(bundle.path / node.files["fp32"].file).graph.node}
        assert not kinds & {"Loop", "If", "Scan", "LSTM", "NonZero", "Resize", "BatchNormalization"}
    return bundle, network


def _readings(bundle: Bundle, clip: Path, *sinks: Sink) -> list[memedge.Reading]:
    with (
        memedge.load(bundle.path, engine="onnxruntime") as scorer,
        memedge.stream(str(clip), scorer, sinks=sinks) as stream,
    ):
        found = list(stream)
    for sink in sinks:
        sink.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("amnet", RATE), ("amnet-mean", RATE // 4)])
def test_amnet_streamed_as_torch_scores_offline(
    tmp_path: Path, clip: Path, decoded: torch.Tensor, name: str, step: int
) -> None:
    """A frame a second, or every quarter: the rolling score is the mean of 7 s, of 7 or 28 frames."""
    bundle, network = _made(name, tmp_path, decoded)
    readings = _readings(bundle, clip)
    with torch.no_grad():
        score, _, steps = network.graphs["model"].module(decoded[::step])
    scored = [r for r in readings if r.score is not None]
    assert [r.frame_index for r in scored] == list(range(0, 7 * RATE, step))
    assert readings[-1].rolling == pytest.approx(float(score.mean()), abs=1e-3)
    assert [r.score for r in scored] == pytest.approx(score[:, 0].tolist(), abs=1e-3)
    assert np.allclose([r.outputs["model.step_scores"] for r in scored], steps.numpy(), atol=1e-3)
    assert score.std() > 0.02, "scores that never change would prove nothing"


def _window(network: System, decoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """AMNet's scores and maps of frames 0, 2, 4, 6 s, and the head's score of the window."""
    with torch.no_grad():
        score, attn, _ = network.graphs["amnet"].module(decoded[:: 2 * RATE])
        inputs = {"scores": score[None], "maps": attn[None]}
        given = [inputs[item.name] for item in network.node("head").inputs]
        return score[:, 0], attn, float(network.graphs["head"].module(*given)[0])


def _check_shown(attn: np.ndarray, readings: list[memedge.Reading], folder: Path) -> None:
    """Attention reaches views as torch gives it, and stays out of JSON Lines."""
    found = [r.outputs["amnet.attn"] for r in readings if "amnet.attn" in r.outputs]
    assert np.allclose(found, attn, atol=5e-3)
    lines = [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]
    assert "amnet.step_scores" in lines[0]["outputs"]
    assert not any("amnet.attn" in line.get("outputs", {}) for line in lines)
    moments = json.loads((folder / "m" / "moments.json").read_text())["moments"]
    assert moments
    for moment in moments:
        plain, heat = (np.asarray(Image.open(folder / "m" / moment[key]), int) for key in ("file", "attention"))
        assert np.abs(plain - heat).max() > 60


def _check_window(bundle: Bundle, network: System, clip: Path, decoded: torch.Tensor, folder: Path) -> None:
    readings = _readings(bundle, clip, JsonlSink(folder / "r.jsonl"), MomentsSink(folder / "m", 2))
    scores, attn, expected = _window(network, decoded)
    _check_shown(attn.numpy(), readings, folder)
    once = [r for r in readings if "amnet.step_scores" in r.outputs]
    assert [r.frame_index for r in once] == [0, 16, 32, 48], "a frame goes through AMNet once"
    assert np.allclose([r.outputs["amnet.score"][0] for r in once], scores, atol=1e-3)
    assert readings[-1].rolling == pytest.approx(expected, abs=1e-3)
    assert abs(expected - _window(network, decoded.roll(2 * RATE, 0))[2]) > 0.005, "the head looks at its window"
    # A window that is not full repeats its oldest element, and says so.
    assert [r.complete for r in once] == [False, False, False, False]
    assert readings[-1].targets["short_term"].score is None


def test_amnet_rnn_streamed_as_torch_scores_offline(tmp_path: Path, clip: Path, decoded: torch.Tensor) -> None:
    bundle, network = _made("amnet-rnn", tmp_path, decoded)
    _check_window(bundle, network, clip, decoded, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scores", ["yes", "no"])
def test_amnetvid_streamed_as_torch_scores_offline(
    tmp_path: Path, clip: Path, decoded: torch.Tensor, scores: str
) -> None:
    bundle, network = _made("amnetvid", tmp_path, decoded, use_scores=scores)
    assert [item.name for item in bundle.manifest.node("head").inputs] == ["maps", "scores"][: 1 + (scores == "yes")]
    _check_window(bundle, network, clip, decoded, tmp_path)
