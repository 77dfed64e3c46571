"""Parts of systems that are fitted to training data, and the use of these fits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from helpers_sets import gray_videomem
from helpers_system_training import job, two_phases, use
from helpers_systems import ENTRIES
from memedge_export.blocks.standardise import Standardise
from memedge_export.errors import TrainingError
from memedge_export.models import system
from memedge_export.models.system import System
from memedge_export.system_weights import load_system
from memedge_export.train import state
from memedge_export.train.fitting import FitData, FittedPart
from memedge_export.train.loop import train


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for entry in ENTRIES.values():
        monkeypatch.setitem(system._systems, entry.id, entry)
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gray_videomem(tmp_path_factory.mktemp("videomem"))


class Scaled(nn.Module):
    """A head on standardised features."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.out = Standardise(16), nn.Linear(16, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.out(self.scale(features))


def test_parts_are_fitted_before_the_first_phase_and_where_a_phase_says_so(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def fit(network: System, data: FitData) -> None:
        rows = data.entering("head.scale")
        seen.append((rows.values, rows.scores))
        scale = network.get_submodule("head.scale")
        assert isinstance(scale, Standardise)
        scale.fit([rows.values])

    def changed(made: System) -> System:
        module = made.graphs["model"].module
        module.head = made.head = Scaled()  # type: ignore[assignment]
        made.last = ("head.out",)
        made.fitted = (FittedPart("head.scale", fit),)
        return made

    use(monkeypatch, "frame", changed)
    recipe = two_phases("frame", 1)
    last = msgspec.structs.replace(recipe.phases[0], name="again", refit=True)
    best = train(job(clips, tmp_path / "run", "frame", msgspec.structs.replace(recipe, phases=(*recipe.phases, last))))
    assert len(seen) == 2
    # Eight videos of training, each at 0, 1, 2 and 3 s, with the video's score.
    assert [tuple(values.shape) for values, _ in seen] == [(32, 16)] * 2
    assert len(torch.unique(seen[0][1])) == 8
    loaded = load_system(system._systems["tiny-frame"], [str(best)])
    scale = loaded.network.get_submodule("head.scale")
    assert any(torch.allclose(scale.mean, values.mean(0), atol=1e-4) for values, _ in seen)
    # Who starts from these weights has the fit already.
    seen.clear()
    train(job(clips, tmp_path / "more", "frame", recipe, init=str(best)))
    assert not seen


def test_parts_that_nothing_enters_are_told(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(made: System) -> System:
        made.graphs["model"].module.idle = made.idle = Standardise(3)  # type: ignore[assignment]
        made.fitted = (FittedPart("idle", lambda network, data: void(data.entering("idle"))),)
        return made

    use(monkeypatch, "frame", changed)
    with pytest.raises(TrainingError, match="nothing enters the part 'idle'"):
        train(job(clips, tmp_path / "run", "frame"))


def void(*_: object) -> None:
    """Takes anything."""
