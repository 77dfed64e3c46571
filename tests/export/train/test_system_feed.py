"""What systems are shown: a device's own frames offline, one augmentation a record, host values once."""

from __future__ import annotations

from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import memedge
from helpers_systems import CLIP, ENTRIES, PICTURE
from helpers_video import numbered, write_video
from memedge_engines import extractors
from memedge_engines.manifest import Node, NodeInput, NodeOutput, Preprocess
from memedge_export import system_untrained
from memedge_export.data import Record
from memedge_export.data.pictures import normalise, to_tensor
from memedge_export.data.records import DataSet
from memedge_export.models import aggregates
from memedge_export.models.system import System, build_system
from memedge_export.system_bundle import export_system
from memedge_export.train.clips import Eye
from memedge_export.train.material import training_scores
from memedge_export.train.recipe import Augmentation, Phase, Recipe
from memedge_export.train.system_feed import SystemTrainingFeed, SystemValidationFeed
from memedge_export.train.viewing import Viewer

RATE, SECONDS = 6, 2.5


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 frames that differ, 6 a second, without loss."""
    pictures = numbered(round(RATE * SECONDS), 48, 32)
    for number, picture in enumerate(pictures):
        picture[:] = np.clip(picture.astype(int) + 6 * number, 0, 255)
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return write_video(path, pictures, codec="ffv1", pix_fmt="bgr0", rate=RATE)


@pytest.fixture(scope="module")
def networks() -> dict[str, System]:
    return {key: build_system(entry, seed=3) for key, entry in ENTRIES.items()}


def by_hand(key: str, network: System, pictures: list[np.ndarray]) -> float:
    """The score by the systems' cards, frames picked by hand: every second one at 0, 1, 2 s ..."""
    with torch.inference_mode():
        if key == "frame":
            scores = [network.graphs["model"].module(one(pictures, n))[0] for n in (0, 6, 12)]
            return float(torch.cat(scores).clamp(0, 1).mean())
        if key == "clip":
            # Eight frames that end at each second; the first ones are repeated while there are fewer.
            windows = [[max(0, n - 7 + k) for k in range(8)] for n in (0, 6, 12)]
            tensors = [torch.stack([to_tensor(pictures[n], FLAT) for n in w], 1)[None] for w in windows]
            return float(torch.cat([network.graphs["model"].module(t)[0] for t in tensors]).clamp(0, 1).mean())
        if key == "sequence":
            # Every half second is every third frame; the newest score at a tick of two seconds is the one that counts.
            features = [network.graphs["picture"].module(one(pictures, n))[1] for n in (3, 6, 9, 12)]
            return float(network.graphs["head"].module(torch.stack(features, 1))[0].clamp(0, 1))
        found = []
        for n in (0, 6, 12):
            counts = [np.bincount(pictures[n][..., c].reshape(-1), minlength=256) for c in range(3)]
            colors = torch.tensor(np.concatenate(counts) / (32 * 48), dtype=torch.float32)[None]
            feature = network.graphs["picture"].module(one(pictures, n))[1]
            found.append(network.graphs["head"].module(feature, colors, torch.zeros(1, 2, 3))[0])
        return float(torch.cat(found).clamp(0, 1).mean())


FLAT: Preprocess = msgspec.structs.replace(CLIP, layout="nchw")


def one(pictures: list[np.ndarray], number: int) -> torch.Tensor:
    return to_tensor(pictures[number], PICTURE)[None]


@pytest.mark.parametrize("key", list(ENTRIES))
def test_an_offline_score_is_plain_torch_on_frames_picked_by_hand(
    key: str, film: Path, networks: dict[str, System]
) -> None:
    with av.open(str(film)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    network = networks[key]
    feed = SystemValidationFeed(network, [Record("film", film, 0.5, "val")])
    assert feed.predict(network)[0, 0] == pytest.approx(by_hand(key, network, pictures), abs=1e-5)


@pytest.mark.parametrize(
    "key", ["hybrid", *(pytest.param(k, marks=pytest.mark.slow) for k in ENTRIES if k != "hybrid")]
)
def test_an_offline_score_is_the_video_score_of_the_bundle(key: str, film: Path, tmp_path: Path) -> None:
    bundle = export_system(ENTRIES[key], (), tmp_path / "bundle")
    network = build_system(ENTRIES[key])
    system_untrained.initialise(network)
    still = tmp_path / "still.png"
    Image.fromarray(numbered(1, 48, 32)[0]).save(still)
    records = [Record("film", film, 0.5, "val"), Record("still", still, 0.5, "val")]
    offline = SystemValidationFeed(network, records).predict(network)
    with memedge.load(bundle.path, engine="onnxruntime") as scorer:
        with memedge.stream(str(film), scorer) as readings:
            list(readings)
        assert readings.summary is not None
        assert readings.summary.video_score["short_term"] == pytest.approx(offline[0, 0], abs=1e-3)
        assert scorer.score(str(still)).value == pytest.approx(offline[1, 0], abs=1e-3)
    assert 0 < offline[0, 0] < 1


def feed_of(
    network: System, records: list[Record], how: Augmentation, folder: Path | None = None
) -> SystemTrainingFeed:

    data = DataSet("x", tuple(records), unit="video")
    recipe = Recipe(phases=(Phase(name="all", epochs=1, rates={"head": 1.0}),), batch=2, augmentation=how)
    feed = SystemTrainingFeed(network, training_scores([data]), recipe, 1, folder=folder)
    feed.begin(network, recipe.phases[0])
    return feed


def test_all_pictures_of_a_record_are_cut_and_mirrored_alike(
    film: Path, networks: dict[str, System], tmp_path: Path
) -> None:
    network = networks["clip"]
    still = write_video(tmp_path / "still.mkv", [numbered(1, 48, 32)[0]] * 15, codec="ffv1", pix_fmt="bgr0", rate=RATE)
    records = [Record("a", still, 0.2, "train"), Record("b", still, 0.4, "train")]
    how = Augmentation(area=(0.3, 0.9), brightness=0.3)
    seen: list[torch.Tensor] = []
    for folder in (None, tmp_path / "clips", tmp_path / "clips"):
        feed = feed_of(network, records, how, folder)
        ((_, sample),) = feed.epoch(0)
        ((_, again),) = feed.epoch(0)
        clips = sample.inputs.feeds["model"].inputs["clip"]  # type: ignore[attr-defined]
        assert torch.equal(clips, again.inputs.feeds["model"].inputs["clip"])  # type: ignore[attr-defined]
        assert clips.shape == (2, 3, 8, 16, 16)
        for clip in clips:
            assert (clip - clip[:, :1]).abs().max() < 1e-6  # the same picture eight times
        assert not torch.equal(clips[0], clips[1])
        seen.append(clips)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])  # read from disk
    assert {path.suffix for path in (tmp_path / "clips").glob("*/*")} == {".png", ".npy", ".npz"}


