from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import memedge.sinks.moments as module
from helpers_sinks import context, feed, picture, reading, scene, summary
from memedge.errors import SinkError, UsageError
from memedge.moments import Moments
from memedge.sinks.base import Picture
from memedge.sinks.moments import MomentsSink
from memedge_engines.frame import Frame


def listed(folder: Path) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((folder / "moments.json").read_text())["moments"]
    assert sorted(str(e["file"]) for e in entries) == sorted(p.name for p in folder.glob("*.jpg"))
    return entries


def test_pictures_show_their_moments(tmp_path: Path) -> None:
    sink = MomentsSink(tmp_path, count=3, min_gap_s=1.0)
    sink.start(context(untrained=("small",)))
    feed(sink, 200)
    sink.finish(summary())
    sink.close()
    offline = Moments(3, 1.0)
    for i in range(200):
        score = reading(i).score
        assert score is not None
        offline.offer(i / 25, score)
    entries = listed(tmp_path)
    assert [(e["time_s"], e["score"]) for e in entries] == [(m.time_s, m.score) for m in offline.best()]
    assert [e["rank"] for e in entries] == [1, 2, 3]
    assert all(e["untrained"] and e["source"] == "clip.mp4" and e["bundle"] == "small" for e in entries)
    for entry in entries:
        time_s, score = float(str(entry["time_s"])), float(str(entry["score"]))
        assert entry["file"] == f"clip_t{time_s:08.3f}s_s{score:.3f}.jpg"
        with Image.open(tmp_path / str(entry["file"])) as image:
            got = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(got - scene(round(time_s * 25))).mean() < 3


def test_files_are_current_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_S", 0.0)
    sink = MomentsSink(tmp_path / "new" / "folder", count=4, min_gap_s=0.6)
    sink.start(context())
    assert listed(tmp_path / "new" / "folder") == []
    offline = Moments(4, 0.6)
    for i in range(150):
        feed(sink, 1, start=i)
        offline.offer(i / 25, float(reading(i).score or 0))
        assert [e["time_s"] for e in listed(tmp_path / "new" / "folder")] == [m.time_s for m in offline.best()]
    assert not list(tmp_path.rglob("*.part"))
    sink.close()


def test_sources_and_bundles_do_not_mix(tmp_path: Path) -> None:
    sink = MomentsSink(tmp_path, count=2, min_gap_s=0.5)
    for label in ("a/clip one.mp4", "b/clip one.mp4"):
        sink.start(context(("x", "y"), label))
        feed(sink, 60, ("x", "y"), label)
        for bundle in ("x", "y"):
            sink.finish(summary(bundle, label))
    sink.close()
    entries = listed(tmp_path)
    assert len(entries) == 8
    prefixes = {str(e["file"]).split("_t")[0] for e in entries}
    assert prefixes == {"clip-one_x", "clip-one_y", "clip-one-2_x", "clip-one-2_y"}


def test_an_earlier_run_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"keep")
    outside = tmp_path.parent / "outside.jpg"
    outside.write_bytes(b"keep")
    for count in (60, 30):
        sink = MomentsSink(tmp_path)
        sink.start(context())
        feed(sink, count)
        sink.close()
    assert {p.name for p in tmp_path.glob("*.jpg")} == {
        "mine.jpg", *(e["file"] for e in json.loads((tmp_path / "moments.json").read_text())["moments"])
    }  # fmt: skip
    (tmp_path / "moments.json").write_text(json.dumps({"moments": [{"file": "../outside.jpg"}, {"file": 3}, {}]}))
    sink = MomentsSink(tmp_path)
    sink.start(context())
    sink.close()
    (tmp_path / "moments.json").write_text("not json")
    sink = MomentsSink(tmp_path)
    sink.start(context())
    sink.close()
    assert outside.exists()


def test_large_and_rotated_pictures(tmp_path: Path) -> None:
    sink = MomentsSink(tmp_path)
    sink.start(context())
    big = np.zeros((1000, 3000, 3), np.uint8)
    big[:, :1500] = 255
    shot = Picture(Frame.from_rgb(big, rotation=90))
    sink.write(reading(0), shot, {})
    shot.frame.release()
    sink.finish(summary())
    (entry,) = listed(tmp_path)
    with Image.open(tmp_path / str(entry["file"])) as image:
        assert image.size == (427, 1280)
        pixels = np.asarray(image)
    assert pixels[100].mean() > 240
    assert pixels[1200].mean() < 15


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = MomentsSink(tmp_path)
    sink.start(context())
    feed(sink, 10)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memedge.sinks.files.os.replace", full)
    with pytest.raises(SinkError, match="No space left"):
        sink.finish(summary())
    assert not list(tmp_path.glob(".*.part"))
    assert json.loads((tmp_path / "moments.json").read_text()) == {"moments": []}


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        MomentsSink(tmp_path, count=0)
    with pytest.raises(SinkError, match="has started"):
        MomentsSink(tmp_path).write(reading(0), picture(0), {})
