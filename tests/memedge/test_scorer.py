"""Scorer: pictures on every dataflow against Pillow and onnx's reference evaluator; batches, threads, errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import memedge
from helpers_bundle import VARIANTS, make_frame_bundle, picture, reference_outputs
from memedge.errors import BundleError, EngineError, FrameError, PictureError, UsageError
from memedge.loading import open_bundle
from memedge.scorer import Scorer, target_value
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Target


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    return {name: make(root / name) for name, make in VARIANTS.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_picture_on_every_dataflow_equals_the_reference(bundles: dict[str, Bundle], variant: str) -> None:
    bundle = bundles[variant]
    with memedge.load(bundle.path, engine="onnxruntime", precision="fp32") as scorer:
        score = scorer.score(picture(5, 90, 70))
    expected = reference_outputs(bundle, picture(5, 90, 70))
    for target in bundle.manifest.targets:
        assert score.targets[target.name] == pytest.approx(float(expected[target.source].reshape(-1)[0]), abs=2e-3)
    assert score.value == score.targets[bundle.manifest.primary.name]
    assert ("static" in score.flags) == (variant in ("window", "clip"))


def test_paths_arrays_and_batches_agree(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    pictures = [picture(i, 60 + i, 50) for i in range(5)]
    paths = []
    for number, one in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(one).save(paths[-1])
    with memedge.load(bundles["frame"].path, max_batch=2) as scorer:
        one_by_one = [scorer.score(p).value for p in pictures]
        batched = [s.value for s in scorer.score_batch(pictures)]
        from_files = [s.value for s in scorer.score_batch([str(paths[0]), *paths[1:]])]
        assert scorer.score_batch([]) == []
    np.testing.assert_allclose(batched, one_by_one, atol=1e-6)
    np.testing.assert_allclose(from_files, one_by_one, atol=1e-6)
    assert len(set(one_by_one)) == 5


def test_threads_get_the_scores_of_their_own_pictures(bundles: dict[str, Bundle]) -> None:
    pictures = [picture(i) for i in range(40)]
    with memedge.load(bundles["fused"].path) as scorer:
        expected = [scorer.score(p).targets for p in pictures]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda p: scorer.score(p).targets, pictures)) == expected


def test_percentile_is_that_of_the_quantiles(bundles: dict[str, Bundle]) -> None:
    quantiles = bundles["frame"].manifest.primary.quantiles
    assert quantiles is not None
    with memedge.load(bundles["frame"].path) as scorer:
        score = scorer.score(picture(3))
    grid = np.linspace(0, 100, len(quantiles.values))
    assert score.percentile == pytest.approx(float(np.interp(score.value, quantiles.values, grid)), abs=1e-6)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onxruntime", "auto", "did you mean 'onnxruntime'"),
        ("auto", "int4", "no precision 'int4'"),
        ("onnxruntime", "fp16", "fp16"),
        ("nonsense", "auto", "no engine 'nonsense'"),
    ],
)
def test_unknown_engines_and_precisions_are_named(
    bundles: dict[str, Bundle], engine: str, precision: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        memedge.load(bundles["frame"].path, engine=engine, precision=precision)


def test_bad_pictures_and_paths(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    with memedge.load(bundles["frame"].path) as scorer:
        for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(FrameError, match="expected uint8"):
                scorer.score(bad)
        (tmp_path / "text.jpg").write_text("no picture")
        for path in (tmp_path / "absent.jpg", tmp_path / "text.jpg"):
            with pytest.raises(PictureError):
                scorer.score(path)
        assert 0 <= scorer.score(picture(1)).value <= 1
    with pytest.raises(EngineError, match="after it was closed"):
        scorer.score(picture(1))
    with pytest.raises(BundleError, match="no such folder"):
        memedge.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="max_batch"):
        memedge.load(bundles["frame"].path, max_batch=0)


def test_a_score_that_is_not_a_number_is_an_error_and_the_rest_is_clipped() -> None:
    target = Target(name="t", source="model.score", primary=True)
    for value, expected in ((-0.2, 0.0), (0.25, 0.25), (7.0, 1.0)):
        assert target_value(target, {"model.score": np.array([value])}) == expected
    for bad in (float("nan"), float("inf")):
        with pytest.raises(EngineError, match="finite"):
            target_value(target, {"model.score": np.array([bad])})
    with pytest.raises(EngineError, match="has 2 elements"):
        target_value(target, {"model.score": np.zeros(2)})


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b")
    file = bundle.path / bundle.manifest.nodes[0].files["fp32"].file
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="altered"):
        memedge.load(bundle.path, engine="onnxruntime", precision="fp32")


def test_default_bundle_opens_and_scores() -> None:
    with Scorer(open_bundle(), "onnxruntime") as scorer:
        first, second = scorer.score_batch([picture(1, 200, 100), picture(2, 100, 200)])
    assert first.value != second.value
    assert 0 < first.value < 1
