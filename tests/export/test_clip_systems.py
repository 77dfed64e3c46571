"""resnet3d34 and the systems on C3D: counts, options that public files bring, checkpoints, training's parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memedge_engines.manifest import Preprocess
from memedge_engines.trace import FrameTime, trace
from memedge_export.models.count import macs_of, parameters
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.system_weights import load_system, start_options


def entry(name: str) -> SystemEntry:
    found = system_entry(name)
    assert found is not None
    return found


def whole(name: str, **options: str) -> System:
    with torch.device("meta"):
        return entry(name).build(1.0, **options)


def preset(system: System, node: str = "model") -> Preprocess:
    found = system.node(node).inputs[0].preprocess
    assert found is not None
    return found


@pytest.mark.parametrize(("shortcut", "count"), [("B", 63_514_049), ("A", 63_340_225)])
def test_resnet3d34(shortcut: str, count: int) -> None:
    system = whole("resnet3d34", shortcut=shortcut)
    assert parameters(system) == count
    assert {name.partition(".")[0] for name, _ in system.named_parameters()} == {"trunk", "head"}
    if shortcut == "B":
        work = macs_of(system.graphs["model"].module, torch.empty(1, 3, 16, 112, 112, device="meta"))
        assert round(work / 1e9, 2) == 12.70
    node = system.node("model")
    assert (node.period_s, node.anchor, node.inputs[0].last, node.inputs[0].stride_s) == (1.0, "start", 16, 0)
    # 0..1 with deviations, or 0..255 without.
    assert preset(system).scale == (1 / 255 if shortcut == "B" else 1)
    assert preset(system).mean == ((0.4345, 0.4051, 0.3775) if shortcut == "B" else (114.7748, 107.7354, 99.4750))


@pytest.mark.parametrize(("name", "act"), [("c3d-mlp", "relu"), ("c3d-mlp-videomem", "tanh")])
def test_c3d_mlp(name: str, act: str) -> None:
    system = whole(name)
    assert parameters(system.get_submodule("head")) == 10_301
    assert parameters(system.get_submodule("c3d")) == 78_409_573
    assert system.get_submodule("head.head").act == act
    # The recipes train the head alone.
    assert {n.partition(".")[0] for n, _ in system.named_parameters()} == {"c3d", "head"}
    assert preset(system, "c3d").color == "bgr"
    assert parameters(whole(name, features="files")) == 10_301


def old_file(path: Path) -> Path:
    """A ResNet-34 of 2017, narrow: type A."""
    network = entry("resnet3d34").build(0.05, shortcut="A", depths=(1, 1, 1, 1))
    trunk = network.get_submodule("trunk").state_dict()
    state = {f"module.{name}": tensor for name, tensor in trunk.items()}
    state |= {"module.fc.weight": torch.zeros(400, 26), "module.fc.bias": torch.zeros(400)}
    torch.save({"state_dict": state, "epoch": 200, "arch": "resnet-34"}, path)
    return path


def narrow(name: str, width: float, **more: object) -> SystemEntry:
    """The entry with other channels, whatever it is asked for."""
    known = entry(name)
    return SystemEntry(known.id, lambda _, **given: known.build(width, **more, **given), known.options, known.imports)


def test_a_public_file_says_its_shortcuts_and_with_them_its_normalisation(tmp_path: Path) -> None:
    file = old_file(tmp_path / "resnet-34-kinetics.pth")
    small = narrow("resnet3d34", 0.05, depths=(1, 1, 1, 1))
    loaded = load_system(small, [str(file)])
    assert loaded.options["shortcut"] == "A"
    assert preset(loaded.network).scale == 1
    assert loaded.fresh == {"head.weight", "head.bias"}
    assert start_options(small, [str(file)], {}) == {"shortcut": "A"}
    state = torch.load(file, weights_only=True)["state_dict"]
    assert torch.equal(
        loaded.network.state_dict()["trunk.layer4.0.conv2.weight"], state["module.layer4.0.conv2.weight"]
    )


def test_a_port_of_c3d_says_how_its_last_pooling_pads(tmp_path: Path) -> None:
    small = narrow("c3d-mlp", 0.02)
    trunk = build_system(small).get_submodule("c3d.trunk").state_dict()
    torch.save(dict(trunk), tmp_path / "c3d.pickle")
    loaded = load_system(small, [str(tmp_path / "c3d.pickle")])
    assert loaded.options["pool5"] == "both"
    # What is typed goes before it.
    assert load_system(small, [str(tmp_path / "c3d.pickle")], options={"pool5": "after"}).options["pool5"] == "after"


@pytest.mark.parametrize("rate", [15, 24, 30])
def test_clips_of_sixteen_frames_begin_each_second(rate: int) -> None:
    times = [FrameTime(n / rate, 1 / rate, n) for n in range(7 * rate)]
    for name, node, score in (("resnet3d34", "model", "model"), ("c3d-mlp", "c3d", "head")):
        calls = trace(whole(name).dataflow, times)
        seen = [call for call in calls if call.node == node]
        # At 15 a second the clip that begins at the sixth second does not fit.
        starts = [second * rate for second in range(7) if second * rate + 16 <= len(times)]
        assert [call.inputs["clip"] for call in seen] == [tuple(range(first, first + 16)) for first in starts]
        assert all(call.complete for call in seen)
        # A score for each clip, when its last frame is there.
        assert [call.frame for call in calls if call.node == score] == [first + 15 for first in starts]
