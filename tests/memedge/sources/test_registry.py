from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memedge import sources
from memedge.errors import SourceError, UsageError
from memedge.sources import SourceOptions, expand, label, open_source
from memedge.sources.synthetic import SyntheticSource


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_is_its_media_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.JPG", "c.mkv", "notes.txt", ".hidden.mp4", "inner/d.mp4", "x.mp4.part")
    assert [Path(p).name for p in expand(str(tmp_path))] == ["a.JPG", "b.mp4", "c.mkv"]


def test_globs(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.mp4", "c.txt", "inner/d.mp4", "[odd].mp4")
    assert [Path(p).name for p in expand(str(tmp_path / "*.mp4"))] == ["[odd].mp4", "a.mp4", "b.mp4"]
    assert [Path(p).name for p in expand(str(tmp_path / "**" / "?.mp4"))] == ["a.mp4", "b.mp4", "d.mp4"]
    assert expand(str(tmp_path / "[odd].mp4")) == [str(tmp_path / "[odd].mp4")]
    with pytest.raises(SourceError, match="1 matches, no videos or pictures"):
        expand(str(tmp_path / "*.txt"))
    with pytest.raises(SourceError, match="0 matches"):
        expand(str(tmp_path / "*.avi"))


def test_what_is_no_path_is_itself() -> None:
    for uri in ("camera0", "camera12", "/dev/video3", "-", "rtsp://host/a", "http://h/a.mp4?x=*", "test://"):
        assert expand(uri) == [uri]


def test_a_folder_without_media(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    for call in (expand, open_source):
        with pytest.raises(SourceError, match="a folder without videos or pictures"):
            call(str(tmp_path))


def test_missing_paths_with_a_hint(tmp_path: Path) -> None:
    touch(tmp_path, "holiday.mp4")
    with pytest.raises(SourceError, match=r"did you mean .*holiday\.mp4"):
        expand(str(tmp_path / "hoilday.mp4"))
    with pytest.raises(SourceError, match="no such file; did you mean camera0"):
        expand("camra0")
    with pytest.raises(SourceError, match=r"no such file or folder$"):
        expand("/nonexistent/really/not")


def test_a_folder_opens_when_it_holds_one_file(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    assert open_source(str(tmp_path)).open().width == 5
    touch(tmp_path, "b.png")
    with pytest.raises(SourceError, match="a folder with 2"):
        open_source(str(tmp_path))


def test_file_addresses(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a b.png")
    info = open_source(f"file://{tmp_path}/a%20b.png").open()
    assert (info.width, info.label) == (5, str(tmp_path / "a b.png"))


@pytest.mark.parametrize(("uri", "meant"), [("rstp://host/x", "rtsp://"), ("htp://host/x", "http://")])
def test_unknown_schemes(uri: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        open_source(uri)
    with pytest.raises(UsageError, match=r"unknown scheme 'gopher://'.*rtsp://"):
        open_source("gopher://host")


def plugin(uri: str, options: SourceOptions) -> SyntheticSource:
    return SyntheticSource([(0.0, np.zeros((2, 2, 3), np.uint8))], label=uri)


def not_a_source(uri: str, options: SourceOptions) -> str:
    return uri


def test_other_packages_add_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "made_up_plugin", module)
    points = [
        EntryPoint("drone", "made_up_plugin:plugin", "memedge.sources"),
        EntryPoint("broken", "made_up_plugin:nothing", "memedge.sources"),
        EntryPoint("wrong", "made_up_plugin:not_a_source", "memedge.sources"),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    assert open_source("drone://7").open().label == "drone://7"
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_source("broken://7")
    with pytest.raises(SourceError, match="made str; expected a Source"):
        open_source("wrong://7")
    with pytest.raises(UsageError, match="did you mean drone://"):
        open_source("drome://7")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@cam.local:554/stream?channel=1", "rtsp://***@cam.local:554/stream?channel=1"),
        ("rtsp://secret@cam.local/", "rtsp://***@cam.local/"),
        ("rtsp://user:se@cr/et@cam.local/a", "rtsp://***@cam.local/a"),
        ("rtsp://cam.local/user=admin&password=secret&channel=1", "rtsp://cam.local/user=***&password=***&channel=1"),
        ("rtsp://cam.local/user=admin_password=secret_channel=1", "rtsp://cam.local/user=***"),
        ("https://h/v.mp4?access_token=secret&t=3", "https://h/v.mp4?access_token=***&t=3"),
        ("https://h/v.mp4?X-Amz-Signature=secret&apikey=secret", "https://h/v.mp4?X-Amz-Signature=***&apikey=***"),
        ("https://h/live@home/v.mp4", "https://h/live@home/v.mp4"),
        ("rtsp://cam.local/a", "rtsp://cam.local/a"),
        ("/home/me@work/user=1.mp4", "/home/me@work/user=1.mp4"),
        ("camera0", "camera0"),
        ("-", "-"),
    ],
)
def test_labels_hide_credentials(uri: str, shown: str) -> None:
    assert label(uri) == shown
    assert "secret" not in label(uri)


def test_exported_names() -> None:
    assert all(hasattr(sources, name) for name in sources.__all__)


def test_the_package_is_light_to_import() -> None:
    code = "import sys, memedge.sources; print([m for m in ('av', 'PIL', 'cv2', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
