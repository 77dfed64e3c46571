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

from helpers_training import write_set
from memedge.errors import UsageError
from memedge_engines.manifest import Training
from memedge_export import models, weights
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.data import open_data
from memedge_export.errors import DataError, TrainingError
from memedge_export.train import losses, optimise, state
from memedge_export.train.devices import Devices, open_fabric
from memedge_export.train.loop import Job, train
from memedge_export.train.recipe import Augmentation, Phase, Recipe, Schedule
from memedge_export.train.recipes import default_of, named, recipe_for
from memedge_export.train.state import Run

TWO_PHASES = Recipe(
    phases=(
        Phase(name="head", epochs=1, rates={"head": 1e-2}),
        Phase(
            name="all",
            epochs=2,
            rates={"head": 1e-2, "trunk": 1e-3},
            schedule=Schedule(kind="cosine"),
            batch_norm="train",
        ),
    ),
    batch=8,
    augmentation=Augmentation(area=(0.8, 1.0), brightness=0.05),
    average=0.9,
)


@pytest.fixture(autouse=True)
def _one_thread_and_no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are drawn in the test that looks at them: matplotlib takes as long as a training of this size."""
    torch.set_num_threads(1)
    if request.function is not test_killed_at_any_moment_and_resumed:
        monkeypatch.setattr(state, "draw_curves", lambda *_: None)


def job(table: Path, out: Path, recipe: Recipe = TWO_PHASES, **fields: object) -> Job:
    return Job(
        "resnet-s", [open_data(f"folder:{table}")], recipe, out, width=0.25, preprocess=models.squash_preset(16, 16),
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), 120)


def test_head_phase_leaves_the_trunk_as_it_is_to_the_bit() -> None:
    torch.manual_seed(0)
    network = models.entry("resnet-s").build(0.25)
    phase = TWO_PHASES.phases[0]
    optimiser = optimise.prepare(network, phase)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimise.set_modes(network, phase)
    assert all(not m.training for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    for _ in range(3):
        loss = ((network(torch.randn(4, 3, 16, 16))[0] - 0.5) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("trunk."), name


def test_everything_phase_trains_all_and_takes_its_batch_norm_mode() -> None:
    network = models.entry("resnet-s").build(0.25)
    phase = TWO_PHASES.phases[1]
    optimiser = optimise.prepare(network, phase)
    assert all(p.requires_grad for p in network.parameters())
    assert sorted(group["lr"] for group in optimiser.param_groups) == [1e-3, 1e-2]
    optimise.set_modes(network, phase)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.training for m in norms)
    optimise.set_modes(network, msgspec.structs.replace(phase, batch_norm="eval"))
    assert not any(m.training for m in norms)


def test_longest_prefix_gives_the_rate() -> None:
    network = models.entry("resnet-s").build(0.25)
    optimise.prepare(network, Phase(name="top", epochs=1, rates={"head": 1e-2, "trunk.layer4": 1e-4}))
    trained = {name.rsplit(".", 1)[0] for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith(("head", "trunk.layer4")) for name in trained)
    with pytest.raises(TrainingError, match="trains nothing"):
        optimise.prepare(network, Phase(name="none", epochs=1, rates={"neck": 1.0}))


def test_a_run_learns_brightness_and_keeps_its_best(table: Path, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(
        TWO_PHASES,
        phases=(TWO_PHASES.phases[0], msgspec.structs.replace(TWO_PHASES.phases[1], epochs=6)),
        augmentation=Augmentation(area=(0.8, 1.0)),
    )
    runs: list[Run] = []
    best = train(job(table, tmp_path / "run", recipe), after_epoch=runs.append)
    history = runs[-1].history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert runs[-1].best > 0.8
    loaded = weights.load("resnet-s", str(best))
    _, info = weights.read_state(best)
    assert info is not None
    assert info.val_spearman == pytest.approx(runs[-1].best)
    assert info.epoch == max(row["epoch"] for row in history if row["best"])
    assert loaded.training.held_out == "list val (30 pictures; the epoch was chosen on it)"
    assert loaded.preprocess == models.squash_preset(16, 16)
    assert info.quantiles is None  # 30 pictures give no percentiles
    # What it has seen, for the out-of-domain flag: recomputed here from the checkpoint's own weights.
    assert info.domain is not None
    seen = embeddings_of(loaded.model, open_data(f"folder:{table}").split("train"))
    assert np.array(info.domain.mean) == pytest.approx(seen.mean(0), abs=1e-4)
    std = np.maximum(seen.std(0), 0.1 * np.median(seen.std(0)))
    assert np.array(info.domain.std) == pytest.approx(std, abs=1e-4)
    away = np.sqrt((((seen - seen.mean(0)) / std) ** 2).mean(1))
    assert 0 <= info.domain.flagged <= 1 / 30
    assert (away < info.domain.threshold).mean() > 0.9
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,phase,loss,val_spearman,val_mse,best"
    assert len(lines) == 8


def embeddings_of(network: torch.nn.Module, records: list) -> np.ndarray:
    from memedge_export.data.pictures import read_picture, to_tensor

    pictures = torch.stack([to_tensor(read_picture(record.path), models.squash_preset(16, 16)) for record in records])
    with torch.inference_mode():
        return network(pictures)[-1].double().numpy()


def test_early_stopping_ends_a_phase(table: Path, tmp_path: Path) -> None:
    still = Phase(name="still", epochs=9, rates={"head": 0.0}, patience=2)
    runs: list[Run] = []
    train(job(table, tmp_path / "run", Recipe(phases=(still,), batch=16)), after_epoch=runs.append)
    assert len(runs[-1].history) == 3


class _Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    torch.set_num_threads(1)
    return train(job(table, tmp_path_factory.mktemp("whole") / "run")).parent


@pytest.mark.parametrize("after", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_stopped_and_resumed_run_gives_the_same_bytes(table: Path, tmp_path: Path, whole: Path, after: int) -> None:
    def stop(run: Run) -> None:
        if run.total == after:
            raise _Stopped

    with pytest.raises(_Stopped):
        train(job(table, tmp_path / "cut"), after_epoch=stop)
    resumed = train(job(table, tmp_path / "cut"), resume=True)
    assert resumed.read_bytes() == (whole / "best.safetensors").read_bytes()
    assert (tmp_path / "cut/history.csv").read_text() == (whole / "history.csv").read_text()


_CHILD = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
import torch
import test_training as t
from memedge_export.train import state
torch.set_num_threads(1)
saves, save = [], state.replace_file
def counted(path, data):
    saves.append(path.name)
    if saves.count("state.pt") == {number}:
        if {written}:
            save(path, data)
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, data)
state.replace_file = counted
t.train(t.job(Path({table!r}), Path({out!r}), save_every_s=0.0))
"""


