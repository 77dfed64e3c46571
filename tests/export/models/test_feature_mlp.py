"""Perceptrons on fixed features: counts, what they see of a clip, what they refuse, streams against offline scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from helpers_feature_systems import RATE, bundle_of, film, lively, narrow, offline, vectors, write_film
from helpers_offline import readings
from memedge.errors import UsageError
from memedge_engines import extractors
from memedge_engines.errors import BundleError
from memedge_engines.trace import FrameTime, behind, trace
from memedge_export import system_bundle
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.errors import ExportError, WeightsError
from memedge_export.models import count
from memedge_export.models.system import System, build_system, system_entry
from memedge_export.system_weights import load_system
from memedge_export.train.clips import Eye
from memedge_export.train.fitting import Rows
from memedge_export.train.recipes import recipe_for
from memedge_export.train.viewing import Viewer

HEADS: dict[str, list[tuple[dict[str, Any], int]]] = {
    "hmp-mlp": [({}, 607_701), ({"features": "files"}, 607_701)],
    "hmp-mlp-videomem": [({}, 60_881)],
    "colorhist-mlp": [({}, 77_001), ({"extractor": "colorhist-hsv"}, 77_001)],
    "lbp-mlp": [({}, 12_401), ({"extractor": "lbp59"}, 6_101)],
    "aesthetics-mlp": [
        ({"features": "files"}, 11_101),
        ({"features": "files", "average": "both"}, 22_001),
        ({}, 4_201),
        ({"average": "both"}, 8_201),
    ],
    "inceptionv3-mlp": [({}, 100_201), ({"output": "pool"}, 205_001), ({"features": "files"}, 100_201)],
    "c3d-lbp-aesthetics-mlp": [({"features": "files"}, 33_401), ({}, 26_501)],
    "c3d-hmp-mlp": [({}, 617_801), ({"features": "files"}, 617_801)],
}
HOSTS = ["hmp-mlp", "colorhist-mlp", "aesthetics-mlp", "lbp-mlp"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published clip: 7 s, 24 frames a second."""
    return write_film(tmp_path_factory.mktemp("film") / "clip.mov", film())


def on_meta(name: str, options: dict[str, Any]) -> System:
    entry = system_entry(name)
    assert entry is not None
    with torch.device("meta"):
        return build_system(entry, options=options)


@pytest.mark.parametrize("name", HEADS)
def test_golden_counts_of_the_heads_and_the_recipes_names(name: str) -> None:
    for options, expected in HEADS[name]:
        network = on_meta(name, options)
        head = network.get_submodule(network.last[0].rpartition(".")[0])
        assert count.parameters(head) == expected, options
        (rates,) = [phase.rates for phase in recipe_for(name).phases]
        trained = [n for n, _ in network.named_parameters() if any(n.startswith(f"{p}.") for p in rates)]
        assert len(trained) == len(list(head.parameters()))


def test_trunks_are_beside_the_heads() -> None:
    assert count.parameters(on_meta("c3d-hmp-mlp", {})) == 617_801 + 78_409_573


def seen(name: str, options: dict[str, Any] | None = None) -> dict[str, list[int]]:
    """Node to the frames that the score of a published clip hangs on (7 s, 24 frames a second); it must be whole."""
    network = on_meta(name, options or {})
    manifest = network.dataflow
    calls = trace(manifest, [FrameTime(i / RATE, 1 / RATE, i) for i in range(7 * RATE)])
    target = network.system_targets[0]
    node = target.source.partition(".")[0]
    own = [call for call in calls if call.node == node]
    wanted = own if target.aggregate == "mean" else own[-1:]
    assert wanted[-1].complete
    forms = getattr(network.graphs[node].module, "forms", ())
    for call in wanted:
        # Of a window whose oldest element alone is taken, that one.
        inputs = {n: refs[:1] if "oldest" in forms and n == "c3d" else refs for n, refs in call.inputs.items()}
        calls[call.number] = dataclasses.replace(call, inputs=inputs)
    found: dict[str, set[int]] = {}
    for call in behind(calls, manifest, [call.number for call in wanted]):
        item = next(i for n in network.nodes if n.name == call.node for i in n.inputs)
        if item.source == "source":
            found.setdefault(call.node, set()).update(call.inputs[item.name])
    return {name: sorted(frames) for name, frames in found.items()}


def test_frames_behind_the_score_of_a_published_clip() -> None:
    keys, tenths, clip = [0, 56, 112], list(range(0, 168, 10)), list(range(16))
    assert seen("hmp-mlp") == {"hmp-blocks": list(range(0, 168, 2))}
    assert seen("hmp-mlp", {"rate": 3}) == {"hmp-blocks": list(range(0, 168, 8))}
    assert seen("colorhist-mlp") == {"feature": keys}
    assert seen("lbp-mlp") == {"feature": keys}
    assert seen("inceptionv3-mlp") == {"model": keys}
    assert seen("aesthetics-mlp") == {"aesthetics": tenths}
    assert seen("aesthetics-mlp", {"average": "both"}) == {"aesthetics": tenths}
    assert seen("c3d-lbp-aesthetics-mlp") == {"c3d": clip, "feature": keys, "aesthetics": tenths}
    assert seen("c3d-hmp-mlp") == {"c3d": clip, "hmp-blocks": list(range(0, 168, 2))}
    newest = seen("c3d-hmp-mlp", {"clip": "newest"})
    assert newest["c3d"] == list(range(144, 160))


