"""The systems on DSVE's embedding: counts, public weights, bundles equal to torch, streamed as scored offline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import save_file

import memedge
from helpers_dsve import image_file, text_file
from helpers_media import pillow_picture, swscale_rgb
from helpers_video import write_video
from memedge.errors import UsageError
from memedge.models import card
from memedge.pictures import picture
from memedge_engines.bundle import Bundle
from memedge_engines.frame import ColorMatrix, ColorRange
from memedge_export import system_bundle
from memedge_export.errors import WeightsError
from memedge_export.models import count, dsve, squash_preset
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.system_weights import load_system
from memedge_export.train.recipes import recipe_for

SYSTEMS = {
    "semantic": (70_053_633, 15.36),
    "semantic-attention": (70_055_682, 15.36),
    "ic-image": (69_064_009, 37.73),
    "ic-image-text": (127_115_209, 37.73),
}
WORDS = ("dog", "beach", "runs")
LENGTH = 6
VECTORS = np.random.default_rng(1).normal(size=(4, 620)).astype(np.float32)
"""Of the words, and of any other."""


def entry(name: str) -> SystemEntry:
    found = system_entry(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_golden_counts_recipe_and_names(name: str) -> None:
    with torch.device("meta"):
        network = entry(name).build()
    parameters, gmacs = SYSTEMS[name]
    assert count.parameters(network) == parameters
    frames = next(i for node in network.nodes for i in node.inputs if i.source == "source")
    assert frames.preprocess is not None
    size = frames.preprocess.resize.size
    assert isinstance(size, tuple)
    given = [torch.empty(1, 3, *size, device="meta")]
    graph = network.graphs["image" if name == "ic-image-text" else "model"]
    if name == "ic-image-text":
        given.append(torch.empty(1, 2400, device="meta"))
    macs = count.macs_of(graph.module, *given)
    assert round(macs / 1e9, 2) == gmacs
    assert (card(name).parameters, card(name).macs) == (parameters, macs)
    names = list(network.state_dict())
    for phase in recipe_for(name).phases:
        for prefix in phase.rates:
            assert any(key.startswith(f"{prefix}.") for key in names)


def test_text_costs_578_mmac_a_token() -> None:
    with torch.device("meta"):
        text = entry("ic-image-text").build().graphs["text"].module
        found = count.macs_of(text, torch.empty(1, 32, 620), torch.empty(1, 32))
    assert found == 32 * (57_811_200 - 4 * 4_800)  # every weight once a token; biases are no products


def test_options() -> None:
    with torch.device("meta"):
        big = entry("semantic").build(0.125, preset="in400-squash", backbone="resnet50", embedding=True)
        for options, said in (({"preset": "in224"}, "preset=in224"), ({"backbone": "vgg"}, "backbone=vgg")):
            with pytest.raises(UsageError, match=rf"semantic: option {said}; expected one of"):
                entry("semantic").build(0.125, **options)
        with pytest.raises(UsageError, match="ic-image predicts one target"):
            entry("ic-image").build(0.125, targets=("short_term", "long_term"))
    assert [len(getattr(big.get_submodule("trunk.base"), f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert [output.name for output in big.nodes[0].outputs] == ["score", "embedding"]
    assert big.nodes[0].inputs[0].preprocess == squash_preset(400, 400)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> dict[str, SystemEntry]:
    return narrowed(monkeypatch)


@pytest.fixture(scope="module")
def narrow_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield narrowed(patch)


def narrowed(patch: pytest.MonkeyPatch) -> dict[str, SystemEntry]:
    """The systems an eighth as wide, with four blocks, on pictures of 96 x 96 and titles of six words."""
    patch.setattr(dsve, "_BACKBONES", {"resnet152": (1, 1, 1, 1)})
    patch.setattr(dsve, "TOKENS", LENGTH)
    patch.setattr(dsve, "_PRESETS", dict.fromkeys(dsve._PRESETS, squash_preset(96, 96)))

    def thin(real: SystemEntry) -> SystemEntry:
        return dataclasses.replace(real, build=lambda width=1.0, **given: real.build(width / 8, **given))

    return {name: thin(entry(name)) for name in SYSTEMS}


def scored(network: System) -> System:
    """The network with statistics, attention and a last layer that make its scores differ from picture to picture."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            if "attention" in name:
                tensor.normal_(0, 0.3)
            if "neutral" in name:
                tensor.normal_(0, 0.05)
        shown = [pillow_picture(picture(n, 11, (96, 72)), squash_preset(96, 96)) for n in range(7)]
        tensors = (torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225
        last, head = network.linears[0], list(network.graphs.values())[-1].module
        raw: list[torch.Tensor] = []
        hook = last.register_forward_hook(lambda module, given, output: raw.append(output))
        text = [network.get_submodule("text.neutral").embedding.expand(7, -1)] if "text" in network.graphs else []
        head(tensors, *text)
        hook.remove()
        gain = 0.2 / raw[0].std()
        middle = 0.0 if network.get_submodule(network.last[0].rpartition(".")[0]).out_act == "sigmoid" else 0.5
        last.weight.mul_(gain)
        last.bias.copy_((last.bias - raw[0].mean()) * gain + middle)
    return network


def words_file(folder: Path) -> Path:
    path = folder / "words.txt"
    rows = zip((*WORDS, "UNK"), VECTORS, strict=True)
    path.write_text("".join(f"{word} {' '.join(f'{v:.9g}' for v in row)}\n" for word, row in rows))
    return path


class Made(dict[str, tuple[Bundle, System]]):
    """Bundles and the networks that they are of, by the system's name; each is made when it is first asked for."""

    def __init__(self, entries: dict[str, SystemEntry], folder: Path) -> None:
        super().__init__()
        self.entries, self.folder = entries, folder

    def __missing__(self, name: str) -> tuple[Bundle, System]:
        network = scored(build_system(self.entries[name], seed=1, options={"embedding": True}))
        save_file(network.state_dict(), self.folder / f"{name}.safetensors")
        bundle = system_bundle.export_system(
            self.entries[name],
            [str(self.folder / f"{name}.safetensors")],
            self.folder / name,
            options={"embedding": "true"},
            words=words_file(self.folder) if name == "ic-image-text" else None,
        )
        return self.setdefault(name, (bundle, network))


@pytest.fixture(scope="module")
def made(narrow_module: dict[str, SystemEntry], tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(narrow_module, tmp_path_factory.mktemp("dsve"))


PLAIN = {
    "Add", "Clip", "Concat", "Conv", "Div", "Gemm", "MatMul", "Max", "MaxPool", "Mul", "Neg", "Pad", "ReduceL2",
    "ReduceMean", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Sub", "Tanh", "TopK",
    "Unsqueeze", "Identity",
}  # fmt: skip


@pytest.mark.slow
def test_roles_of_the_outputs(made: Made) -> None:
    semantic, ic = made["semantic-attention"][0], made["ic-image-text"][0]
    roles = {o.name: o.role for o in semantic.manifest.nodes[0].outputs}
    assert roles == {"score": "score", "attn": "attention", "embedding": "embedding"}
    assert [(n.name, [o.role for o in n.outputs]) for n in ic.manifest.nodes] == [
        ("text", ["features"]),
        ("image", ["score", "embedding", "features"]),
    ]
    assert "words" in ic.manifest.files


@pytest.mark.parametrize("name", ["semantic-attention", pytest.param("ic-image-text", marks=pytest.mark.slow)])
def test_graphs_hold_plain_operators_and_give_torchs_numbers_by_the_reference_evaluator(made: Made, name: str) -> None:
    bundle, network = made[name]
    torch.manual_seed(0)
    for node in bundle.manifest.nodes:
        graph = onnx.load(bundle.path / node.files["fp32"].file)
        assert {n.op_type for n in graph.graph.node} <= PLAIN
        sizes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim][1:] for i in graph.graph.input}
        given = {key: torch.randn(2, *size) for key, size in sizes.items()}
        if node.name == "text":
            given["token_mask"] = (torch.arange(LENGTH)[None] < torch.tensor([[LENGTH], [0]])).float()
        found = ReferenceEvaluator(graph).run(None, {key: tensor.numpy() for key, tensor in given.items()})
        with torch.no_grad():
            expected = network.graphs[node.name].module.eval()(*given.values())
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=2e-5)