# A state is saved after each of the 7 steps of an epoch: the tenth is in the middle of the second one.
@pytest.mark.parametrize(
    ("number", "written"),
    [(10, True), pytest.param(10, False, marks=pytest.mark.slow), pytest.param(14, False, marks=pytest.mark.slow)],
)
def test_killed_at_any_moment_and_resumed(table: Path, tmp_path: Path, whole: Path, number: int, written: bool) -> None:
    out = tmp_path / "killed"
    paths = [*sys.path, str(Path(__file__).parent)]
    code = _CHILD.format(paths=paths, table=str(table), out=str(out), number=number, written=written)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    resumed = train(job(table, out), resume=True)
    assert resumed.read_bytes() == (whole / "best.safetensors").read_bytes()
    assert (out / "history.csv").read_text() == (whole / "history.csv").read_text()
    assert (out / "curves.png").stat().st_size > 5000


def test_one_training_at_a_time_in_a_folder(table: Path, tmp_path: Path) -> None:
    short = Recipe(phases=(TWO_PHASES.phases[0],), batch=16)

    def second(run: Run) -> None:
        with pytest.raises(TrainingError, match="another process trains"):
            train(job(table, tmp_path / "run", short), resume=True)

    train(job(table, tmp_path / "run", short), after_epoch=second)


def recipe_of(loss: losses.LossSpec, **phase: object) -> Recipe:
    only = Phase(name="all", **{"epochs": 3, "rates": {"head": 3e-3, "trunk": 1e-3}, "loss": loss, **phase})  # type: ignore[arg-type]
    return Recipe(phases=(only,), batch=32)


