"""A whole measurement of a tiny bundle: structure, counts, sums; never how long anything took."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from helpers_bundle import make_frame_bundle, make_window_bundle, picture
from helpers_gpu import desktop, fake_gpu
from memedge.bench import BenchReport, bench, from_json
from memedge.bench.blocks import Measurer, Samples
from memedge.bench.combinations import Combination, opened, plan
from memedge.bench.feeds import Looped, Prepared, feed, prepare
from memedge.errors import EngineError, SourceError, UsageError
from memedge.scorer import FixedScorer
from memedge.sources import open_source
from memedge.sources.base import SourceInfo
from memedge_engines.choice import Candidate
from memedge_engines.frame import Frame

FRAMES = 7


@pytest.fixture(autouse=True)
def _small_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pattern at 720p takes its time to render; what is measured here does not depend on its size."""
    monkeypatch.setattr("memedge.bench.feeds.PREPARED_URI", "test://?size=64x48&seconds=1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "tiny"
    make_frame_bundle(path, lowerings=("fp32", "cpu"))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def from_file(bundle: Path, clip: Path) -> BenchReport:
    told: list[tuple[int, int, str]] = []
    report = bench(
        [bundle], str(clip), "onnxruntime", "all", frames=9, rounds=3, warmup=2,
        progress=lambda done, total, what: told.append((done, total, what)),
    )  # fmt: skip
    assert told[-1][0] == told[-1][1] - 1
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    return report


def test_file_gives_every_stage_of_every_combination(from_file: BenchReport) -> None:
    assert from_file.settings.kind == "file"
    assert (from_file.settings.width, from_file.settings.height) == (64, 48)
    assert {r.precision for r in from_file.results} == {"fp32", "int8"}
    assert {r.engine for r in from_file.results} == {"onnxruntime"}
    for result in from_file.results:
        assert list(result.stages) == ["decode", "preprocess", "infer", "queue", "rolling", "sinks"]
        assert result.added_share is not None
        assert result.paced is None
    assert from_file.decoding is not None


def test_counts(from_file: BenchReport) -> None:
    for result in from_file.results:
        # A pass over the file has its first frame uncounted: it pays for opening it.
        assert 0 < result.samples <= 9
        assert result.end_to_end.count == result.samples
        assert all(spread.count == result.samples for spread in result.stages.values())
        assert result.histogram is not None
        assert sum(result.histogram.counts) == result.samples
        assert len(result.throughput_rounds) == len(result.infer_rounds) == 3
        # Per round: the warm-up of both runs; before the rounds a trial of its own.
        assert result.warmup >= 3 * 2 * 2 + 3
    assert len(from_file.machine.yardstick_ms) == len(from_file.machine.clocks) == 3


def test_stages_add_up(from_file: BenchReport) -> None:
    for result in from_file.results:
        total = sum(spread.mean for spread in result.stages.values())
        assert total == pytest.approx(result.end_to_end.mean, abs=2e-3)
        for spread in [*result.stages.values(), result.end_to_end]:
            assert 0 <= spread.p50 <= spread.p90 <= spread.p99 <= spread.max
            assert spread.mean <= spread.max
        assert result.throughput_fps == pytest.approx(np.median(result.throughput_rounds), abs=1e-3)


def test_process_of_its_own(from_file: BenchReport) -> None:
    for result in from_file.results:
        assert result.start is not None
        assert result.start.frames == 20
        assert result.start.first_score_ms > result.start.open_ms > 0
        assert result.start.peak_memory_mb is None or result.start.peak_memory_mb > 10


def test_json_round_trip(from_file: BenchReport, tmp_path: Path) -> None:
    assert from_json(from_file.to_json()) == from_file
    from_file.save(tmp_path / "report.json")
    assert from_json((tmp_path / "report.json").read_bytes()) == from_file


def test_without_a_source_nothing_is_decoded(bundle: Path) -> None:
    report = bench([bundle], engines="onnxruntime", frames=4, rounds=2, warmup=0, start=False)
    (result,) = report.results
    assert report.settings.kind == "prepared"
    assert report.decoding is None
    assert "decode" not in result.stages
    assert result.samples == 4
    assert result.start is None
    assert result.added_share is None
    assert sum(s.mean for s in result.stages.values()) == pytest.approx(result.end_to_end.mean, abs=2e-3)


def test_paced_source_has_ages(bundle: Path) -> None:
    report = bench(
        [bundle], "test://?size=64x48&fps=100&live=1", "onnxruntime", frames=20, rounds=2, warmup=1, start=False
    )
    (result,) = report.results
    assert report.settings.kind == "paced"
    assert result.paced is not None
    assert result.paced.age.count == result.samples == result.end_to_end.count > 0
    assert result.paced.age.max <= result.end_to_end.max
    assert 0 <= result.paced.within_bound <= 1
    assert "decode" not in result.stages


def test_two_bundles_of_one_name_are_told_apart(bundle: Path) -> None:
    report = bench([bundle, bundle], engines="onnxruntime", precisions="fp32", frames=2, rounds=1, start=False)
    assert [r.bundle for r in report.results] == ["tiny-frame", "tiny-frame#2"]


def test_bundle_of_several_nodes(tmp_path: Path) -> None:
    made = make_window_bundle(tmp_path / "window")
    report = bench([made], engines="onnxruntime", frames=120, rounds=1, warmup=0, start=False)
    (result,) = report.results
    # Its nodes run every two seconds: most frames have no inference, all have a reading.
    assert result.samples == 120
    assert 0 < result.stages["infer"].count <= 120
    graphs = {node.name: node.period_s for node in made.manifest.nodes if node.kind == "graph"}
    assert result.node_period_s == graphs
    assert list(result.node_ms) == list(graphs)
    assert min(result.node_ms.values()) > 0
    assert [line for line in report.lines() if f"node {next(iter(graphs))}: " in line and "every 2 s" in line]


def test_auto_measures_the_fastest_and_remembers_it(bundle: Path) -> None:
    from memedge_engines import choice
    from memedge_engines.bundle import Bundle

    report = bench([bundle], frames=2, rounds=1, warmup=0, start=False)
    (result,) = report.results
    remembered = choice.remembered(Bundle.open(bundle))
    assert remembered is not None
    assert (result.engine, result.lowering) == (remembered.backend, remembered.lowering)
    assert report.auto == {"tiny-frame": str(remembered)}


def test_all_names_what_was_left_out(bundle: Path) -> None:
    report = bench([bundle], engines="all", precisions="all", frames=2, rounds=1, warmup=0, start=False)
    found = {(r.engine, r.lowering) for r in report.results}
    assert {("onnxruntime", "fp32"), ("onnxruntime", "cpu")} <= found
    for skip in report.skipped:
        assert skip.reason
        assert any(skip.engine in sentence for sentence in report.sentences)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": 0}, "--frames 0"),
        ({"frames": 5, "seconds": 1.0}, "contradict"),
        ({"seconds": 0.0}, "--seconds 0"),
        ({"seconds": -1.0}, "--seconds -1"),
        ({"rounds": 0}, "--rounds 0"),
        ({"warmup": -1}, "--warmup -1"),
        ({"threads": -1}, "--threads -1"),
        ({"precisions": "int4"}, "int4"),
        ({"engines": "onnxruntime,"}, "empty name"),
    ],
)
def test_bad_numbers_and_names(bundle: Path, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bench([bundle], **arguments)


def test_unknown_engine_and_missing_lowering(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="onnxruntime"):
        bench([bundle], engines="onnxruntim")
    with pytest.raises(EngineError, match="fp16"):
        bench([bundle], engines="onnxruntime", precisions="fp16")


def test_a_plan_that_is_missing_names_one_fix(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memedge_engines.bundle import Bundle

    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))
    with fake_gpu(devices=[desktop()]), pytest.raises(EngineError, match="no plan of node 'model'") as caught:
        opened([Combination(Bundle.open(bundle), "tiny", Candidate("tensorrt", "fp32"))], [])
    assert str(caught.value).count("(fix: ") == 1
    assert "memedge build" in str(caught.value)