def test_attention_of_a_scored_picture_sums_to_one(made: Made) -> None:
    bundle, _ = made["semantic-attention"]
    with memedge.load(bundle.path) as scorer:
        attention = scorer.score(picture(1, 5, (90, 70))).outputs["model.attn"]
    assert attention.shape == (1, 3, 3)
    assert attention.sum() == pytest.approx(1, abs=1e-5)
    assert attention.std() > 0


def offline(network: System, clip: Path, words: list[str] | None) -> tuple[float, list[float]]:
    """The mean score of the frames at 0, 1, ... 6 s, and the scores: PyAV, swscale, Pillow, torch."""
    with av.open(str(clip)) as container:
        decoded = [frame for number, frame in enumerate(container.decode(video=0)) if number % 8 == 0]
    contract = network.nodes[-1].inputs[0].preprocess
    assert contract is not None
    shown = [pillow_picture(swscale_rgb(f, ColorMatrix.BT709, ColorRange.LIMITED), contract) for f in decoded]
    levels = np.stack(shown).astype(np.float64) / 255
    tensors = ((levels - np.array(contract.mean)) / np.array(contract.std)).transpose(0, 3, 1, 2).astype(np.float32)
    network.eval()
    with torch.no_grad():
        given = [torch.from_numpy(tensors)]
        if words is not None:
            tokens, mask = torch.zeros(1, LENGTH, 620), torch.zeros(1, LENGTH)
            for place, word in enumerate(words):
                tokens[0, place] = torch.from_numpy(VECTORS[WORDS.index(word) if word in WORDS else 3])
                mask[0, place] = 1
            given.append(network.graphs["text"].module(tokens, mask)[0].expand(len(tensors), -1))
        scores = list(network.graphs.values())[-1].module(*given)[0][:, 0].clamp(0, 1)
    return float(scores.mean()), scores.tolist()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven seconds, eight frames a second, another picture each second."""
    pictures = [picture(number // 8, 11, (96, 72)) for number in range(56)]
    return write_video(tmp_path_factory.mktemp("clip") / "c.mp4", pictures, rate=8, colors=(1, 1))


@pytest.mark.parametrize(
    ("name", "title", "words"),
    [
        ("semantic-attention", None, None),
        pytest.param("semantic", None, None, marks=pytest.mark.slow),
        pytest.param("ic-image", None, None, marks=pytest.mark.slow),
        ("ic-image-text", None, []),
        ("ic-image-text", "Dog-RUNS-sideways.webm", ["dog", "runs", "sideways"]),
    ],
)
def test_the_rolling_score_is_the_offline_score(
    made: Made, clip: Path, name: str, title: str | None, words: list[str] | None
) -> None:
    bundle, network = made[name]
    expected, single = offline(network, clip, words)
    assert np.std(single) > 5e-3
    caller = {} if title is None else {"title": title}
    with memedge.load(bundle.path) as scorer, memedge.stream(str(clip), scorer, caller=caller) as stream:
        readings = list(stream)
        assert stream.summary is not None
        video = stream.summary.video_score["short_term"]
    assert readings[-1].rolling == pytest.approx(expected, abs=1e-3)
    assert video == pytest.approx(expected, abs=1e-3)
    found = [reading.score for reading in readings if reading.score is not None]
    assert found == pytest.approx(single, abs=4e-3)  # a level of the picture is worth more than it usually is
    assert {"no_title" in reading.flags for reading in readings if reading.score is not None} == {words == []}


def test_a_public_file_goes_into_both_towers(narrow: dict[str, SystemEntry], tmp_path: Path) -> None:
    source = build_system(narrow["ic-image-text"], seed=5)
    tower = source.get_submodule("image.trunk")
    state = {**image_file(tower), **text_file(620, 300, 4)}
    path = tmp_path / "dsve.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    with pytest.raises(UsageError, match=r"--weights image.trunk=FILE or --weights text.tower=FILE"):
        load_system(narrow["ic-image-text"], [str(path)])
    both = [f"image.trunk={path}", f"text.tower={path}"]
    loaded = load_system(narrow["ic-image-text"], both)
    assert loaded.untrained  # the head was never trained
    assert {name.split(".")[1] for name in loaded.fresh} == {"head", "neutral"}
    assert torch.equal(loaded.network.get_submodule("image.trunk.fc").weight, state["fc.module.weight"])
    plain = load_system(narrow["semantic"], [str(path)])
    assert {name.split(".")[0] for name in plain.fresh} == {"head"}
    attended = load_system(narrow["semantic-attention"], [str(path)]).network
    assert not attended.get_submodule("trunk.attention.conv").weight.any()
    del state["fc.module.bias"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    with pytest.raises(WeightsError, match=r"1 of \d+ keys are missing: trunk.fc.bias"):
        load_system(narrow["semantic"], [str(path)])
