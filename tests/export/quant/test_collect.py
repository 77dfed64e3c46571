from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from helpers_calib import ACTIVATIONS, RANGE_ONLY, feeds, residual_graph
from memedge_export.errors import ExportError
from memedge_export.quant.calib_statistics import HALF, Statistics, TensorStatistics
from memedge_export.quant.collect import activations, collect, feed_hash, state_path
from memedge_export.quant.ranges import graph_hash, hash_frames


@pytest.fixture(scope="module")
def graph() -> bytes:
    return residual_graph()


def reference(graph: bytes, frames: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Every activation over all frames by onnx's reference evaluator."""
    model = onnx.load_model_from_string(graph)
    names = [name for name in ACTIVATIONS if name not in ("frames", "score")]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    evaluator = ReferenceEvaluator(model)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ACTIVATIONS}
    for feed in frames:
        for name, value in zip(["score", *names], evaluator.run(None, feed), strict=True):
            found[name].append(value.ravel())
        found["frames"].append(feed["frames"].ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def same(one: Statistics, other: Statistics) -> None:
    assert (one.hashes, list(one.tensors), one.graph_sha256) == (other.hashes, list(other.tensors), other.graph_sha256)
    for name, a in one.tensors.items():
        b = other.tensors[name]
        assert (a.low, a.high, a.elements, a.exponent) == (b.low, b.high, b.elements, b.exponent), name
        np.testing.assert_array_equal(a.counts, b.counts)


def test_ranges_and_histograms_are_those_of_the_reference_evaluator(graph: bytes) -> None:
    frames = feeds(12)
    found = collect(graph, frames, source="test")
    assert tuple(found.tensors) == ACTIVATIONS
    assert tuple(name for name, one in found.tensors.items() if one.counts is None) == RANGE_ONLY
    for name, values in reference(graph, frames).items():
        one = found.tensors[name]
        assert one.elements == values.size
        np.testing.assert_allclose([one.low, one.high], [values.min(), values.max()], rtol=1e-4, atol=1e-5)
        if one.counts is not None:
            limit = 2.0**one.exponent
            assert limit / 2 <= np.abs(values).max() * (1 + 1e-4) < limit * (1 + 1e-3)
            expected = np.histogram(values, 2 * HALF, range=(-limit, limit))[0]
            # Two implementations differ in the last bits, so a value on a border may fall on its other side.
            assert np.abs(one.counts - expected).sum() <= 0.01 * values.size
    assert found.hashes == [feed_hash(feed) for feed in frames]
    table = found.table("minmax")
    assert (table.graph_sha256, table.frames, table.source) == (graph_hash(graph), 12, "test")
    assert table.frames_sha256 == hash_frames(found.hashes)
    assert table.magnitudes["c1"] == max(abs(found.tensors["c1"].low), abs(found.tensors["c1"].high))


def test_histogram_is_exact_whatever_the_order_and_the_growth() -> None:
    rng = np.random.default_rng(1)
    parts = [(rng.normal(0, 1, 3000) * 10.0**e).astype(np.float32) for e in (-6, 2, -3, 0, 4, -1)]
    parts += [np.zeros(10, np.float32), np.float32([-1e-42, 1e-42, -0.0]), np.float32([2.0, -4.0, 0.5])]
    forward, backward = TensorStatistics(), TensorStatistics()
    for part in parts:
        forward.add(part)
    for part in reversed(parts):
        backward.add(part.reshape(-1, 1))
    values = np.concatenate(parts).astype(np.float64)
    limit = 2.0**forward.exponent
    expected = np.zeros(2 * HALF, np.int64)
    np.add.at(expected, np.floor(values / limit * HALF).astype(int) + HALF, 1)
    for one in (forward, backward):
        np.testing.assert_array_equal(one.counts, expected)
        assert (one.low, one.high, one.elements) == (values.min(), values.max(), values.size)
    np.testing.assert_array_equal(forward.magnitudes(), expected[HALF:] + expected[:HALF][::-1])


def test_large_tensors_are_counted_in_blocks() -> None:
    values = np.random.default_rng(2).normal(0, 1, 200_001).astype(np.float32)
    for data in (values, np.abs(values), np.full(70_000, 3e38, np.float32), np.full(9, 1e-40, np.float32)):
        one = TensorStatistics()
        one.add(data)
        assert one.counts is not None
        assert one.counts.sum() == data.size == one.elements
        np.testing.assert_array_equal(
            one.counts, np.histogram(data.astype(float), 2 * HALF, (-(2.0**one.exponent), 2.0**one.exponent))[0]
        )


class Stops(Exception):
    """Stands for whatever ends a pass early."""


def stopping(frames: list[dict[str, np.ndarray]], after: int, error: type[BaseException]) -> Iterator[dict[str, Any]]:
    yield from frames[:after]
    raise error


@pytest.mark.parametrize("error", [Stops, KeyboardInterrupt])
def test_interrupted_pass_goes_on_and_gives_the_same_bits(
    graph: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    frames, state = feeds(10), tmp_path / "new" / "state.npz"
    every = 0.0 if error is Stops else 1e9  # Ctrl-C saves by itself
    with pytest.raises(error):
        collect(graph, stopping(frames, 6, error), source="test", state=state, every_s=every)
    assert [path.name for path in state.parent.iterdir()] == ["state.npz"]
    found = collect(graph, frames, source="test", total=10, state=state)
    assert "goes on after the 6 frames" in capsys.readouterr().err
    same(found, collect(graph, frames, source="test"))
    assert not list(state.parent.iterdir())


def test_killed_process_resumes(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(graph)
    program = textwrap.dedent(
        """
        import pathlib, sys, time
        from helpers_calib import feeds
        from memedge_export.quant.collect import collect
        folder = pathlib.Path(sys.argv[1])
        def slowly():
            for number, feed in enumerate(feeds(9)):
                if number == 5:
                    print("five", flush=True)
                    time.sleep(60)
                yield feed
        collect((folder / "graph.onnx").read_bytes(), slowly(), source="t", state=folder / "state.npz", every_s=0)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().strip() == b"five"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    frames = feeds(9)
    names = activations(onnx.load_model_from_string(graph))
    saved = Statistics.load(tmp_path / "state.npz", graph_hash(graph), "t", names)
    assert saved is not None
    assert saved.frames == 5
    same(collect(graph, frames, source="t", state=tmp_path / "state.npz"), collect(graph, frames, source="t"))


def test_saved_statistics_of_other_frames_are_left_aside(
    graph: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, frames = tmp_path / "state.npz", feeds(5)
    with pytest.raises(Stops):
        collect(graph, stopping(feeds(5, seed=9), 3, Stops), source="test", state=state, every_s=0)
    kept = state.read_bytes()
    same(collect(graph, frames, source="test", total=5, state=state), collect(graph, frames, source="test"))
    assert "of other frames: starting anew" in capsys.readouterr().err
    state.write_bytes(kept)
    with pytest.raises(ExportError, match=r"of other frames \(fix: remove "):
        collect(graph, iter(frames), source="test", state=state)
    state.write_bytes(kept)  # fewer frames than were seen
    same(collect(graph, frames[:2], source="test", state=state), collect(graph, frames[:2], source="test"))


@pytest.mark.parametrize("damage", ["cut", "text", "graph"])
def test_unusable_state_is_ignored(graph: bytes, tmp_path: Path, damage: str) -> None:
    state, frames = tmp_path / "state.npz", feeds(4)
    with pytest.raises(Stops):
        collect(graph, stopping(frames, 3, Stops), source="test", state=state, every_s=0)
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:-1000])
    elif damage == "text":
        state.write_text("not an archive")
    other = residual_graph(seed=5) if damage == "graph" else graph
    same(collect(other, frames, source="test", state=state), collect(other, frames, source="test"))


def test_state_that_cannot_be_written_costs_only_the_resumption(
    graph: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    frames = feeds(3)
    same(
        collect(graph, frames, source="test", state=tmp_path / "file" / "state.npz", every_s=0),
        collect(graph, frames, source="test"),
    )
    assert "cannot be written" in capsys.readouterr().err

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    collect(graph, frames, source="test", state=tmp_path / "state.npz", every_s=0)
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_state_is_named_by_graph_and_frames(graph: bytes) -> None:
    paths = {state_path(graph, "a"), state_path(graph, "b"), state_path(b"other", "a"), state_path(graph, "a")}
    assert len(paths) == 3
    assert {path.parent.name for path in paths} == {"calibration"}


def test_activations_that_are_not_finite_are_named(graph: bytes) -> None:
    frames = feeds(3)
    frames[1] = {"frames": np.full_like(frames[1]["frames"], 3e38)}
    with pytest.raises(ExportError, match=r"tensor '\w+' is (infinite|NaN) on calibration frame 2; expected finite"):
        collect(graph, frames, source="test")
    frames[1]["frames"][0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="tensor 'frames' is NaN on calibration frame 2"):
        collect(graph, frames, source="test")


def test_zero_tensor_has_a_zero_range(graph: bytes) -> None:
    black = {"frames": np.zeros((1, 3, 16, 16), np.float32)}
    found = collect(graph, [black], source="test")
    for method in ("minmax", "percentile", "entropy"):
        assert found.table(method).tensors["frames"] == (0.0, 0.0)
        assert "frames" in found.table(method).zero_ranges()


@pytest.mark.parametrize(
    ("data", "frames", "message"),
    [
        (b"not a graph", None, "the float graph cannot be read|no float activations"),
        (None, [], "no calibration frames"),
        (None, [{"frames": np.zeros((1, 3, 8), np.float32)}], "calibration frame 1 cannot be run: "),
        (None, [{"pictures": np.zeros((1, 3, 16, 16), np.float32)}], "calibration frame 1 cannot be run: "),
    ],
)
def test_bad_input(graph: bytes, data: bytes | None, frames: list[Any] | None, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        collect(data or graph, feeds(1) if frames is None else frames, source="test")


def test_memory_does_not_grow_with_frames(graph: bytes) -> None:
    def stream(count: int) -> Iterator[dict[str, np.ndarray]]:
        for number in range(count):
            yield feeds(1, seed=number)[0]

    peaks = []
    for count in (10, 150):
        tracemalloc.start()
        collect(graph, stream(count), source="test")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 100_000  # frame hashes, some 130 bytes each, are all that is kept of a frame
