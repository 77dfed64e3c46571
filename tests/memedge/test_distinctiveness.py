"""Distinctiveness, live: against the sum over all embeddings ever seen, written out; bounded, saved, in readings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import memedge
from helpers_bundle import edit_manifest, make_frame_bundle
from helpers_video import numbered, write_video
from memedge.cli import main
from memedge.distinctiveness import (
    CAPACITY,
    LiveDistinctiveness,
    SceneMemory,
    check_distinctiveness,
    embedding_of,
)
from memedge.errors import EngineError, UsageError
from memedge.lane import LaneOptions
from memedge.loop import Loop, LoopOptions
from memedge.shown import NewestOutputs, shown_outputs
from memedge.sources import open_source
from memedge_engines.bundle import Bundle


def direct(past: np.ndarray, ages: np.ndarray, now: np.ndarray, memory_s: float, std: np.ndarray | None) -> float:
    """The definition, float64, over every embedding ``[N, F]`` with its age in seconds."""
    weights = np.exp(-ages / memory_s)
    weights /= weights.sum()
    if std is None:
        mean = weights @ past
        variance = weights @ (past - mean) ** 2
        variance = variance + 1e-3 * variance.mean() + 1e-6 * (mean**2).mean() + 1e-12
    else:
        variance = std**2
    squares = ((past - now) ** 2 / variance).mean(1)
    return float(1 - weights @ np.exp(-squares / 2))


def _walk(count: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of a camera that goes to and fro between three places, and their times, unevenly spaced."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(3, size)) * 4
    rows = places[(np.arange(count) // 9) % 3] + rng.normal(size=(count, size)) * 0.3
    return rows.astype(np.float32), np.cumsum(rng.uniform(0.2, 2.0, count))


@pytest.mark.parametrize("scaled", [True, False])
def test_it_is_the_definition_while_all_are_held(scaled: bool) -> None:
    rows, times = _walk(CAPACITY)
    std = np.linspace(0.5, 3, 12) if scaled else None
    memory = SceneMemory(12, 20.0, std)
    assert memory.distinctiveness(rows[0], times[0]) is None
    found = [memory.distinctiveness(row, time) for row, time in zip(rows[1:], times[1:], strict=True)]
    past = rows.astype(np.float64)
    expected = [direct(past[:i], times[i] - times[:i], past[i], 20.0, std) for i in range(1, CAPACITY)]
    assert found == pytest.approx(expected, abs=2e-5)
    assert min(expected) < 0.5
    assert max(expected) > 0.8


def test_beyond_its_capacity_it_stays_near_the_definition_and_bounded() -> None:
    rows, times = _walk(900)
    std = np.full(12, 2.0)
    memory = SceneMemory(12, 100.0, std)
    past = rows.astype(np.float64)
    apart = []
    for i, (row, time) in enumerate(zip(rows, times, strict=True)):
        found = memory.distinctiveness(row, time)
        if i > CAPACITY:
            apart.append(abs(found - direct(past[:i], time - times[:i], past[i], 100.0, std)))
        assert len(memory) <= CAPACITY
    assert max(apart) < 0.02


def test_weight_mean_and_deviation_are_exact_for_ever() -> None:
    rows, times = _walk(500)
    memory = SceneMemory(12, 100.0, capacity=8)
    for row, time in zip(rows, times, strict=True):
        memory.distinctiveness(row, time)
    weights = np.exp((times - times[-1]) / 100.0)
    assert memory.weight == pytest.approx(weights.sum(), rel=1e-3)
    shares = weights / weights.sum()
    mean = shares @ rows
    kept = memory._weights / memory.weight
    assert kept @ memory._means == pytest.approx(mean, abs=1e-3)
    spread = kept @ ((memory._means - mean) ** 2 + memory._spreads)
    assert spread == pytest.approx(shares @ (rows - mean) ** 2, rel=1e-3)


def test_what_is_seen_again_and_again_becomes_familiar_and_is_forgotten_later() -> None:
    street, van = np.zeros(4), np.full(4, 3.0)
    memory = SceneMemory(4, 60.0, np.ones(4))
    for second in range(30):
        usual = memory.distinctiveness(street, float(second))
    first = memory.distinctiveness(van, 30.0)
    again = [memory.distinctiveness(van, 31.0 + second) for second in range(60)]
    assert usual == pytest.approx(0, abs=1e-6)
    assert first > 0.95
    assert all(np.diff(again) < 0)
    assert again[-1] < 0.3
    for second in range(600):
        memory.distinctiveness(street, 100.0 + second)
    assert memory.distinctiveness(van, 701.0) > 0.95


def test_a_memory_that_has_faded_is_empty_and_a_clock_that_goes_back_starts_anew() -> None:
    memory = SceneMemory(3, 1.0)
    memory.distinctiveness(np.ones(3), 0.0)
    assert memory.distinctiveness(np.ones(3), 1.0) == 0
    assert memory.distinctiveness(np.ones(3), 100.0) is None
    assert len(memory) == 1
    assert memory.distinctiveness(np.zeros(3), 50.0) is None
    memory.reset()
    assert (len(memory), memory.weight) == (0, 0)


def test_state_goes_through_msgpack_and_goes_on_equally() -> None:
    rows, times = _walk(120)
    one, other = SceneMemory(12, 30.0), SceneMemory(12, 30.0)
    for row, time in zip(rows[:100], times[:100], strict=True):
        one.distinctiveness(row, time)
    other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.state())))
    for row, time in zip(rows[100:], times[100:], strict=True):
        assert one.distinctiveness(row, time) == other.distinctiveness(row, time)
    with pytest.raises(UsageError, match=r"64 prototypes of 12 numbers over 30 s; expected at most 64 of 12 over 31 s"):
        SceneMemory(12, 31.0).restore(one.state())
    with pytest.raises(UsageError, match="expected at most 64 of 11"):
        SceneMemory(11, 30.0).restore(one.state())


def test_wrong_embeddings_and_times() -> None:
    with pytest.raises(EngineError, match=r"embedding of 2 values at 0\.0 s; expected 3 finite"):
        SceneMemory(3).distinctiveness(np.zeros(2), 0.0)
    with pytest.raises(EngineError, match="expected 3 finite"):
        SceneMemory(3).distinctiveness([0.0, np.nan, 0.0], 0.0)
    for arguments in ((3, 0.0), (3, float("inf")), (3, 1.0, None, 1)):
        with pytest.raises(UsageError, match="expected"):
            SceneMemory(*arguments)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("distinct") / "b")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = numbered(16)
    pictures[8:10] = [255 - picture for picture in pictures[8:10]]
    return write_video(tmp_path_factory.mktemp("distinct") / "v.mp4", pictures, rate=8)


def test_readings_hold_the_definition_over_the_streams_embeddings(bundle: Bundle, video: Path) -> None:
    seen = []
    with memedge.load(bundle.path) as scorer:
        submit = scorer.executor.submit

        def spy(batch: Any) -> Any:
            ticket = submit(batch)
            seen.append((batch[0][1].pts_s, ticket))
            return ticket

        scorer.executor.submit = spy  # type: ignore[method-assign]
        loop = Loop(open_source(str(video)), {"b": scorer}, (), LoopOptions(LaneOptions(memory_s=3.0)))
        readings = list(loop.readings())
    times = np.array([time for time, _ in seen])
    past = np.stack([ticket.result()[0].values["model.embedding"] for _, ticket in seen]).astype(np.float64)
    assert len(readings) == len(seen) == 16
    assert "distinctiveness" not in readings[0].outputs
    found = [reading.outputs["distinctiveness"] for reading in readings[1:]]
    expected = [direct(past[:i], times[i] - times[:i], past[i], 3.0, None) for i in range(1, 16)]
    assert found == pytest.approx(expected, abs=2e-4)
    assert int(np.argmax(found[2:])) + 3 == 8, "the first picture unlike all before it"


def test_the_domain_block_tells_the_scale(tmp_path: Path) -> None:
    made = make_frame_bundle(tmp_path / "b")
    edit_manifest(
        made.path,
        lambda m: m.update(
            domain={"from": "model.embedding", "mean": [0.0] * 3, "std": [1.0, 2.0, 4.0], "threshold": 9}
        ),
    )
    manifest = Bundle.open(made.path).manifest
    live = LiveDistinctiveness(manifest, 5.0)
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = [live.values({"model.embedding": row}, float(i)) for i, row in enumerate(rows)]
    expected = direct(rows[:3].astype(float), np.array([3.0, 2, 1]), rows[3], 5.0, np.array([1.0, 2, 4]))
    assert found[0] == {}
    assert found[3] == {"distinctiveness": pytest.approx(expected, abs=1e-5)}
    assert live.values({"model.score": np.zeros(1)}, 4.0) == {}
    assert LiveDistinctiveness(manifest, None).values({"model.embedding": rows[0]}, 5.0) == {}


def test_it_is_off_unless_asked_for_and_shown_in_the_terminal(bundle: Bundle, video: Path, tmp_path: Path) -> None:
    for flags, there in (([], False), (["--distinctiveness", "--memory", "30"], True)):
        out = tmp_path / f"{there}.jsonl"
        arguments = ["run", "--source", str(video), "--bundle", str(bundle.path), "--quiet", "--no-tune", *flags]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--jsonl", str(out)])
        assert not ended.value.code
        outputs = [json.loads(line).get("outputs", {}) for line in out.read_text().splitlines()[1:-1]]
        assert len(outputs) == 15
        assert all(("distinctiveness" in one) == there for one in outputs)
    assert shown_outputs(bundle.manifest) == ()
    (shown,) = shown_outputs(bundle.manifest, None, True)
    newest = NewestOutputs([shown])
    newest.update(memedge.Reading(time_s=0.0, source="s", bundle="b", frame_index=0, outputs={"distinctiveness": 0.25}))
    assert newest.text() == "distinctiveness 0.25"


def test_what_cannot_be_meant_is_told(
    bundle: Bundle, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = make_frame_bundle(tmp_path / "plain", embedding=False).manifest
    assert (embedding_of(without), embedding_of(bundle.manifest)) == (None, "model.embedding")
    check_distinctiveness([without], None)
    check_distinctiveness([without, bundle.manifest], 10.0)
    with pytest.raises(UsageError, match="no bundle gives an embedding"):
        check_distinctiveness([without], 10.0)
    run = ["run", "--source", str(video), "--bundle", str(bundle.path), "--quiet"]
    for flags, message in (
        (["--memory", "5"], "--memory 5 belongs to --distinctiveness"),
        (["--distinctiveness", "--memory", "0"], "--memory 0; expected more than 0 seconds"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*run, *flags])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