def test_training_sees_the_published_features(clip: Path) -> None:
    for name in HOSTS:
        options = {"full_size": True} if name == "lbp-mlp" else {}
        network = build_system(narrow(name), options=options)
        looked = Eye(Viewer(network)).look(clip)
        rows = [next(iter(values.values())) for values in looked.hosts.values()]
        (expected,) = vectors(network, film()).values()
        # Values that other host nodes read, such as the frames' own, are not kept.
        assert len(rows) == len(np.atleast_2d(expected))
        np.testing.assert_allclose(np.stack(rows), np.atleast_2d(expected), rtol=1e-5, atol=1e-6)


class _Data:
    """Training data of which the features alone are known."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def entering(self, part: str, most: int = 0) -> Rows:
        assert part.endswith("standardise")
        return Rows(self.values, torch.zeros(len(self.values), 1))


@pytest.mark.parametrize("name", ["hmp-mlp-videomem", "c3d-lbp-aesthetics-mlp"])
def test_statistics_are_those_of_the_training_features(name: str) -> None:
    network = build_system(narrow(name))
    (part,) = network.fitted
    scaler = network.get_submodule(part.part)
    shape = (40, 3) if name.startswith("c3d") else (40,)
    values = torch.rand(*shape, len(scaler.mean)) * 3
    part.fit(network, _Data(values))  # type: ignore[arg-type]
    flat = values.flatten(0, -2)
    torch.testing.assert_close(scaler.mean, flat.mean(0))
    torch.testing.assert_close(scaler.std, flat.std(0, correction=0))


def test_options_that_cannot_be_meant() -> None:
    for name, options, message in (
        ("hmp-mlp", {"rate": "24"}, "rate=24; expected 1 to 12"),
        ("lbp-mlp", {"extractor": "lbp58"}, "expected one of lbp122, lbp59"),
        ("aesthetics-mlp", {"average": "mode"}, "expected one of mean, median, both"),
        ("inceptionv3-mlp", {"output": "logits"}, "expected one of softmax, pool"),
        ("colorhist-mlp", {"features": "file"}, "expected one of live, files"),
        ("c3d-hmp-mlp", {"clip": "last"}, "expected one of first, newest"),
    ):
        with pytest.raises(UsageError, match=message):
            build_system(narrow(name), options=options)
    with pytest.raises(UsageError, match="predicts one target"):
        build_system(narrow("hmp-mlp"), targets=("short_term", "long_term"))


# What a head refuses --------------------------------------------------------------------------------------------------


def saved(folder: Path, name: str, extractors_: dict[str, str] | None = None, **options: Any) -> str:
    """A checkpoint of a system with random weights."""
    network = build_system(narrow(name), options=options)
    info = CheckpointInfo(
        model=name,
        training=msgspec.convert({"status": "trained"}, type=_training()),
        options=options,
        extractors=network.extractors if extractors_ is None else extractors_,
    )
    save(folder / "head.safetensors", network.state_dict(), info)
    return str(folder / "head.safetensors")


def _training() -> type:
    from memedge_engines.manifest import Training

    return Training


def test_a_head_on_released_features_makes_no_bundle(tmp_path: Path) -> None:
    head = saved(tmp_path, "aesthetics-mlp", features="files")
    with pytest.raises(ExportError, match=r"files of aesthetic_mean, and no live extractor .*--option features=live"):
        system_bundle.export_system(narrow("aesthetics-mlp"), [head], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    # 109 values are never taken for our 40.
    with pytest.raises(UsageError, match="the checkpoint was trained with features=files"):
        load_system(narrow("aesthetics-mlp"), [head], options={"features": "live"})
    with pytest.raises(WeightsError, match=r"trained on mediaeval2018-aesthetic_mean .* fed by aes-lite of version 1"):
        load_system(narrow("aesthetics-mlp"), [f"head={head}"], options={"features": "live"})


def test_a_head_of_another_version_is_refused(tmp_path: Path) -> None:
    head = saved(tmp_path, "lbp-mlp", {"lbp122": "0"})
    with pytest.raises(
        WeightsError, match="trained on lbp122 of version 0; this network is fed by lbp122 of version 1"
    ):
        load_system(narrow("lbp-mlp"), [head])
    node = build_system(narrow("lbp-mlp")).node("feature")
    assert node.options["version"] == 1
    with pytest.raises(BundleError, match="exported for version 7 of the extractor lbp122"):
        extractors.find(msgspec.structs.replace(node, options={"version": 7}))


# Streams --------------------------------------------------------------------------------------------------------------


def streamed(tmp_path: Path, clip: Path, name: str, **options: Any) -> None:
    """The live score at the end of a published clip, and the video's, are the offline score of the clip."""
    entry, pictures = narrow(name), film()
    network = lively(entry, pictures, **options)
    bundle = bundle_of(entry, network, tmp_path, **options)
    found = readings(bundle, clip)
    scored = [reading for reading in found if reading.score is not None]
    expected = offline(network, pictures)
    assert 0.02 < expected < 0.98
    assert np.std([reading.score for reading in scored]) > 1e-3, "scores that never change would prove nothing"
    assert found[-1].rolling == pytest.approx(expected, abs=1e-3)
    if network.system_targets[0].aggregate == "last":
        assert scored[-1].score == pytest.approx(expected, abs=1e-3)


def test_streamed_as_scored_offline(tmp_path: Path, clip: Path) -> None:
    streamed(tmp_path, clip, "hmp-mlp-videomem")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hmp-mlp", {}),
        ("colorhist-mlp", {"swap": False}),
        ("lbp-mlp", {"full_size": True}),
        ("aesthetics-mlp", {"average": "both"}),
        ("inceptionv3-mlp", {}),
        ("c3d-lbp-aesthetics-mlp", {"full_size": True}),
        ("c3d-hmp-mlp", {}),
    ],
)
def test_all_streamed_as_scored_offline(tmp_path: Path, clip: Path, name: str, options: dict[str, Any]) -> None:
    streamed(tmp_path, clip, name, **options)
