from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from helpers_media import pillow_picture
from helpers_sinks import context, picture, reading
from memedge.shown import ShownOutput
from memedge.sinks.heat import HeatMap, jet, region, step_maps
from memedge.sinks.moments import MomentsSink
from memedge.sinks.overlay import Overlay
from memedge.sinks.video import VideoSink
from memedge_engines.manifest import Crop, Preprocess, Resize


def preset(resize: Resize, crop: Crop) -> Preprocess:
    return Preprocess(color="rgb", resize=resize, crop=crop, scale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


IN224 = preset(Resize(rule="short_side", size=256), Crop(rule="center", size=(224, 224)))
SQUASH = preset(Resize(rule="exact", size=(224, 224)), Crop(rule="none"))


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (500, 500)])
@pytest.mark.parametrize("contract", [IN224, SQUASH])
def test_the_hottest_place_is_where_the_network_saw_it(contract: Preprocess, size: tuple[int, int]) -> None:
    """A white spot in the source, found in what Pillow makes of it: heat there lies over the spot again."""
    width, height = size
    source = np.zeros((height, width, 3), np.uint8)
    x, y = round(width * 0.55), round(height * 0.4)
    source[y - 6 : y + 6, x - 6 : x + 6] = 255
    seen = pillow_picture(source, contract)[..., 0].astype(float)
    rows, columns = np.mgrid[: seen.shape[0], : seen.shape[1]]
    row, column = ((seen * axis).sum() / seen.sum() for axis in (rows, columns))
    attention = np.exp(-((rows[::8, ::8] - row) ** 2 + (columns[::8, ::8] - column) ** 2) / 400).astype(np.float32)
    canvas = np.zeros((height, width, 3), np.uint8)
    HeatMap(attention, contract).draw(canvas, size)
    heat = canvas[..., 0].astype(float)
    rows, columns = np.mgrid[:height, :width]
    assert (heat * columns).sum() / heat.sum() == pytest.approx(x, abs=width / 60)
    assert (heat * rows).sum() / heat.sum() == pytest.approx(y, abs=height / 60)


def test_heat_stays_inside_what_the_network_saw() -> None:
    left, top, right, bottom = region(IN224, 640, 360)
    assert (top, bottom) == (22, 338)
    assert right - left == pytest.approx(bottom - top, abs=1)
    assert region(SQUASH, 640, 360) == region(None, 640, 360) == (0, 0, 640, 360)
    canvas = np.full((360, 640, 3), 90, np.uint8)
    HeatMap(np.eye(4, dtype=np.float32), IN224).draw(canvas, (640, 360))
    changed = np.argwhere((canvas != 90).any(2))
    assert changed[:, 0].min() >= top
    assert changed[:, 0].max() < bottom
    assert changed[:, 1].min() >= left
    assert changed[:, 1].max() < right


def test_a_frame_that_lies_on_a_larger_canvas() -> None:
    canvas = np.full((400, 800, 3), 90, np.uint8)
    HeatMap(np.eye(4, dtype=np.float32), SQUASH).draw(canvas, (320, 180), (100, 50, 420, 230))
    changed = np.argwhere((canvas != 90).any(2))
    assert changed.min(0).tolist() == [50, 100]
    assert changed.max(0).tolist() == [229, 419]


