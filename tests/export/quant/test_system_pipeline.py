"""Lowerings of systems: every node in its own form, one gate for the system's score, clips from videos and stills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from scipy.stats import spearmanr

import memedge
from helpers_lowering import build_rtx
from helpers_systems import ENTRIES, each_graph_once
from helpers_video import numbered, write_video
from memedge import fidelity
from memedge.info import info_lines
from memedge.pictures import generate
from memedge.verify import verify
from memedge_engines.bundle import Bundle
from memedge_export import system_bundle
from memedge_export.errors import ExportError
from memedge_export.models.system import System, build_system
from memedge_export.quant import system_pipeline
from memedge_export.quant.calib_clips import read_clips
from memedge_export.quant.calib_origins import Item, Video
from memedge_export.quant.options import QuantOptions
from memedge_export.quant.scoring import open_model
from memedge_export.quant.system_lowering import NodeRanges, NodeSource, SystemLowerings
from memedge_export.system_clips import Fitter, Timeline, final_scores, moved, run_calls
from memedge_export.system_graphs import run_module

FEW = QuantOptions(frames=32, gate_frames=12, small_gate=True, method="percentile")


@pytest.fixture(scope="module", autouse=True)
def _graphs_once_and_few_other_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        each_graph_once(patch)
        patch.setattr(system_pipeline, "OTHER_FRAMES", 8)
        patch.setattr(system_pipeline, "_OTHER_CLIPS", 8)
        yield


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("lowered") / "sequence"
    return system_bundle.export_system(ENTRIES["sequence"], (), out, precisions=["int8", "fp16"], quant=FEW)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("lowered") / "clip"
    return system_bundle.export_system(ENTRIES["clip"], (), out, precisions=["int8"], quant=FEW)


def test_every_node_has_the_forms_that_its_card_allows(sequence: Bundle) -> None:
    sequence.verify_files()
    manifest = sequence.manifest
    assert set(manifest.node("picture").files) == {"fp32", "cpu", "trt-int8", "trt-fp16"}
    assert set(manifest.node("head").files) == {"fp32"}
    assert sequence.lowerings() == ("fp32", "cpu", "trt-int8", "trt-fp16")
    assert manifest.provenance.excluded == ("head (fp32): a thousand multiply-adds",)
    assert manifest.provenance.precision == ("fp32", "fp16", "int8")
    assert any("excluded from int8: head (fp32)" in line for line in info_lines(sequence))
    kinds = {n.op_type for n in onnx.load(sequence.path / "picture.cpu.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_readings_name_both_precisions_and_every_lowering_verifies(sequence: Bundle) -> None:
    with memedge.load(sequence.path, engine="onnxruntime") as scorer:
        assert (scorer.precision, scorer.choice.candidate.lowering) == ("int8+fp32", "cpu")
    rows = {row.candidate.lowering: row for row in verify(sequence, engine="onnxruntime").rows}
    assert set(rows) == {"fp32", "cpu"}
    assert all(row.scores and not row.failed for row in rows.values())


def test_the_gate_measured_the_systems_score(sequence: Bundle) -> None:
    """Its figures again, with the files of the bundle and clips made here."""
    measured = fidelity.read(sequence)
    assert measured is not None
    timeline = Timeline.of(sequence.manifest)
    fitter = Fitter(timeline)
    clips = [fitter.still(picture, number) for number, picture in enumerate(generate(12, 4))]

    def scores(files: Mapping[str, str]) -> np.ndarray:
        sessions = {name: open_model((sequence.path / file).read_bytes(), 1) for name, file in files.items()}

        def run(node: Any, inputs: dict[str, Any]) -> dict[str, Any]:
            names = [output.name for output in node.outputs]
            return dict(zip(names, sessions[node.name].run(names, inputs), strict=True))

        return final_scores(timeline, run_calls(timeline, clips, run))[:, 0]

    floats = scores({"picture": "picture.onnx", "head": "head.onnx"})
    lowered = scores({"picture": "picture.cpu.onnx", "head": "head.onnx"})
    assert spearmanr(floats, lowered).statistic > 0.98
    found = measured.lowerings["cpu"].fidelity
    assert found.frames == 12
    assert found.mean_abs == pytest.approx(float(np.abs(floats - lowered).mean()), rel=2)


def test_a_form_that_leaves_out_most_work_is_not_made(clip: Bundle) -> None:
    """The clip's convolutions read rearranged frames, beside which no pair of TensorRT may stand."""
    assert set(clip.manifest.node("model").files) == {"fp32", "cpu", "trt-fp16"}
    assert clip.manifest.provenance.precision == ("fp32", "fp16", "int8")
    (reason,) = clip.manifest.provenance.excluded
    assert reason.startswith("trt-int8: int8 would hold 0 % of the convolution multiply-adds; model/Conv_")


def test_systems_that_no_precision_suits_say_why(tmp_path: Path) -> None:
    network = build_system(ENTRIES["sequence"])
    head = System(
        [network.node("picture"), network.node("head")],
        {"picture": network.graphs["picture"].__class__(network.graphs["picture"].module, "fp16", "too small"),
         "head": network.graphs["head"]},
        network.system_targets,
    )  # fmt: skip
    with pytest.raises(ExportError, match="no node suits int8: picture: too small; head: a thousand"):
        system_pipeline.precisions_of(head, ["fp32", "int8"])


