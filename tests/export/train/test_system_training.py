"""Training of tiny systems on small videos: phases, resuming, frozen parts, fitted parts, start weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from helpers_sets import gray_videomem
from helpers_system_training import PARTS, PLAIN, job, two_phases, use
from helpers_systems import ENTRIES, PICTURE, Trunk
from memedge.errors import UsageError
from memedge_engines.manifest import Node, NodeInput, NodeOutput, Target
from memedge_export import weights
from memedge_export.errors import TrainingError
from memedge_export.models import system
from memedge_export.models.system import Graph, System, SystemEntry, graph_node
from memedge_export.system_weights import load_system
from memedge_export.train import memo, optimise, state
from memedge_export.train.loop import train
from memedge_export.train.losses import Classes, Spearman
from memedge_export.train.recipe import Phase, Recipe
from memedge_export.train.state import Run
from memedge_export.train.system_feed import SystemValidationFeed


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for entry in ENTRIES.values():
        monkeypatch.setitem(system._systems, entry.id, entry)
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gray_videomem(tmp_path_factory.mktemp("videomem"))


@pytest.mark.parametrize("key", list(ENTRIES))
def test_a_head_learns_and_what_is_frozen_stays_to_the_bit(clips: Path, tmp_path: Path, key: str) -> None:
    recipe = two_phases(key, 3)
    recipe = msgspec.structs.replace(recipe, phases=recipe.phases[:1])
    runs: list[Run] = []
    best = train(job(clips, tmp_path / "run", key, recipe), after_epoch=runs.append)
    losses = [float(row["loss"]) for row in runs[-1].history]
    assert losses[-1] < losses[0]
    first = system.build_system(ENTRIES[key], seed=1).state_dict()
    trained, info = weights.read_state(best)
    assert info is not None
    assert info.preprocess is None
    head = PARTS[key][0] + "."
    for name, tensor in first.items():
        moves = name.startswith(head) and "norm.running" not in name and "norm.num" not in name
        assert torch.equal(trained[name], tensor) == (not moves), name


def test_dropout_of_frozen_parts_is_off() -> None:
    network = nn.ModuleDict(
        {
            "trunk": nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2)),
            "head": nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2)),
        }
    )
    phase = Phase(name="head", epochs=1, rates={"head": 1.0}, batch_norm="train", frozen_batch_norm="train")
    optimise.prepare(network, phase)
    optimise.set_modes(network, phase)
    modes = {name: module.training for name, module in network.named_modules() if "." in name}
    assert modes == {
        "trunk.0": False, "trunk.1": False, "trunk.2": True, "head.0": True, "head.1": True, "head.2": True,
    }  # fmt: skip


@pytest.mark.parametrize("key", ["clip", "hybrid"])
def test_everything_learns(clips: Path, tmp_path: Path, key: str) -> None:
    runs: list[Run] = []
    best = train(job(clips, tmp_path / "run", key, two_phases(key, 3, average=0.5)), after_epoch=runs.append)
    assert float(runs[-1].history[-1]["loss"]) < float(runs[-1].history[0]["loss"])
    assert runs[-1].best > 0.9
    loaded = load_system(ENTRIES[key], [str(best)])
    assert not loaded.untrained
    assert loaded.training.held_out == "videomem val (4 videos; the epoch was chosen on it)"
    if key == "hybrid":
        assert loaded.options == {"weight": 0.0}


def test_start_is_the_mean_score_whatever_stands_behind_the_last_layer(clips: Path, tmp_path: Path) -> None:
    still = Recipe(phases=(Phase(name="still", epochs=1, rates={"head": 0.0}),), batch=4)
    for key in ("frame", "clip"):  # with and without a sigmoid
        made = job(clips, tmp_path / key, key, still)
        loaded = load_system(ENTRIES[key], [str(train(made))])
        mean = float(np.mean([record.score for record in made.sets[0].split("train")]))
        clip = torch.zeros(1, 3, 32, 32) if key == "frame" else torch.zeros(1, 3, 8, 16, 16)
        with torch.inference_mode():
            assert float(loaded.network.graphs["model"].module(clip)[0]) == pytest.approx(mean, abs=0.05)


_CHILD = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
import test_system_training as t
from memedge_export.models import system
from memedge_export.train import state
for entry in t.ENTRIES.values():
    system._systems[entry.id] = entry
state.draw_curves = lambda *_: None
saves, save = [], state.replace_file
def counted(path, data):
    save(path, data)
    saves.append(path.name)
    if saves.count("state.pt") == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
state.replace_file = counted
t.torch.set_num_threads(1)
t.train(t.job(Path({clips!r}), Path({out!r}), "hybrid", t.resumed(), save_every_s=0.0))
"""


