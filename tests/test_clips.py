"""`memedge run --source F --jsonl R` for every kind of film: one line per decoded frame, right time, right picture.

The films are those that lie beside the checkout, and films of the same kinds that the tests make. What is right is said
by plain PyAV (count, times), swscale with its accurate flags, Pillow (rotation) and onnx's reference evaluator.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers_bundle import evaluate, make_frame_bundle, picture, pillow_tensor
from helpers_cli import inside, jsonl
from helpers_media import swscale_rgb
from helpers_video import write_video
from memedge_engines.bundle import Bundle
from memedge_engines.frame import ColorMatrix, ColorRange

Capture = pytest.CaptureFixture[str]
# Pictures within one level stay below; the other colour matrix, or the picture lying on its side, do not.
TOLERANCE = 1e-3
BT601, BT709 = ColorMatrix.BT601, ColorMatrix.BT709


@dataclass
class Facts:
    """What a film is, told by plain PyAV: seconds of every frame, and upright RGB of some."""

    times: list[float]
    pictures: dict[int, NDArray[np.uint8]]


def facts(path: Path, picks: Callable[[int], bool], matrix: ColorMatrix, full: bool, turns: int) -> Facts:
    """``turns``: quarter turns counterclockwise that make the stored picture upright."""
    found = Facts([], {})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        first: int | None = None
        assert stream.time_base is not None
        for number, frame in enumerate(container.decode(stream)):
            assert frame.pts is not None
            first = frame.pts if first is None else first
            found.times.append(float((frame.pts - first) * stream.time_base))
            if picks(number):
                rgb = swscale_rgb(frame, matrix, ColorRange.FULL if full else ColorRange.LIMITED)
                found.pictures[number] = np.ascontiguousarray(np.rot90(rgb, turns))
    return found


def reference(bundle: Bundle, rgb: NDArray[np.uint8]) -> float:
    node = bundle.manifest.nodes[0]
    contract = node.inputs[0].preprocess
    assert contract is not None
    result = evaluate(bundle.read(node.files["fp32"]), frames=pillow_tensor(rgb, contract))
    return float(result["score"].reshape(-1)[0])


def s7(times: list[float], duration_s: float) -> list[int]:
    """One frame a second from 0 s over the whole film: the one nearest to each tick."""
    return [int(np.argmin(np.abs(np.array(times) - tick))) for tick in range(int(np.ceil(duration_s - 1e-9)))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("clips") / "bundle")


def check(
    path: Path,
    bundle: Bundle,
    capfd: Capture,
    out: Path,
    *,
    matrix: ColorMatrix,
    full: bool = False,
    turns: int = 0,
    times: list[float] | None = None,
    every: bool = True,
) -> list[dict[str, Any]]:
    """Run the command and compare every line; ``every``: score all frames, else one a second (lines stay)."""
    words = ["run", "--source", path, "--bundle", bundle.path, "--jsonl", out, "-q", "--no-tune"]
    done = inside(capfd, *words, *([] if every else ["--rate", "1"]))
    assert done.code == 0, done.err
    readings, (summary,) = jsonl(out)
    assert "summary" in json.loads(out.read_text().splitlines()[-1])
    scored = [r["frame_index"] for r in readings if r["score"] is not None]
    middle = scored[len(scored) // 2]
    told = facts(path, lambda number: number in (0, middle), matrix, full, turns)

    assert [r["frame_index"] for r in readings] == list(range(len(told.times)))
    np.testing.assert_allclose([r["time_s"] for r in readings], told.times, atol=2e-6)
    if times is not None:
        np.testing.assert_allclose([r["time_s"] for r in readings], times, atol=1e-3)
    assert summary["frames_seen"] == len(readings)
    assert summary["frames_scored"] == len(scored) == (len(readings) if every else len(scored))
    assert {r["source"] for r in readings} == {str(path)}
    for number, rgb in told.pictures.items():
        assert readings[number]["score"] == pytest.approx(reference(bundle, rgb), abs=TOLERANCE), number
    ticks = s7(told.times, summary["duration_s"])
    assert set(ticks) <= set(scored)
    mean = float(np.mean([readings[i]["score"] for i in ticks]))
    assert summary["video_score"]["short_term"] == pytest.approx(mean, abs=1e-9)
    assert f"short_term {mean:.4f}" in done.out
    return readings


# Films made here ----------------------------------------------------------------------------------------------------


def frames(count: int = 24, width: int = 160, height: int = 120) -> list[NDArray[np.uint8]]:
    """Pictures with level stripes, so that the score tells lying from standing."""
    shade = (0.6 + 0.4 * np.sin(np.arange(height) * (np.pi / 6)))[:, None, None]
    return [(picture(i // 4, width, height) * shade).astype(np.uint8) for i in range(count)]


def made(folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """(film, arguments of check)."""
    if kind == "h264":
        return write_video(folder / "a.mp4", frames(30), rate=12), {"matrix": BT601}
    if kind == "h264 hd":
        film = write_video(folder / "a.mp4", frames(6, 1280, 720), rate=3, options={"preset": "ultrafast"})
        return film, {"matrix": BT709}
    if kind == "sound":
        return write_video(folder / "a.mp4", frames(), rate=12, audio=True), {"matrix": BT601}
    if kind == "mjpeg":
        film = write_video(folder / "a.avi", frames(), rate=12, codec="mjpeg", pix_fmt="yuvj420p", colors=(5, 2))
        return film, {"matrix": BT601, "full": True}
    if kind == "vp9":
        film = write_video(folder / "a.webm", frames(), rate=12, codec="libvpx-vp9", options={"deadline": "realtime"})
        return film, {"matrix": BT601}
    if kind == "odd":
        return write_video(folder / "a.mp4", frames(24, 159, 119), rate=12, codec="mpeg4"), {"matrix": BT601}
    if kind == "rotated":  # stored lying, shown upright after a quarter turn counterclockwise
        lying = [np.ascontiguousarray(np.rot90(p, -1)) for p in frames()]
        return write_video(folder / "a.mp4", lying, rate=12, rotation=90), {"matrix": BT601, "turns": 1}
    if kind == "variable rate":
        gaps = np.random.default_rng(5).integers(2000, 13000, 24)
        stamps = [0, *np.cumsum(gaps)[:-1].tolist()]
        film = write_video(folder / "a.mp4", frames(), rate=30, stamps=stamps)
        return film, {"matrix": BT601, "times": [stamp / 90000 for stamp in stamps]}
    if kind == "grey":
        grey = [np.repeat(p.mean(2, keepdims=True), 3, 2).astype(np.uint8) for p in frames()]
        return write_video(folder / "a.mp4", grey, rate=12, pix_fmt="gray"), {"matrix": BT601}
    if kind == "tagged":
        return write_video(folder / "a.mp4", frames(), rate=12, colors=(1, 2), pix_fmt="yuvj420p"), {
            "matrix": BT709, "full": True,
        }  # fmt: skip
    raise AssertionError(kind)


KINDS = (
    "h264", "h264 hd", "sound", "mjpeg", "vp9", "odd", "rotated", "variable rate", "grey", "tagged",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_made_film(tmp_path: Path, bundle: Bundle, capfd: Capture, kind: str) -> None:
    path, arguments = made(tmp_path, kind)
    check(path, bundle, capfd, tmp_path / "r.jsonl", **arguments)


def test_a_rotated_film_does_not_score_as_it_lies(tmp_path: Path, bundle: Bundle) -> None:
    """The check above can fail: the lying picture has another score."""
    path, _ = made(tmp_path, "rotated")
    upright = facts(path, lambda n: n == 0, BT601, False, 1).pictures[0]
    assert upright.shape == (120, 160, 3)
    lying = facts(path, lambda n: n == 0, BT601, False, 0).pictures[0]
    assert abs(reference(bundle, upright) - reference(bundle, lying)) > 3 * TOLERANCE


def test_black_and_repeated_frames_are_scored_and_flagged(tmp_path: Path, bundle: Bundle, capfd: Capture) -> None:
    shown = [*frames(8), *[np.zeros((120, 160, 3), np.uint8)] * 9, *frames(8)]
    lossless = {"qp": "0", "preset": "ultrafast"}
    path = write_video(tmp_path / "a.mp4", shown, rate=8, pix_fmt="yuv444p", options=lossless)
    readings = check(path, bundle, capfd, tmp_path / "r.jsonl", matrix=BT601)
    assert [r["frame_index"] for r in readings if "black" in r["flags"]] == list(range(8, 17))
    assert set(range(9, 17)) <= {r["frame_index"] for r in readings if "repeated" in r["flags"]}
    assert all(r["score"] is not None for r in readings)
    words = ["run", "--source", path, "--bundle", bundle.path, "-q", "--window", "0.7", "--jsonl", tmp_path / "s.jsonl"]
    assert inside(capfd, *words, "--skip-black").code == 0
    skipped, _ = jsonl(tmp_path / "s.jsonl")
    assert skipped[16]["score"] is not None
    assert skipped[16]["rolling"] is None  # nothing but black in the window
    assert skipped[16]["coverage"] == 0


# The films beside the checkout --------------------------------------------------------------------------------------

SHARED: dict[str, dict[str, Any]] = {
    "pan_low_640x360.mp4": {},
    "zoom_high_1280x720.mp4": {},
    "pan_1080p_24fps_7s.mp4": {},
    "cuts_low_high_low_1280x720.mp4": {},
    "cuts_4shots_20s_audio_1280x720.mp4": {},
    "mjpeg_640x480.avi": {"full": True, "matrix": BT601},
    "vp9_1280x720.webm": {},
    "odd_853x480_mpeg4.mp4": {"matrix": BT601},
    "vertical_rotated.mp4": {"turns": -1},
    "vfr_1280x720.mp4": {},
    "gray_640x360.mp4": {},
    "gray400_640x360.mp4": {},
    "tripod_640x360.mp4": {},
    "fade_freeze_640x360.mp4": {},
}


def test_no_shared_clip_is_left_out(clips: Path) -> None:
    listed = json.loads((clips / "clips.json").read_text())["clips"]
    assert {entry["clip"] for entry in listed} == set(SHARED)


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_clip(clips: Path, tmp_path: Path, bundle: Bundle, capfd: Capture, name: str) -> None:
    (entry,) = (e for e in json.loads((clips / "clips.json").read_text())["clips"] if e["clip"] == name)
    times = entry.get("frame_times") or [n / entry["fps"] for n in range(entry["frames"])]
    arguments = {"matrix": BT709, "times": times, **SHARED[name]}
    # The large ones are scored once a second: every frame is decoded and has its line all the same.
    every = entry["width"] < 1000
    readings = check(clips / name, bundle, capfd, tmp_path / "r.jsonl", every=every, **arguments)
    assert len(readings) == entry["frames"]
    if name.startswith("fade"):
        black = [r["time_s"] for r in readings if "black" in r["flags"]]
        assert black
        assert 3.0 <= min(black) <= 3.5 + 1 / 24
        assert 4.2 - 1 / 24 <= max(black) <= 4.7
        assert {round(t * 24) for t in black} == set(range(round(min(black) * 24), round(max(black) * 24) + 1))


def test_the_rotated_clip_has_its_size_when_drawn(clips: Path, tmp_path: Path, bundle: Bundle, capfd: Capture) -> None:
    words = ["run", "--source", clips / "vertical_rotated.mp4", "--bundle", bundle.path, "-q", "--to", "0.2"]
    assert inside(capfd, *words, "--video", tmp_path / "o.mp4").code == 0
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.width * 1280 == stream.height * 720
        assert sum(1 for _ in container.decode(stream)) == 6