def test_each_epoch_shows_another_complete_call(film: Path, networks: dict[str, System]) -> None:
    network = networks["clip"]
    feed = feed_of(network, [Record("a", film, 0.2, "train")] * 2, Augmentation(place="center", mirror=False))
    shown = {tuple(feed._seen(0, seed).wanted["short_term"]) for seed in range(12)}
    calls = Eye(Viewer(network)).look(film).viewing.calls
    # Windows of eight frames that end at 0 s are not whole: those at 1 s hold seven different ones.
    assert [calls[number[0]].frame for number in shown] == [12]


def test_a_still_picture_fills_every_window_and_runs_each_node_once(networks: dict[str, System]) -> None:
    for key, counts in {"frame": [1], "clip": [1], "sequence": [1, 1], "hybrid": [1, 1, 1]}.items():
        viewing = Viewer(networks[key]).of_picture()
        nodes = [call.node for call in viewing.calls.values()]
        assert [nodes.count(name) for name in dict.fromkeys(nodes)] == counts
        assert {ref for call in viewing.calls.values() if call.node in ("model", "picture", "colors")
                for refs in call.inputs.values() for ref in refs} == {0}  # fmt: skip


def test_a_frame_goes_through_a_frame_node_once(film: Path, networks: dict[str, System]) -> None:
    viewing = Eye(Viewer(networks["sequence"])).look(film).viewing
    frames = [call.inputs["frames"] for call in viewing.calls.values() if call.node == "picture"]
    assert len(frames) == len(set(frames)) == 4  # only what the last window holds


@pytest.mark.parametrize("name", ["mean", "median", "weighted"])
def test_aggregates_in_torch_are_those_of_the_runtime(name: str) -> None:
    inputs = (NodeInput(name="a", source="x.y", last=3), NodeInput(name="b", source="x.z"))
    node = Node(
        name="n", kind="aggregate", extractor=name, inputs=inputs, outputs=(NodeOutput(name="score", role="score"),),
        options={"weight.a": 0.25, "weight.b": -2.0} if name == "weighted" else {},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    values = {"a": rng.random((5, 3, 2)).astype(np.float32), "b": rng.random((5, 1, 2)).astype(np.float32)}
    tensors = {key: torch.from_numpy(array).requires_grad_() for key, array in values.items()}
    found = aggregates.run(node, tensors)["score"]
    for row in range(5):
        expected = extractors.find(node)({key: list(array[row]) for key, array in values.items()}, node)["score"]
        assert found[row].detach().numpy() == pytest.approx(expected, abs=1e-6)
    found.sum().backward()
    assert aggregates.differentiable(node)
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in tensors.values())


def test_colour_order_and_grey_follow_the_contract(tmp_path: Path) -> None:
    from memedge_export.train.augment import region

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
    for color in ("rgb", "bgr", "gray"):
        count = 1 if color == "gray" else 3
        contract = msgspec.structs.replace(PICTURE, color=color, mean=(0.0,) * count, std=(1.0,) * count)
        got = region(picture, contract, Augmentation(place="center", mirror=False), np.random.default_rng(1))
        expected = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR))
        if color == "bgr":
            expected = expected[..., ::-1]
        elif color == "gray":
            expected = np.rint(expected @ np.array([0.299, 0.587, 0.114]))[..., None]
        assert np.abs(got.astype(int) - expected).max() <= 1
        assert normalise(got[None], contract).shape == (1, count, 32, 32)