@pytest.mark.parametrize(
    ("loss", "phase"),
    [
        (losses.L1(), {}),
        (losses.MseTails(), {"optimiser": "sgd", "rates": {"head": 3e-2, "trunk": 1e-2}, "clip": 1.0}),
        (losses.Spearman(), {}),
        (losses.Sodeep(l1=0.1), {}),
        (losses.Classes(count=3), {}),
        (losses.Mse(), {"optimiser": "lbfgs", "rates": {"head": 1.0}, "epochs": 6, "weight_decay": 1e-4}),
    ],
    ids=["l1", "tails-sgd", "spearman", "sodeep", "classes", "lbfgs"],
)
def test_every_loss_and_optimiser_learns(
    table: Path, tmp_path: Path, loss: losses.LossSpec, phase: dict[str, object]
) -> None:
    runs: list[Run] = []
    best = train(job(table, tmp_path / "run", recipe_of(loss, **phase)), after_epoch=runs.append)
    history = runs[-1].history
    assert history[-1]["loss"] < history[0]["loss"]
    assert runs[-1].best > 0.5
    loaded = weights.load("resnet-s", str(best))
    if isinstance(loss, losses.Classes):
        # Two cuts at the thirds of the training scores; the score lies between the first cut and 1.
        assert len(loaded.model.cuts) == 2
        score, probabilities, _ = loaded.model(torch.zeros(1, 3, 16, 16))
        assert probabilities.sum().item() == pytest.approx(1)
        assert loaded.model.cuts[0] <= score.item() <= 1


def test_two_targets_train_two_heads(tmp_path: Path, table: Path) -> None:
    import dataclasses

    data = open_data(f"folder:{table}")
    both = dataclasses.replace(
        data,
        targets=("short_term", "long_term"),
        # Every third picture lacks the second score.
        records=tuple(
            dataclasses.replace(
                r, targets={"short_term": r.score, **({} if i % 3 == 0 else {"long_term": 1 - r.score})}
            )
            for i, r in enumerate(data.records)
        ),
    )
    made = job(table, tmp_path / "run", recipe_of(losses.Mse(), epochs=4))
    made.sets, made.targets = [both], ("short_term", "long_term")
    loaded = weights.load("resnet-s", str(train(made)))
    assert loaded.model.targets == ("short_term", "long_term")
    assert [name for name, _ in loaded.model.outputs] == ["score", "score_long_term", "embedding"]
    dark, bright = (loaded.model(torch.full((1, 3, 16, 16), v)) for v in (-1.5, 1.5))
    assert (dark[0] - bright[0]) * (dark[1] - bright[1]) < 0  # the one rises where the other falls
    made.targets, made.out = ("decay",), tmp_path / "other"
    with pytest.raises(DataError, match="no training record has a score of target 'decay'"):
        train(made)


def test_devices_that_are_not_there(table: Path, tmp_path: Path) -> None:
    made = job(table, tmp_path / "run", recipe_of(losses.Mse()))
    made.devices = Devices("gpu", 9)
    with pytest.raises(TrainingError, match="9 GPUs were asked for"):
        train(made)
    with pytest.raises(TrainingError, match=r"fp16 autocast needs a GPU.*bf16"):
        open_fabric(Devices("cpu"), "fp16")