def resumed() -> Recipe:
    """Two phases, the first one on what the frozen part gives, kept; a moving average."""
    recipe = two_phases("hybrid", 2, average=0.8)
    first = msgspec.structs.replace(recipe.phases[0], augmentation=PLAIN)
    return msgspec.structs.replace(recipe, phases=(first, recipe.phases[1]))


class _Stopped(Exception):
    pass


# Of the two states of each epoch of two steps the first is in its middle: the fifth is that of the other phase.
@pytest.mark.parametrize("number", [1, 5])
def test_stopped_in_mid_epoch_and_resumed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = train(job(clips, tmp_path / "whole", "hybrid", resumed(), save_every_s=0.0))
    saves: list[str] = []
    save = state.replace_file

    def counted(path: Path, data: bytes) -> None:
        save(path, data)
        saves.append(path.name)
        if saves.count("state.pt") == number:
            raise _Stopped

    monkeypatch.setattr(state, "replace_file", counted)
    made = job(clips, tmp_path / "cut", "hybrid", resumed(), save_every_s=0.0)
    with pytest.raises(_Stopped):
        train(made)
    monkeypatch.setattr(state, "replace_file", save)
    assert train(made, resume=True).read_bytes() == whole.read_bytes()
    assert (tmp_path / "cut/history.csv").read_text() == (whole.parent / "history.csv").read_text()


@pytest.mark.slow
def test_killed_and_resumed(clips: Path, tmp_path: Path) -> None:
    whole = train(job(clips, tmp_path / "whole", "hybrid", resumed()))
    out = tmp_path / "killed"
    paths = [*sys.path, str(Path(__file__).parent), str(Path(__file__).parent.parent.parent)]
    code = _CHILD.format(paths=paths, clips=str(clips), out=str(out), number=3)
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    again = train(job(clips, out, "hybrid", resumed()), resume=True)
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("key", ["frame", "hybrid"])
def test_frozen_parts_run_once_a_record_and_change_nothing(
    clips: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, layer = "head", {"frame": "trunk.conv1", "hybrid": "picture.trunk.conv1"}[key]
    counts: list[int] = []

    def counted(made: System) -> System:
        made.get_submodule(layer).register_forward_hook(lambda _, given, __: counts.append(len(given[0])))
        return made

    use(monkeypatch, key, counted)
    recipe = Recipe(phases=(Phase(name="head", epochs=6, rates={head: 1e-2}),), batch=4, augmentation=PLAIN)
    kept = train(job(clips, tmp_path / "kept", key, recipe))
    few = sum(counts)
    counts.clear()
    monkeypatch.setattr("memedge_export.train.system_feed.frozen_parts", lambda network: {})
    plain = train(job(clips, tmp_path / "plain", key, recipe))
    # Without: 8 frames of training and 16 of validation in each of 6 epochs. With: each at most once, and one more.
    assert sum(counts) - few >= 6 * (8 + 16) - (32 + 16) - 1
    one, other = (weights.read_state(path)[0] for path in (kept, plain))
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=1e-4), name


