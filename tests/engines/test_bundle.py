"""Bundle on disk: opening, hashes, damage of every kind, and writing that is whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers_bundle import edit_manifest, make_frame_bundle, make_fused_bundle
from memedge_engines import bundle as bundles
from memedge_engines import choice, golden
from memedge_engines.bundle import Bundle
from memedge_engines.errors import BundleError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_frame_bundle(tmp_path_factory.mktemp("bundle") / "original", lowerings=("fp32", "cpu")).path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


def test_opens_by_folder_and_by_manifest(original: Path) -> None:
    by_folder, by_file = Bundle.open(original), Bundle.open(original / "manifest.json")
    assert by_folder.path == by_file.path == original
    assert by_folder.hash == by_file.hash
    assert len(by_folder.hash) == 64
    assert by_folder.lowerings() == ("fp32", "cpu")
    assert {entry.file for entry in by_folder.entries()} == {"model.onnx", "model.cpu.onnx", "golden.npz"}
    assert "tiny-frame" in repr(by_folder)


def test_common_lowerings_of_several_nodes(tmp_path: Path) -> None:
    assert make_fused_bundle(tmp_path / "fused").lowerings() == ("fp32",)


def test_verify_files_names_each(original: Path) -> None:
    seen: list[str] = []
    Bundle.open(original).verify_files(seen.append)
    assert sorted(seen) == ["golden.npz", "model.cpu.onnx", "model.onnx"]


def test_a_copy_is_the_same_bundle(original: Path, folder: Path) -> None:
    assert Bundle.open(folder).hash == Bundle.open(original).hash


def test_read_only_bundle_is_enough(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        bundle = Bundle.open(folder)
        bundle.verify_files()
        for engine in choice.first(bundle).engines.values():
            engine.close()
    finally:
        folder.chmod(0o755)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such folder") as caught:
        Bundle.open(tmp_path / "nonesuch")
    assert caught.value.fix


@pytest.mark.parametrize("kind", ["empty folder", "plain file", "text file called manifest"])
def test_what_is_no_bundle(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "empty folder":
        path.mkdir()
    else:
        path.write_text("text")
    with pytest.raises(BundleError, match=r"has no manifest\.json|no such folder"):
        Bundle.open(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["model.onnx", "model.cpu.onnx", "golden.npz"])
def test_missing_file_is_named_at_opening(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"lacks '{name}'") as caught:
        Bundle.open(folder)
    assert caught.value.fix == "copy the whole folder again"


@pytest.mark.parametrize("damage", [cut, alter, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["model.onnx", "model.cpu.onnx", "golden.npz"])
def test_damaged_file_is_never_used(folder: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(folder / name)
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=f"{name}' was altered or cut short"):
        bundle.verify_files()
    precision = {"model.onnx": "fp32", "model.cpu.onnx": "int8"}
    with pytest.raises(BundleError, match=f"{name}' was altered or cut short"):
        golden.read(bundle) if name == "golden.npz" else choice.first(bundle, "onnxruntime", precision[name])


def test_a_file_altered_after_it_was_read_is_noticed(folder: Path) -> None:
    bundle = Bundle.open(folder)
    bundle.verify_files()
    alter(folder / "model.onnx")
    stamp = (folder / "model.onnx").stat().st_mtime_ns + 1_000_000
    os.utime(folder / "model.onnx", ns=(stamp, stamp))
    with pytest.raises(BundleError, match="was altered"):
        bundle.verify_files()


def test_a_file_that_vanishes_after_opening(folder: Path) -> None:
    bundle = Bundle.open(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot read .*model\.onnx': No such file"):
        choice.first(bundle, "onnxruntime", "fp32")


def test_truncated_manifest(folder: Path) -> None:
    cut(folder / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
        Bundle.open(folder)


def test_newer_schema(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(schema=2))
    with pytest.raises(BundleError, match="manifest schema 2; this memedge reads 1"):
        Bundle.open(folder)


def test_manifest_too_large(folder: Path) -> None:
    with open(folder / "manifest.json", "ab") as file:
        file.truncate(17 << 20)
    with pytest.raises(BundleError, match="a manifest has at most"):
        Bundle.open(folder)


def test_altered_manifest_is_another_bundle(original: Path, folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(name="other"))
    assert Bundle.open(folder).hash != Bundle.open(original).hash


# Writing ----------------------------------------------------------------------------------------------------------


def parts(path: Path) -> tuple[Bundle, dict[str, bytes]]:
    bundle = Bundle.open(path)
    return bundle, {entry.file: bundle.read(entry) for entry in bundle.entries()}


def test_write_gives_what_was_read(original: Path, tmp_path: Path) -> None:
    bundle, files = parts(original)
    written = bundles.write(tmp_path / "deep" / "new", bundle.manifest, files)
    assert written.hash == bundle.hash
    written.verify_files()
    assert json.loads((written.path / "manifest.json").read_bytes())["schema"] == 1
    assert (written.path.stat().st_mode & 0o777) == 0o755
    assert os.listdir(tmp_path / "deep") == ["new"]


def test_write_refuses_what_is_there(original: Path, folder: Path, tmp_path: Path) -> None:
    bundle, files = parts(original)
    with pytest.raises(BundleError, match="exists already") as caught:
        bundles.write(folder, bundle.manifest, files)
    assert "--force" in (caught.value.fix or "")
    (folder / "model.onnx").unlink()
    assert bundles.write(folder, bundle.manifest, files, force=True).hash == bundle.hash
    assert sorted(os.listdir(tmp_path)) == ["copy"]


@pytest.mark.parametrize("force", [False, True])
def test_write_never_replaces_what_is_no_bundle(original: Path, tmp_path: Path, force: bool) -> None:
    bundle, files = parts(original)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(BundleError, match="is not a bundle; it is left as it is"):
        bundles.write(photos, bundle.manifest, files, force=force)
    with pytest.raises(BundleError, match="is not a bundle; it is left as it is"):
        bundles.write(photos / "holiday.jpg", bundle.manifest, files, force=force)
    assert (photos / "holiday.jpg").read_bytes() == b"precious"


def test_write_checks_files_against_the_manifest(original: Path, tmp_path: Path) -> None:
    bundle, files = parts(original)
    with pytest.raises(BundleError, match="manifest names"):
        bundles.write(tmp_path / "a", bundle.manifest, {k: v for k, v in files.items() if k != "model.onnx"})
    with pytest.raises(BundleError, match="manifest names"):
        bundles.write(tmp_path / "a", bundle.manifest, {**files, "more.bin": b""})
    with pytest.raises(BundleError, match=r"hash of 'model\.onnx'"):
        bundles.write(tmp_path / "a", bundle.manifest, {**files, "model.onnx": b"other"})
    assert os.listdir(tmp_path) == []


def test_write_that_fails_leaves_nothing(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, files = parts(original)
    real, calls = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        calls.append(self.name)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match=r"cannot write .*No space left on device"):
        bundles.write(tmp_path / "new", bundle.manifest, files)
    assert os.listdir(tmp_path) == []


def test_write_into_a_file_is_an_error(original: Path, tmp_path: Path) -> None:
    bundle, files = parts(original)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="cannot write"):
        bundles.write(tmp_path / "file" / "bundle", bundle.manifest, files)
