"""Pictures against Pillow."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_video import numbered
from memedge.errors import PictureError
from memedge.sources import SourceOptions, open_source
from memedge.sources.picture import load_picture
from memedge_engines.frame import PixelFormat

RGB = numbered(2, 60, 40)[1]


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "LAB"])
def test_modes_equal_pillows_convert(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB)
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
        assert image is not None
    else:
        image = image.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))))
    path = save(tmp_path / ("a.tif" if mode in ("CMYK", "LAB") else "a.png"), image)
    with Image.open(path) as reference:
        want = np.asarray(reference.convert("RGB"))
    assert np.array_equal(load_picture(path), want)


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(8)
    path = save(tmp_path / "p.png", image, transparency=0)
    assert np.array_equal(load_picture(path), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path / "c.jpg", Image.fromarray(RGB).convert("CMYK"), quality=95)
    with Image.open(path) as reference:
        assert reference.mode == "CMYK"
        assert np.array_equal(load_picture(path), np.asarray(reference.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = (np.arange(64 * 48, dtype=np.uint32) * 65535 // (64 * 48 - 1)).astype(np.uint16).reshape(48, 64)
    for name in ("g.png", "g.tif"):
        path = save(tmp_path / name, Image.fromarray(values))
        got = load_picture(path)
        assert np.abs(got[..., 0] - values / 257).max() <= 0.5
        assert np.array_equal(got[..., 0], got[..., 2])


def test_sixteen_bit_rgb(tmp_path: Path) -> None:
    deep = RGB.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0)
    path = tmp_path / "d.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert np.array_equal(load_picture(path), RGB)


def test_floats_and_wide_integers_are_clipped(tmp_path: Path) -> None:
    path = save(tmp_path / "f.tif", Image.fromarray(np.array([[-5.0, 0.0, 100.7, 999.0, np.nan]], np.float32)))
    assert load_picture(path)[0, :, 0].tolist() == [0, 0, 100, 255, 0]
    path = save(tmp_path / "i.tif", Image.fromarray(np.array([[-5, 0, 32768, 70000]], np.int32)))
    assert load_picture(path)[0, :, 0].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = Image.fromarray(RGB)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "e.png", stored, exif=exif)
    assert np.array_equal(load_picture(path), RGB)


def test_no_draft_mode_and_jpeg_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(RGB), quality=80)
    with Image.open(path) as reference:
        assert np.array_equal(load_picture(path), np.asarray(reference))


def test_first_picture_of_an_animation(tmp_path: Path) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    path = save(tmp_path / "a.gif", first.quantize(16), save_all=True, append_images=[second.quantize(16)])
    with Image.open(path) as reference:
        want = np.asarray(reference.convert("RGB"))
    source = open_source(str(path))
    frames = list(source.frames())
    assert len(frames) == 1
    assert np.array_equal(frames[0].host_planes()[0].reshape(40, 60, 3), want)


def test_one_pixel(tmp_path: Path) -> None:
    path = save(tmp_path / "one.png", Image.new("RGB", (1, 1), (1, 2, 3)))
    info = open_source(str(path)).open()
    assert (info.kind, info.width, info.height, info.frames, info.live) == ("picture", 1, 1, 1, False)
    frame = next(open_source(str(path)).frames())
    assert (frame.format, frame.pts_s, frame.duration_s, frame.index) == (PixelFormat.RGB24, 0.0, 0.0, 0)
    assert frame.host_planes()[0].tolist() == [[1, 2, 3]]


def test_a_picture_is_known_by_its_first_bytes_where_the_name_says_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "upload", Image.fromarray(RGB), format="PNG")
    assert open_source(str(path)).open().kind == "picture"


def huge_png(path: Path, width: int, height: int) -> Path:
    """A PNG whose header promises a huge picture; there is no picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = struct.pack(">I", 1) + b"IDAT" + b"x" + struct.pack(">I", zlib.crc32(b"IDATx"))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data)
    return path


@pytest.mark.parametrize("size", [(10_001, 10_000), (50_000, 50_000)])
def test_huge_pictures_are_refused_from_the_header(tmp_path: Path, size: tuple[int, int]) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(PictureError, match=f"{size[0]}x{size[1]} pixels; the limit is 100000000 pixels"):
            load_picture(huge_png(tmp_path / "h.png", *size))
    assert not caught
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_can_be_set(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(RGB))
    with pytest.raises(PictureError, match="60x40 pixels; the limit is 2399"):
        open_source(str(path), SourceOptions(pixel_limit=2399)).open()
    assert load_picture(path, 2400).shape == (40, 60, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif"])
def test_truncated_pictures(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / name, Image.fromarray(rng.integers(0, 255, (80, 80, 3), dtype=np.uint8)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PictureError, match=r"a\.\w+: (damaged or truncated|cannot be read|not a picture)"):
        load_picture(path)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "t.jpg").write_text("hello")
    (tmp_path / "e.png").write_bytes(b"")
    with pytest.raises(PictureError, match="not a picture that Pillow can read"):
        load_picture(tmp_path / "t.jpg")
    with pytest.raises(PictureError, match="empty"):
        load_picture(tmp_path / "e.png")
    with pytest.raises(PictureError, match="no such file"):
        load_picture(tmp_path / "missing.png")
    with pytest.raises(PictureError, match="a folder"):
        load_picture(tmp_path)


def test_a_damaged_exif_block_leaves_the_pixels(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    path = tmp_path / "x.png"
    path.write_bytes(buffer.getvalue())
    assert np.array_equal(load_picture(path), RGB)
