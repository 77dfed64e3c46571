"""Golden frames: reading them strictly, and differences that are known because the test made them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_bundle import (
    VARIANTS,
    contract,
    edit_manifest,
    evaluate,
    make_frame_bundle,
    picture,
    pillow_picture,
    pillow_tensor,
    reference_outputs,
)
from memedge_engines import golden
from memedge_engines.bundle import Bundle, file_entry
from memedge_engines.errors import BundleError
from memedge_engines.manifest import Node


def replace_golden(path: Path, data: bytes) -> Bundle:
    (path / "golden.npz").write_bytes(data)
    digest = file_entry("golden.npz", data).sha256
    edit_manifest(path, lambda manifest: manifest["golden"]["file"].update(sha256=digest))
    return Bundle.open(path)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path / "golden.npz", allow_pickle=False) as file:
        return dict(file)


def packed(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_read_gives_what_the_reference_made(tmp_path: Path, variant: str) -> None:
    bundle = VARIANTS[variant](tmp_path / "bundle")
    frames = golden.read(bundle)
    assert len(frames.frames) == bundle.manifest.golden.frames == 3
    for number, rgb in enumerate(frames.frames):
        outputs = reference_outputs(bundle, rgb)
        for column, target in enumerate(bundle.manifest.targets):
            assert frames.scores["fp32"][number, column] == pytest.approx(float(outputs[target.source].item()))
        for node, item, pre in golden.source_inputs(bundle.manifest):
            tensor = frames.tensors[node.name, item.name][number]
            np.testing.assert_array_equal(tensor, pillow_tensor(rgb, pre, item.last))
            # Undoing the normalisation gives Pillow's very picture back.
            np.testing.assert_allclose(golden.to_levels(tensor, pre), pillow_picture(rgb, pre), atol=1e-4)


def test_pack_is_what_read_reads(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle", lowerings=("fp32", "cpu"))
    before = golden.read(bundle)
    again = replace_golden(bundle.path, golden.pack(before.frames, before.tensors, before.scores))
    after = golden.read(again)
    assert set(after.scores) == {"fp32", "cpu"}
    for left, right in zip(before.frames, after.frames, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(before.scores["cpu"], after.scores["cpu"])


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda arrays: arrays.pop(name)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("frame_1"), "has no 'frame_1'; the manifest promises 3 golden frames"),
        (drop("tensor_model_frames_2"), "has no 'tensor_model_frames_2'"),
        (drop("score_fp32"), "has no 'score_fp32'"),
        (lambda a: a.update(frame_0=a["frame_0"].astype(np.float32)), "'frame_0' is float32 .*expected uint8"),
        (
            lambda a: a.update(frame_0=a["frame_0"][:, :, :1]),
            r"'frame_0' is uint8 .*expected uint8 \[height, width, 3\]",
        ),
        (lambda a: a.update(frame_0=a["frame_0"][:0]), "'frame_0' is uint8"),
        (
            lambda a: a.update(tensor_model_frames_0=np.zeros((3, 32, 32), np.float32)),
            r"expected float32 \[1, channels",
        ),
        (lambda a: a.update(tensor_model_frames_0=np.zeros((1, 3, 32, 32))), "is float64 .*expected float32"),
        (
            lambda a: a.update(score_fp32=a["score_fp32"][:2]),
            r"'score_fp32' is float64 \[2, 1\]; expected float64 \[3, 1\]",
        ),
        (lambda a: a.update(score_fp32=a["score_fp32"].astype(np.float32)), "expected float64"),
        (lambda a: a.update(frame_0=np.array([object()])), "is not a golden file: Object arrays cannot be loaded"),
    ],
)
def test_contents_that_do_not_fit_the_manifest(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = make_frame_bundle(tmp_path / "bundle").path
    arrays: dict[str, Any] = arrays_of(path)
    edit(arrays)
    with pytest.raises(BundleError, match=message):
        golden.read(replace_golden(path, packed(arrays)))


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_bytes_that_are_no_golden_file(tmp_path: Path, data: bytes) -> None:
    path = make_frame_bundle(tmp_path / "bundle").path
    with pytest.raises(BundleError, match="is not a golden file"):
        golden.read(replace_golden(path, data))


def test_a_single_array_is_no_golden_file(tmp_path: Path) -> None:
    path = make_frame_bundle(tmp_path / "bundle").path
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    with pytest.raises(BundleError, match="is not a golden file"):
        golden.read(replace_golden(path, buffer.getvalue()))


def test_array_that_claims_to_be_huge(tmp_path: Path) -> None:
    path = make_frame_bundle(tmp_path / "bundle").path
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.uint8)) | {"shape": (1 << 40,)}
    inner = io.BytesIO()
    np.lib.format.write_array_header_1_0(inner, header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("frame_0.npy", inner.getvalue())
    with pytest.raises(BundleError, match=r"is not a golden file|at most"):
        golden.read(replace_golden(path, buffer.getvalue()))


def test_preprocessing_difference_is_measured_in_levels(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle")
    clean = golden.check_preprocess(bundle, golden.read(bundle))
    assert clean.largest <= 1.0
    # These golden tensors are Pillow's pictures: compiled preprocessing does not share its rounding between the passes.
    assert clean.mean <= 0.25
    # A golden tensor that is three levels off in one channel of one pixel of one frame is found, to the level.
    pre = contract()
    arrays = arrays_of(bundle.path)
    levels = pillow_picture(arrays["frame_1"], pre).astype(np.float64)
    levels[5, 7, 2] += 3.0
    tensor = ((levels * pre.scale - np.array(pre.mean)) / np.array(pre.std)).transpose(2, 0, 1)[None]
    arrays["tensor_model_frames_1"] = tensor.astype(np.float32)
    found = golden.check_preprocess(bundle, golden.read(replace_golden(bundle.path, packed(arrays))))
    assert 2.0 <= found.largest <= 4.0
    assert found.mean == pytest.approx(clean.mean + 3.0 / (3 * 32 * 32 * 3), abs=1e-3)


def test_golden_tensor_of_another_size(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle")
    arrays = arrays_of(bundle.path)
    arrays["tensor_model_frames_0"] = np.zeros((1, 3, 30, 32), np.float32)
    changed = replace_golden(bundle.path, packed(arrays))
    with pytest.raises(BundleError, match=r"golden tensor of \[30, 32, 3\], the contract makes \[32, 32, 3\]"):
        golden.check_preprocess(changed, golden.read(changed))


def test_score_differences(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle")
    frames = golden.read(bundle)
    recorded = [{"short_term": float(row[0])} for row in frames.scores["fp32"]]
    [same] = golden.check_scores(bundle, frames, "fp32", recorded)
    assert (same.target, same.largest, same.tolerance, same.passed) == ("short_term", 0.0, 0.01, True)
    recorded[1]["short_term"] += 0.009
    assert golden.check_scores(bundle, frames, "fp32", recorded)[0].passed
    recorded[2]["short_term"] -= 0.02
    [off] = golden.check_scores(bundle, frames, "fp32", recorded)
    assert off.largest == pytest.approx(0.02)
    assert not off.passed
    recorded[0]["short_term"] = float("nan")
    assert not golden.check_scores(bundle, frames, "fp32", recorded)[0].passed
    with pytest.raises(BundleError, match="no golden scores for lowering 'cpu'; there are fp32"):
        golden.check_scores(bundle, frames, "cpu", recorded)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_inputs_of_feed_every_graph_node(tmp_path: Path, variant: str) -> None:
    bundle = VARIANTS[variant](tmp_path / "bundle")
    frames = golden.read(bundle)

    def run(node: Node, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return evaluate(bundle.read(node.files["fp32"]), **inputs)

    for number in range(2):
        fed = golden.inputs_of(bundle, frames, number, "fp32", run)
        assert list(fed) == [node.name for node in bundle.manifest.nodes]
        expected = reference_outputs(bundle, frames.frames[number])
        for node in bundle.manifest.nodes:
            for name, array in run(node, fed[node.name]).items():
                np.testing.assert_allclose(array, expected[f"{node.name}.{name}"], atol=1e-5)


def test_inputs_of_host_and_caller_nodes(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "bundle", golden=[picture(7)])

    def extend(manifest: dict[str, Any]) -> None:
        manifest["nodes"].append({
            "name": "smooth", "kind": "aggregate", "extractor": "weighted",
            "inputs": [
                {"name": "score", "from": "model.score", "last": 3},
                {"name": "bias", "from": "caller", "default": [0.25]},
            ],
            "outputs": [{"name": "score", "role": "score"}],
        })  # fmt: skip

    edit_manifest(bundle.path, extend)
    extended = Bundle.open(bundle.path)
    fed = golden.inputs_of(extended, golden.read(extended), 0, "fp32", lambda n, x: evaluate(
        extended.read(n.files["fp32"]), **x))  # fmt: skip
    assert list(fed) == ["model"]
