"""``memedge run`` with other decoders than PyAV, and ``--dry-run``."""

from __future__ import annotations

from pathlib import Path

import pytest

import helpers_gstreamer
from helpers_cli import inside, jsonl
from memedge_engines import hardware

Capture = pytest.CaptureFixture[str]
pytestmark = helpers_gstreamer.quiet


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("csi://0", "--decoder", "pyav"), "--decoder pyav does not read 'csi://0'; expected gstreamer"),
        (("test://", "--decoder", "gstreamer"), "does not read 'test://'; expected pyav"),
        (("http://u:p@h/a.mp4", "--decoder", "gstreamer"), "does not read 'http://***@h/a.mp4'; expected pyav"),
        (("-", "--decoder", "nvcodec"), "--decoder nvcodec "),
        (("camera0", "--decoder", "vlc"), "--decoder vlc; expected one of auto, pyav, gstreamer, nvcodec"),
        (("csi://0", "--from", "2"), "--from and --to belong to a file"),
        (("csi://0", "--camera-format", "nv12"), "--camera-format belongs to a USB camera"),
        (("csi://left",), "no CSI camera; expected csi://0"),
        (("gst://",), "'gst://' without a pipeline"),
        (("gstreamer://x",), "did you mean gst://?"),
        (("argus://0",), "did you mean csi://?"),
        (("camera0", "--decoder", "gstreamer", "--camera-format", "bayer"), "expected one of mjpeg, h264"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_bad_usage(capfd: Capture, tiny: Path, words: tuple[str, ...], message: str, dry: bool) -> None:
    done = inside(capfd, "run", "--bundle", tiny, "--source", *words, *(["--dry-run"] if dry else []))
    assert done.code == 2
    assert message in done.error


@pytest.mark.parametrize(
    ("name", "hint"),
    [("csi0", "csi://0"), ("csi:1", "csi://1"), ("gst:videotestsrc", "gst://"), ("v4l2src ! videoconvert", "gst://")],
)
def test_what_was_meant(capfd: Capture, tiny: Path, name: str, hint: str) -> None:
    done = inside(capfd, "run", "--bundle", tiny, "--source", name)
    assert (done.code, f"did you mean {hint}" in done.error or hint in done.error) == (1, True)


def test_nvcodecs_frames_are_not_looked_at(capfd: Capture, tiny: Path, clip: Path, tmp_path: Path) -> None:
    for flag in ("--video", "--moments"):
        words = ("--source", clip, "--decoder", "nvcodec", flag, tmp_path / "out.mp4")
        done = inside(capfd, "run", "--bundle", tiny, *words)
        assert done.code == 2
        assert f"{flag} needs frames in the host's memory" in done.error


@pytest.mark.skipif(hardware.nvidia_driver(), reason="a driver is loaded")
def test_nvcodec_without_a_driver(capfd: Capture, tiny: Path, clip: Path) -> None:
    done = inside(capfd, "run", "--bundle", tiny, "--source", clip, "--decoder", "nvcodec", "-q")
    assert done.code == 1
    assert "--decoder nvcodec cannot be used: no NVIDIA driver is loaded (fix: " in done.error


def test_dry_run_writes_and_opens_nothing(
    capfd: Capture, tiny: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = inside(
        capfd, "run", "--bundle", tiny, "--source", clip, "--jsonl", "r.jsonl", "--moments", "best", "--dry-run"
    )
    assert done.code == 0
    assert list(tmp_path.iterdir()) == []
    lines = done.out.splitlines()
    assert lines[0] == f"source {clip}: file, read by PyAV (FFmpeg)"
    assert lines[1].startswith("bundle ")
    assert "engine onnxruntime, fp32 (lowering fp32)" in lines[1]
    assert lines[2:] == ["output --jsonl: r.jsonl", "output --moments: best", "output: the live view in the terminal"]
    camera = inside(capfd, "run", "--bundle", tiny, "--source", "camera7", "--quiet", "--dry-run")
    assert camera.out.startswith("source camera7: camera, read by PyAV (FFmpeg)\n")
    assert camera.out.endswith("output: no live view (--quiet)\n")


def test_dry_run_prints_pipelines_even_where_they_cannot_run(capfd: Capture, tiny: Path) -> None:
    done = inside(
        capfd, "run", "--bundle", tiny, "--source", "csi://1?flip=2", "--camera-size", "1920x1080", "--dry-run"
    )
    assert done.code == 0
    assert "source csi://1?flip=2: camera, read by GStreamer\n" in done.out
    assert "pipeline: nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1920," in done.out
    if not hardware.jetpack():
        assert "not usable here: GStreamer " in done.out
    secret = inside(
        capfd, "run", "--bundle", tiny, "--source", "rtsp://me:geheim@host/a", "--decoder", "gstreamer", "--dry-run"
    )
    assert 'rtspsrc name=source location="rtsp://***@host/a"' in secret.out
    assert "geheim" not in secret.out + secret.err


@pytest.mark.skipif(hardware.nvidia_driver(), reason="a driver is loaded")
def test_dry_run_tells_of_the_source_before_it_fails_for_the_engine(capfd: Capture, tiny: Path, clip: Path) -> None:
    words = ("--source", clip, "--decoder", "nvcodec", "--engine", "tensorrt", "--dry-run")
    done = inside(capfd, "run", "--bundle", tiny, *words)
    assert done.code == 1
    source, why = done.out.splitlines()
    assert source == f"source {clip}: file, read by PyNvVideoCodec (NVDEC), frames in device memory"
    assert why.startswith("not usable here: no NVIDIA driver is loaded (fix: ")
    assert "tensorrt: no NVIDIA driver is loaded" in done.error


def test_a_pipeline_is_scored_to_its_end(capfd: Capture, tiny: Path, tmp_path: Path) -> None:
    helpers_gstreamer.need()
    out = tmp_path / "r.jsonl"
    pipeline = "gst://videotestsrc num-buffers=12 pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1"
    done = inside(capfd, "run", "--bundle", tiny, "--source", pipeline, "--quiet", "--no-tune", "--jsonl", out)
    assert done.code == 0
    readings, [summary] = jsonl(out)
    assert [r["frame_index"] for r in readings] == list(range(12))
    assert summary["frames_scored"] == 12
    assert readings[0]["source"] == pipeline


def test_the_same_scores_through_gstreamer(capfd: Capture, tiny: Path, clip: Path, tmp_path: Path) -> None:
    helpers_gstreamer.need()
    scores = []
    for decoder in ("pyav", "gstreamer"):
        out = tmp_path / f"{decoder}.jsonl"
        words = ("--source", clip, "--decoder", decoder, "--quiet", "--no-tune", "--jsonl", out)
        assert inside(capfd, "run", "--bundle", tiny, *words).code == 0
        scores.append([(r["time_s"], r["score"]) for r in jsonl(out)[0]])
    assert [score for _, score in scores[0]] == [score for _, score in scores[1]]
    assert [t for t, _ in scores[0]] == pytest.approx([t for t, _ in scores[1]], abs=1e-8)
    assert len(scores[0]) == 25