def test_runs_are_not_mixed_up(table: Path, tmp_path: Path) -> None:
    short = Recipe(phases=(TWO_PHASES.phases[0],), batch=16)
    train(job(table, tmp_path / "run", short))
    with pytest.raises(TrainingError, match=r"a run lies in .* already .*--resume"):
        train(job(table, tmp_path / "run", short))
    with pytest.raises(TrainingError, match="another model, data, recipe, seed or start weights"):
        train(job(table, tmp_path / "run", short, seed=9), resume=True)
    (tmp_path / "run" / "state.pt").write_bytes(b"PK cut short")
    with pytest.raises(TrainingError, match="is damaged"):
        train(job(table, tmp_path / "run", short), resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(table: Path, tmp_path: Path) -> None:
    wild = Recipe(phases=(Phase(name="wild", epochs=3, rates={"head": 1e30, "trunk": 1e30}),), batch=8)
    with pytest.raises(TrainingError, match=r"loss (nan|inf) in epoch"):
        train(job(table, tmp_path / "run", wild))


def test_start_weights_are_taken(table: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(7)
    trunk = models.entry("resnet-s").build(0.25).trunk
    save_file(trunk.state_dict(), tmp_path / "trunk.safetensors")
    frozen = Recipe(phases=(Phase(name="head", epochs=1, rates={"head": 1e-3}),), batch=16)
    best = train(job(table, tmp_path / "run", frozen, init=str(tmp_path / "trunk.safetensors")))
    state, _ = weights.read_state(best)
    assert torch.equal(state["trunk.layer4.0.conv2.weight"], trunk.layer4[0].conv2.weight)


def test_what_the_start_weights_came_from_is_not_forgotten(table: Path, tmp_path: Path) -> None:
    info = CheckpointInfo(
        model="resnet-s",
        preprocess=models.squash_preset(32, 32),
        training=Training(status="trained", datasets=("a first set",), notes="made so"),
        licence="its terms",
    )
    trunk = models.entry("resnet-s").build(0.25).trunk
    save(tmp_path / "trunk.safetensors", trunk.state_dict(), info)
    frozen = Recipe(phases=(Phase(name="head", epochs=1, rates={"head": 1e-3}),), batch=16)
    best = train(job(table, tmp_path / "run", frozen, init=str(tmp_path / "trunk.safetensors"), notes="and so"))
    loaded = weights.load("resnet-s", str(best))
    assert loaded.training.datasets == ("pictures listed in list.csv [60 train pictures]", "before that: a first set")
    assert loaded.training.notes.splitlines()[:2] == ["made so", "and so"]
    assert "Epoch 1 gave the best validation Spearman" in loaded.training.notes
    assert loaded.licence == "its terms"


def test_recipes_are_the_papers_or_ours() -> None:
    paper = recipe_for("resnet18")
    assert [phase.name for phase in paper.phases] == ["head", "all"]
    assert (paper.batch, paper.phases[0].rates, paper.phases[0].epochs) == (32, {"head": 1e-3}, 5)
    assert recipe_for("resnet-s", epochs=3, batch=8).phases[-1].epochs == 3
    ours = {"memedge-s"}  # its own pipeline: train/scene.py
    assert all(model in named()[default_of(model)].models for model in set(models.names()) - ours)
    with pytest.raises(UsageError, match="--epochs 0"):
        recipe_for("resnet18", epochs=0)
    with pytest.raises(UsageError, match="--batch 1"):
        recipe_for("resnet18", batch=1)


def test_pretraining_resumes_and_gives_a_trunk(tmp_path: Path) -> None:
    import io

    from PIL import Image

    from memedge_export.errors import DataError
    from memedge_export.train import start
    from memedge_export.train.pretrain import pretrain

    rng = np.random.default_rng(0)
    files, offsets = [], [0]
    for _ in range(2080):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((32, 32)).save(buffer, "JPEG")
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
        offsets.append(offsets[-1] + len(files[-1]))
    labels = (np.arange(2080) % 3).astype(np.uint8)
    np.savez(tmp_path / "train.npz", jpeg=np.concatenate(files), offset=np.array(offsets), label=labels)
    torch.manual_seed(0)
    trunk = models.entry("resnet-s").build(0.17).trunk
    lines: list[str] = []
    out = tmp_path / "out"
    path = pretrain(trunk, trunk.features, tmp_path, out, epochs=1, batch=40, amp=False, report=lines.append)
    assert "held-out accuracy" in lines[-1]
    state, info = weights.read_state(path)
    assert info is None
    assert set(state) == set(trunk.state_dict())
    with pytest.raises(TrainingError, match="a run lies in"):
        start.pretraining("resnet-s", f"tiny32:{tmp_path}", tmp_path / "out")
    with pytest.raises(DataError, match=r"has no train\.npz"):
        start.pretraining("resnet-s", f"tiny32:{tmp_path / 'out'}", tmp_path / "new")
