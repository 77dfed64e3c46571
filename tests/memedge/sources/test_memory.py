"""Frames free their memory when they are let go, not when the garbage collector comes by."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers_video import numbered, write_video
from memedge.sources import SourceOptions, decoder, open_source


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive(kind: str) -> int:
    """Number of PyAV's objects of a class that something still holds."""
    return sum(type(thing).__name__ == kind for thing in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("rotation", [0, 90])
def test_frames_that_were_let_go_are_gone(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(60), rotation=rotation)
    gc.collect()
    source = open_source(str(path))
    for frame in source.frames():
        if frame.index == 1:
            held = [f"{type(thing).__name__}" for thing in gc.get_objects() if type(thing).__name__ == "VideoFrame"]
            assert held, "PyAV's frames can be counted"
        if frame.index == 50:
            assert alive("VideoFrame") <= 6  # this one, the next, and what the decoder hands out at once
        frame.release()


@pytest.mark.usefixtures("no_collector")
def test_a_long_list_of_files_leaves_few_decoders_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = numbered(30)
    height, width = pictures[0].shape[:2]
    path = write_video(tmp_path / "a.mp4", pictures)
    # Three closed files' pictures may wait for the collector.
    monkeypatch.setattr(decoder, "_COLLECT_BYTES", 3 * 16 * (width * height * 3 // 2))
    gc.collect()
    before = alive("VideoFrame")
    most = 0
    for _ in range(9):
        for frame in open_source(str(path), SourceOptions(from_s=0.5)).frames():
            frame.release()
        del frame
        most = max(most, alive("VideoFrame") - before)
    assert 0 < most <= 3
    gc.collect()
    assert alive("VideoFrame") == before


def test_closing_while_another_thread_decodes_never_crashes(tmp_path: Path) -> None:
    """A container closed under its decoder would take the process with it; run often enough to notice."""
    import threading

    path = write_video(tmp_path / "a.mp4", numbered(60))
    for _ in range(15):
        source = open_source(str(path))
        source.open()
        counted: list[int] = []

        def drain(source=source, counted=counted) -> None:  # type: ignore[no-untyped-def]
            for frame in source.frames():
                counted.append(frame.index)
                frame.release()

        reader = threading.Thread(target=drain)
        reader.start()
        while not counted and reader.is_alive():
            pass
        source.close()
        reader.join(10)
        assert not reader.is_alive()
        assert counted == list(range(len(counted)))