def test_kept_outputs_go_to_disk_and_then_are_not_kept(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(phases=(Phase(name="head", epochs=2, rates={"head": 1e-2}),), batch=4, augmentation=PLAIN)
    results = []
    for memory, disk in ((1 << 20, 0), (0, 1 << 20), (0, 100)):
        monkeypatch.setattr(memo.Memo.__init__, "__defaults__", (memory, disk))
        results.append(train(job(clips, tmp_path / f"{memory}-{disk}", "frame", recipe)))
    states = [weights.read_state(path)[0] for path in results]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert all(torch.allclose(tensor, states[2][name], atol=1e-4) for name, tensor in states[0].items())


def test_what_two_targets_and_an_aggregate_behind_them_learn(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two heads on one trunk; the first target is the mean of a head's scores at the last two seconds."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head = Trunk(), nn.Linear(16, 2)

        def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = self.head(self.trunk(frames))
            return scores[:, :1], scores[:, 1:]

    def build(*_: object, targets: tuple[str, ...], **__: object) -> System:
        frames = NodeInput(name="frames", source="source", preprocess=PICTURE)
        node = graph_node("model", [frames], {"score": "score", "other": "score"}, 1.0)
        item = NodeInput(name="scores", source="model.score", last=2, stride_s=1.0)
        mean = Node(
            name="pair", kind="aggregate", extractor="mean", inputs=(item,), period_s=1.0,
            outputs=(NodeOutput(name="score", role="score"),),
        )  # fmt: skip
        wanted = [Target(name=targets[0], source="pair.score", primary=True, aggregate="last")]
        wanted.append(Target(name=targets[1], source="model.other"))
        return System([node, mean], {"model": Graph(Two())}, wanted)

    monkeypatch.setitem(system._systems, "tiny-frame", SystemEntry("tiny-frame", build))
    runs: list[Run] = []
    phase = Phase(name="head", epochs=10, rates={"head": 1.0}, optimiser="lbfgs")
    recipe = Recipe(phases=(phase,), augmentation=PLAIN)
    made = job(clips, tmp_path / "run", "frame", recipe, targets=("short_term", "long_term"))
    best = train(made, after_epoch=runs.append)
    assert float(runs[-1].history[-1]["loss"]) < 0.5 * float(runs[-1].history[0]["loss"])
    loaded = load_system(system._systems["tiny-frame"], [str(best)])
    predicted = SystemValidationFeed(loaded.network, made.sets[0].split("val")).predict(loaded.network)
    # The one rises where the other falls.
    assert np.corrcoef(predicted.T)[0, 1] < 0


def test_the_whole_set_at_once(clips: Path, tmp_path: Path) -> None:
    phase = Phase(name="head", epochs=5, rates={"head": 1.0}, optimiser="lbfgs", weight_decay=1e-4)
    runs: list[Run] = []
    train(job(clips, tmp_path / "run", "frame", Recipe(phases=(phase,), augmentation=PLAIN)), after_epoch=runs.append)
    assert float(runs[-1].history[-1]["loss"]) < 0.5 * float(runs[-1].history[0]["loss"])
    assert len(runs[-1].history) == 5


def test_start_weights_of_parts_and_options(clips: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    picture = system.build_system(ENTRIES["frame"], seed=9)
    save_file(picture.state_dict(), tmp_path / "picture.safetensors")
    head = Recipe(phases=(Phase(name="head", epochs=1, rates={"head": 1e-2}),), batch=4)
    made = job(
        clips, tmp_path / "run", "hybrid", head,
        init=(f"picture={tmp_path / 'picture.safetensors'}",), options={"weight": "0.5"},
    )  # fmt: skip
    trained, info = weights.read_state(train(made))
    assert info is not None
    assert info.options == {"weight": 0.5}
    assert info.extractors == {"colorhist-rgb": "1"}
    assert torch.equal(trained["picture.trunk.conv1.weight"], picture.trunk.conv1.weight)  # type: ignore[union-attr]
    again = job(clips, tmp_path / "again", "hybrid", head, init=str(tmp_path / "run/best.safetensors"))
    _, info = weights.read_state(train(again))
    assert info is not None
    assert info.options == {"weight": 0.5}
    again.options, again.out = {"weight": "0.25"}, tmp_path / "other"
    with pytest.raises(UsageError, match=r"--option weight=0.25; the checkpoint was trained with weight=0.5"):
        train(again)


def only(**fields: object) -> Recipe:
    return Recipe(phases=(Phase(name="x", epochs=1, **{"rates": {"head": 1.0}, **fields}),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": only(rates={"neck": 1.0})}, "like 'neck'; there are picture, head"),
        ({"recipe": only(loss=Classes(count=3))}, "takes targets"),
        ({"targets": ("short_term", "long_term")}, r"takes targets \['short_term'\]"),
        ({"words": Path("words.txt")}, "takes no title"),
        ({"options": {"wait": "1"}}, "has no option 'wait'; did you mean 'weight'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_system_is_told(
    clips: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises((UsageError, TrainingError), match=message):
        train(job(clips, tmp_path / "run", "hybrid", **change))  # type: ignore[arg-type]


def test_ranks_and_embeddings(clips: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        phases=(Phase(name="all", epochs=2, rates={"head": 1e-2, "trunk": 1e-3}, loss=Spearman()),), batch=8
    )
    best = train(job(clips, tmp_path / "run", "frame", recipe))
    _, info = weights.read_state(best)
    assert info is not None
    assert info.domain is not None
    assert len(info.domain.mean) == 16
    assert info.domain.threshold > 0