def test_standard_input_cannot_be_read_again(bundle: Path) -> None:
    with pytest.raises(UsageError, match="standard input"):
        bench([bundle], "-")


def test_missing_source(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        bench([bundle], str(tmp_path / "none.mp4"))


def test_looped_file_runs_on(clip: Path) -> None:
    source = Looped(lambda: open_source(str(clip)))
    info = source.open()
    assert info.frames is None
    frames = source.frames()
    times, first_of_pass = [], []
    for index in range(3 * FRAMES):
        frame = next(frames)
        assert frame.index == index
        times.append(frame.pts_s)
        first_of_pass.append(source.last_ms is None)
        frame.release()
    source.close()
    assert list(frames) == []
    assert np.diff(times) == pytest.approx([1 / 25] * (len(times) - 1))
    assert [i for i, first in enumerate(first_of_pass) if first] == [0, FRAMES, 2 * FRAMES]


def test_prepared_frames_come_again_and_again() -> None:
    kept = Frame.from_rgb(picture(0))
    source = Prepared([kept], SourceInfo(label="one", kind="test", live=False, fps=50.0))
    source.open()
    frames = source.frames()
    first, second = next(frames), next(frames)
    assert (first.pts_s, second.pts_s) == (0.0, pytest.approx(0.02))
    first.release()
    assert not second.released
    assert np.array_equal(second.host_planes()[0], kept.host_planes()[0])
    second.release()
    assert not next(frames).released
    assert not kept.released


def test_prepared_pattern_is_the_patterns_own() -> None:
    prepared = prepare("test://?size=64x48&seconds=1&seed=3", 4)
    source = open_source("test://?size=64x48&seconds=1&seed=3")
    source.open()
    for ours, theirs in zip(prepared.frames(), source.frames(), strict=False):
        assert ours.format == theirs.format
        for a, b in zip(ours.host_planes(), theirs.host_planes(), strict=True):
            assert np.array_equal(a, b)
        if theirs.index == 3:
            break
    source.close()


def test_scores_of_a_measurement_are_the_scorers(bundle: Path, tmp_path: Path) -> None:
    """What is measured is the real work: the JSON Lines of a measured stretch hold the Scorer's scores."""
    import msgspec

    from memedge_engines.bundle import Bundle

    pictures = [picture(i) for i in range(3)]
    source = Prepared(
        [Frame.from_rgb(p) for p in pictures], SourceInfo(label="three", kind="test", live=False, fps=30.0)
    )
    with FixedScorer(Bundle.open(bundle), Candidate("onnxruntime", "fp32")) as scorer:
        expected = [scorer.score(p).value for p in pictures]
        samples = Samples()
        Measurer(scorer, "tiny", tmp_path).frame_by_frame(source, 5, 1, samples)
    lines = [msgspec.json.decode(line) for line in (tmp_path / "readings.jsonl").read_bytes().splitlines()]
    assert samples.count == 5
    assert samples.warmup == 1
    assert [line["score"] for line in lines] == pytest.approx([expected[i % 3] for i in range(6)], abs=1e-6)


def test_feed_kinds(clip: Path) -> None:
    assert feed(None).kind == "prepared"
    assert feed(str(clip)).kind == "file"
    assert feed("test://?size=64x48").kind == "paced"
    assert feed("test://?size=64x48&seconds=1").kind == "file"


def test_plan_takes_lists_and_commas(bundle: Path) -> None:
    from memedge_engines.bundle import Bundle

    opened = Bundle.open(bundle)
    made = plan([opened], ["onnxruntime"], "fp32,int8")
    assert [(c.engine, c.lowering) for c in made.combinations] == [("onnxruntime", "fp32"), ("onnxruntime", "cpu")]
    assert all(math.isfinite(c.open_ms) for c in made.combinations)
    assert made.combinations[1].label == "tiny-frame, onnxruntime int8"