def test_steps_have_a_small_copy_each_and_their_mean_lies_over_the_picture() -> None:
    maps = np.zeros((3, 6, 6), np.float32)
    maps[0, 1, 1] = maps[1, 4, 1] = maps[2, 4, 4] = 1
    canvas = np.full((480, 640, 3), 90, np.uint8)
    HeatMap(maps, SQUASH).draw(canvas, (640, 480))
    copies = (canvas[8, :] == 255).all(1)
    edges = np.flatnonzero(np.diff(np.r_[0, copies, 0].astype(int)))
    assert len(edges) == 6, "three frames side by side"
    for row, column in ((1, 1), (4, 1), (4, 4)):
        assert canvas[row * 80 + 40, (column * 640) // 6 + 53].tolist() != [90, 90, 90]
    narrow = np.full((90, 160, 3), 90, np.uint8)
    HeatMap(maps, SQUASH).draw(narrow, (160, 90))
    assert not (narrow == 255).all(2).any(), "a narrow picture has no room for copies"


def test_maps_that_show_nothing() -> None:
    for values in (np.ones((5, 5)), np.full((2, 5, 5), np.nan), np.zeros((0, 4, 4)), np.ones(7)):
        canvas = np.full((64, 64, 3), 90, np.uint8)
        HeatMap(values.astype(np.float32), SQUASH).draw(canvas, (64, 64))
        assert (canvas == 90).all()
    assert step_maps(np.zeros((4, 5, 2, 3), np.float32)).shape == (8, 2, 3)


def test_jet() -> None:
    assert jet(np.array([0, 0.5, 1], np.float32)).tolist() == [[0, 0, 0.5], [0.5, 1, 0.5], [0.5, 0, 0]]


SHOWN = {
    "small": (
        ShownOutput("model.attn", "attention", "attn", SQUASH, 2.0),
        ShownOutput("model.probs", "class_probs", "probs"),
    )
}
ATTENTION = np.eye(6, dtype=np.float32)


def test_a_map_stands_until_it_is_old() -> None:
    overlay = Overlay(dataclasses.replace(context(), shown=SHOWN))
    overlay.update(reading(0, outputs={"model.attn": ATTENTION}))
    first = overlay.heat()
    overlay.update(reading(25))
    assert overlay.heat() is first is not None
    overlay.update(reading(30, outputs={"model.attn": ATTENTION}))
    assert overlay.heat() is not first
    overlay.update(reading(81))
    assert overlay.heat() is None
    overlay.update(reading(40, outputs={"model.attn": ATTENTION}))
    overlay.update(reading(10))
    assert overlay.heat() is None, "a clock that went back starts anew"


def test_video_and_moments_carry_the_map(tmp_path: Path) -> None:
    given = dataclasses.replace(context(), shown=SHOWN)
    sinks = VideoSink(tmp_path / "v.mp4"), MomentsSink(tmp_path / "m", 1)
    for sink in sinks:
        sink.start(given)
        for index in range(10):
            outputs = {"model.attn": ATTENTION, "model.probs": [0.1, 0.9]} if index == 0 else {}
            sink.write(reading(index, outputs=outputs), picture(index), {})
        sink.close()
    with av.open(str(tmp_path / "v.mp4")) as container:
        last = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)][-1]
    plain = picture(9).rgb().astype(int)
    assert (last - plain)[10:20, 10:20, 0].mean() > 30, "the diagonal is hot"
    assert np.abs(last[10:20, -20:-10] - plain[10:20, -20:-10]).mean() < 12, "the corner is not"
    (moment,) = json.loads((tmp_path / "m" / "moments.json").read_text())["moments"]
    assert moment["attention"] == moment["file"].replace(".jpg", "_attention.jpg")
    hot, cold = (np.asarray(Image.open(tmp_path / "m" / moment[key]), int) for key in ("attention", "file"))
    assert (hot - cold)[10:20, 10:20, 0].mean() > 30
    MomentsSink(tmp_path / "m").start(context())
    assert not list((tmp_path / "m").glob("*.jpg")), "the next run removes both"


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_the_map_lies_on_the_upright_picture(tmp_path: Path, turn: int) -> None:
    """A frame stored on its side: what is hot at the upper right, as the network saw it, is there in both pictures."""
    attention = np.zeros((1, 1, 8, 8), np.float32)
    attention[..., :2, -2:] = 1
    sinks = VideoSink(tmp_path / "v.mp4"), MomentsSink(tmp_path / "m", 1)
    for sink in sinks:
        sink.start(dataclasses.replace(context(), shown=SHOWN))
        for index in range(10):
            outputs = {"model.attn": attention, "model.probs": [0.1, 0.9]} if index == 0 else {}
            sink.write(reading(index, outputs=outputs), picture(index, rotation=turn), {})
        sink.close()
    with av.open(str(tmp_path / "v.mp4")) as container:
        video = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)][-1]
    (moment,) = json.loads((tmp_path / "m" / "moments.json").read_text())["moments"]
    hot, cold = (np.asarray(Image.open(tmp_path / "m" / moment[key]), int) for key in ("attention", "file"))
    upright = Image.fromarray(np.ascontiguousarray(np.rot90(picture(9).rgb(), -turn // 90)))
    for drawn, plain in ((video, np.asarray(upright.resize(video.shape[1::-1]), int)), (hot, cold)):
        height, width = plain.shape[:2]
        assert (width < height) == (turn != 180)
        changed = np.abs(drawn - plain).mean(2)
        assert changed[: height // 8, -width // 8 :].mean() > 12, "the upper right is hot"
        for row, column in ((0, 0), (height // 2, 0), (height // 2, width * 3 // 4)):  # a panel lies below
            assert changed[row : row + height // 8, column : column + width // 8].mean() < 4