@pytest.mark.parametrize("file", ["picture.trt-int8.onnx", "picture.trt-fp16.onnx", "head.onnx"])
def test_real_parser_builds_the_nodes_of_the_sequence(sequence: Bundle, file: str) -> None:
    said, plan = build_rtx((sequence.path / file).read_bytes())
    assert said == []
    assert plan


def test_real_parser_builds_the_clip(clip: Bundle) -> None:
    said, plan = build_rtx((clip.path / "model.trt-fp16.onnx").read_bytes())
    assert said == []
    assert plan


def test_calibration_sees_what_arrives_at_a_node() -> None:
    """The head's feeds against the picture network run by torch on the very same frames."""
    network = build_system(ENTRIES["sequence"])
    timeline = Timeline.of(network.dataflow)
    assert [call.node for call in timeline.calls] == ["picture"] * 4 + ["head"]
    assert [round(time, 2) for time in timeline.times_s.values()] == [0, 0.5, 1.0, 1.5]
    picture = next(iter(generate(1, 9)))
    fitter = Fitter(timeline)
    seen: list[np.ndarray] = []

    def run(node: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return run_module(network.graphs[node.name].module, node, inputs)

    run_calls(timeline, [fitter.still(picture)], run, see=lambda call, inputs: seen.extend(inputs.values()))
    features = [run_module(network.graphs["picture"].module, network.node("picture"), {"frames": x})["embedding"]
                for x in seen[:4]]  # fmt: skip
    np.testing.assert_allclose(seen[4][0], np.concatenate(features), atol=1e-5)
    part = timeline.until("picture")
    assert [call.node for call in part.calls] == ["picture"] * 4


def test_stills_move_slowly_and_single_frames_do_not() -> None:
    picture = next(iter(generate(1, 2)))
    first, second = moved(picture, 0.0), moved(picture, 0.1)
    assert first.shape == picture.shape
    difference = np.abs(first.astype(int) - second).mean()
    assert 0 < difference < np.abs(first.astype(int) - moved(picture, 4.0)).mean()
    timeline = Timeline.of(build_system(ENTRIES["frame"]).dataflow)
    assert not timeline.moves
    (fitted,) = Fitter(timeline).still(np.zeros((40, 50, 3), np.uint8)).values()
    assert set(fitted) == {0}


def test_clips_of_a_video_are_the_frames_nearest_to_their_times(tmp_path: Path) -> None:
    """Frames that tell their number, at 10 a second, looked at every half second."""
    path = write_video(tmp_path / "v.mkv", numbered(60), rate=10)
    timeline = Timeline.of(build_system(ENTRIES["sequence"]).dataflow)
    fitter = Fitter(timeline)
    taken: list[float] = []
    real = fitter.all_contracts
    fitter.all_contracts = lambda frame: (taken.append(frame.pts_s), real(frame))[1]  # type: ignore[method-assign]
    origin = Video(path, 2)
    found = list(read_clips([Item("a", origin, 0), Item("b", origin, 1)], fitter))
    assert [item.name for item, _ in found] == ["a", "b"]
    begin = 1.5 - 0.75  # the middle of the first half of six seconds, less half of the clip
    expected = [begin + 0.5 * k for k in range(4)]
    assert np.abs(np.array(taken[:4]) - expected).max() <= 0.1 + 1e-6
    assert np.diff(taken[:4]) == pytest.approx([0.5] * 3, abs=1e-6)
    clip = found[0][1]
    assert isinstance(clip, dict)
    (pictures,) = clip.values()
    assert len({picture.tobytes() for picture in pictures.values()}) == 4


def test_promoted_layers_of_one_node_stay_float(sequence: Bundle) -> None:
    """The gate names layers ``node/layer``; the bundle's own range tables lower the same graphs again."""
    tables = NodeRanges.decode((sequence.path / "ranges.json").read_bytes(), "ranges.json").nodes
    assert set(tables) == {"picture"}
    graph = (sequence.path / "picture.onnx").read_bytes()
    sources = {
        "picture": NodeSource(graph, "int8", tables={"percentile": tables["picture"]}),
        "head": NodeSource((sequence.path / "head.onnx").read_bytes(), "fp32"),
    }
    lowerings = SystemLowerings(sources)
    whole = lowerings.lower("cpu", "percentile", frozenset())
    assert whole.nodes["picture"].model == (sequence.path / "picture.cpu.onnx").read_bytes()
    assert (whole.forms, whole.mac_share) == ({"picture": "cpu", "head": "fp32"}, 1.0)
    first, second = whole.quantized
    part = lowerings.lower("cpu", "percentile", frozenset({first}))
    assert part.quantized == (second,)
    assert part.floated[first] == "excluded"
    work = {layer.name: layer.macs for layer in lowerings.layers("cpu") if layer.op == "Conv"}
    assert part.mac_share == pytest.approx(work[second] / sum(work.values()))
