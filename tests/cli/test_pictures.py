"""Pictures of rare kinds through the command: the score is that of Pillow's pixels by onnx's reference evaluator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers_bundle import picture, reference_outputs
from helpers_cli import inside
from memedge_engines.bundle import Bundle

# Scores of the tiny bundle move by less than this for one level of difference in every pixel.
TOLERANCE = 2e-3


def save_gray16(path: Path) -> np.ndarray:
    values = (picture(3, 90, 70)[:, :, 0].astype(np.uint16) * 257) ^ 85
    Image.fromarray(values).save(path)
    with Image.open(path) as image:
        deep = np.asarray(image, np.float64)
    grey = np.rint(deep / 257).astype(np.uint8)
    return np.stack([grey] * 3, 2)


def save_exif(path: Path) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(4, 90, 70)).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
        assert turned is not None
        assert turned.size == (70, 90)
        return np.asarray(turned.convert("RGB"))


def save_as(mode: str, **options: int) -> Callable[[Path], np.ndarray]:
    def save(path: Path) -> np.ndarray:
        image = Image.fromarray(picture(5, 90, 70))
        if mode == "P":
            image = image.quantize(32)
        elif mode != "RGB":
            image = image.convert(mode)
        image.save(path, **options)
        with Image.open(path) as again:
            assert again.mode == mode
            return np.asarray(again.convert("RGB"))

    return save


def save_dot(path: Path) -> np.ndarray:
    dot = np.array([[[200, 90, 30]]], np.uint8)
    Image.fromarray(dot).save(path)
    return dot


KINDS: dict[str, tuple[str, Callable[[Path], np.ndarray]]] = {
    "grey": ("grey.png", save_as("L")),
    "grey jpeg": ("grey.jpg", save_as("L", quality=90)),
    "16-bit": ("deep.png", save_gray16),
    "16-bit tiff": ("deep.tif", save_gray16),
    "cmyk": ("ink.jpg", save_as("CMYK", quality=90)),
    "cmyk tiff": ("ink.tif", save_as("CMYK")),
    "palette": ("palette.png", save_as("P")),
    "palette gif": ("palette.gif", save_as("P")),
    "bilevel": ("bits.png", save_as("1")),
    "alpha": ("alpha.png", save_as("RGBA")),
    "exif": ("turned.jpg", save_exif),
    "one pixel": ("dot.png", save_dot),
    "no suffix": ("plain", lambda path: save_as("RGB")(path.with_suffix(".png"))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rare_pictures(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    name, save = KINDS[kind]
    rgb = save(tmp_path / name)
    if not (tmp_path / name).exists():
        (tmp_path / name).with_suffix(".png").rename(tmp_path / name)
    done = inside(capfd, "run", "--source", tmp_path / name, "--bundle", tiny, "-q", "--jsonl", "-")
    assert done.code == 0, done.err
    reading, last = map(json.loads, done.out.splitlines())
    expected = float(reference_outputs(Bundle.open(tiny), rgb)["model.score"].reshape(-1)[0])
    assert reading["score"] == pytest.approx(expected, abs=TOLERANCE)
    assert (reading["frame_index"], reading["time_s"]) == (0, 0.0)
    assert last["summary"]["video_score"]["short_term"] == pytest.approx(reading["score"])
    assert last["summary"]["frames_seen"] == 1


def test_the_kinds_do_not_all_score_the_same(tiny: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny)
    scores = []
    for name, save in KINDS.values():
        scores.append(float(reference_outputs(bundle, save(tmp_path / name))["model.score"].reshape(-1)[0]))
    upright = np.rot90(save_exif(tmp_path / "turned.jpg"))
    lying = float(reference_outputs(bundle, np.ascontiguousarray(upright))["model.score"].reshape(-1)[0])
    turned = float(reference_outputs(bundle, save_exif(tmp_path / "turned.jpg"))["model.score"].reshape(-1)[0])
    assert abs(lying - turned) > 5 * TOLERANCE  # the orientation shows in the score
    assert np.ptp(scores) > 20 * TOLERANCE
