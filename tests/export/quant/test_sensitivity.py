"""Which layers move the scores: known effects of fake layers, found in few runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from memedge_export.quant.graph import Layer
from memedge_export.quant.lower_types import Lowered
from memedge_export.quant.sensitivity import sensitivity, spread

REFERENCE = np.random.default_rng(0).uniform(0.2, 0.8, 240)


class Fake:
    """A network whose layers each add noise of a known size to the scores when they are lowered."""

    def __init__(self, effects: Mapping[str, float]) -> None:
        self.layers = [Layer(name=name, op="Conv", macs=100) for name in effects]
        self.runs: list[tuple[frozenset[str], int]] = []
        rng = np.random.default_rng(1)
        self._noise = {name: effect * rng.choice([-1.0, 1.0], 240) for name, effect in effects.items()}

    def lower(self, excluded: frozenset[str]) -> Lowered:
        names = [layer.name for layer in self.layers]
        kept = tuple(name for name in names if name not in excluded)
        share = len(kept) / len(names)
        floated = dict.fromkeys(excluded, "excluded")
        return Lowered(model=",".join(kept).encode(), quantized=kept, floated=floated, mac_share=share, inputs={})

    def score(self, lowered: Lowered, rows: np.ndarray | None = None) -> np.ndarray:
        self.runs.append((frozenset(lowered.quantized), 240 if rows is None else len(rows)))
        total = REFERENCE + sum((self._noise[name] for name in lowered.quantized), np.zeros(240))
        return total if rows is None else total[rows]


def test_few_layers_are_lowered_one_by_one(capfd: pytest.CaptureFixture[str]) -> None:
    effects = {"a": 0.001, "b": 0.05, "c": 0.0, "d": 0.02}
    fake = Fake(effects)
    found = sensitivity(fake.lower, fake.score, REFERENCE, fake.layers)
    assert [one.layer for one in found] == ["b", "d", "a", "c"]
    assert all(one.error == pytest.approx(effects[one.layer]) and one.measured for one in found)
    assert fake.runs == [({name}, 32) for name in effects]
    assert "sensitivity of layers: 4/4" in capfd.readouterr().err


def test_two_guilty_layers_among_many_are_found_in_few_runs() -> None:
    effects = {f"layer{i}": 0.0005 for i in range(100)} | {"layer17": 0.3, "layer83": 0.2}
    fake = Fake(effects)
    found = sensitivity(fake.lower, fake.score, REFERENCE, fake.layers, probe_frames=40)
    assert [one.layer for one in found[:2]] == ["layer17", "layer83"]
    assert [one.error for one in found[:2]] == pytest.approx([0.3, 0.2])
    assert len(found) == 100
    assert len(fake.runs) == 10 + 20
    assert {count for _, count in fake.runs} == {40}
    assert not all(one.measured for one in found)
    quiet = [one.error for one in found if not one.measured]
    assert max(quiet) < 0.002


def test_not_finite_is_the_worst() -> None:
    effects = {f"layer{i}": 0.001 for i in range(30)} | {"layer4": math.nan, "layer22": math.inf, "layer9": 0.2}
    fake = Fake(effects)
    found = sensitivity(fake.lower, fake.score, REFERENCE, fake.layers)
    assert {one.layer for one in found[:2]} == {"layer4", "layer22"}
    assert all(math.isinf(one.error) for one in found[:2])


def test_probe_pictures_are_spread_over_the_scores() -> None:
    rows = spread(REFERENCE, 5)
    assert np.sort(REFERENCE[rows]) == pytest.approx(np.quantile(REFERENCE, np.linspace(0, 1, 5)), abs=0.01)
    assert list(rows) == sorted(set(rows))
    assert list(spread(REFERENCE[:3], 32)) == [0, 1, 2]
