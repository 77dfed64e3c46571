"""MediaEval's feature files of VideoMem, every trap in them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from memedge.errors import UsageError
from memedge_export.data.videomem_features import NAMES, read_feature
from memedge_export.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    features = tmp_path / "dev-set" / "features"
    rng = np.random.default_rng(0)

    def put(folder: str, name: str, text: str) -> None:
        (features / folder).mkdir(parents=True, exist_ok=True)
        (features / folder / name).write_text(text)

    put("C3D", "video3.txt", "".join(f"{v:.8f} " for v in rng.dirichlet(np.ones(101))))
    put("HMP", "video3.txt", "1:0.250000 82:0.500000 6075:0.250000 \n")
    put("LBP", "video3-0.txt", " ".join(f"{v:.8f}" for v in np.full(122, 1 / 122)))
    put("LBP", "video3-56.txt", "0.5 0.25 0.25")
    put("LBP", "video3-112.txt", "0:0.5 121:0.5")
    put("HOG", "video3-0.txt", "0.25 0.5 0.75 ")
    put("InceptionV3", "video3-56.txt", "0:0.125 999:0.5\n")
    put("ColorHistogram", "video3-0.txt", "0:10 255:3\n1:7\n254:9\n")
    (features / "ORB").mkdir()
    (features / "ORB" / "video3-0.p").write_bytes(pickle.dumps([1, 2]))
    aesthetic = "aesthetic_visual_features/aesthetic_feat_dev-set_"
    values = np.arange(109.0)
    put(f"{aesthetic}mean", "video3.txt", ",".join(f"{v:.6f}" for v in values))
    put(f"{aesthetic}median", "video3.txt", ",".join(f"{2 * v:.6f}" for v in values) + "\n")
    return tmp_path


def test_numbers_of_a_video(root: Path) -> None:
    c3d = read_feature(root, "C3D", "video3.webm")
    assert (c3d.shape, c3d.dtype) == ((101,), np.float32)
    assert c3d.sum() == pytest.approx(1, abs=1e-5)
    assert read_feature(root, "aesthetic_mean", "video3")[106] == 106
    assert read_feature(root, "aesthetic_median", "3")[1] == 2


def test_hmp_bins_count_from_one(root: Path) -> None:
    hmp = read_feature(root, "HMP", "3")
    assert hmp.shape == (6075,)
    assert {int(i): float(hmp[i]) for i in np.flatnonzero(hmp)} == {0: 0.25, 81: 0.5, 6074: 0.25}


def test_features_of_frames(root: Path) -> None:
    assert read_feature(root, "LBP", "3", frame=0) == pytest.approx(np.full(122, 1 / 122), abs=1e-7)
    short = read_feature(root, "LBP", "3", frame=56)
    assert (short[:3].tolist(), short[3:].any(), short.shape) == ([0.5, 0.25, 0.25], False, (122,))
    assert np.flatnonzero(read_feature(root, "LBP", "3", frame=112)).tolist() == [0, 121]
    assert read_feature(root, "HOG", "3").tolist() == [0.25, 0.5, 0.75]
    inception = read_feature(root, "InceptionV3", "3", frame=56)
    assert (inception.shape, np.flatnonzero(inception).tolist()) == ((1000,), [0, 999])
    color = read_feature(root, "ColorHistogram", "3")
    assert color.shape == (3, 256)
    assert (color[0, 0], color[0, 255], color[1, 1], color[2, 254], color.sum()) == (10, 3, 7, 9, 29)


def test_folder_names_of_the_test_set(root: Path) -> None:
    folder = root / "test-set" / "features" / "Aesthetics" / "aesthetics_mean"
    folder.mkdir(parents=True)
    (folder / "video4.txt").write_text(",".join(["0.5"] * 109))
    assert read_feature(root, "aesthetic_mean", "4", "test-set").tolist() == [0.5] * 109


def test_pickles_are_refused(root: Path) -> None:
    assert "ORB" not in NAMES
    with pytest.raises(DataError, match="ORB features are Python pickles, which can run programs"):
        read_feature(root, "ORB", "3")


@pytest.mark.parametrize(
    ("feature", "text", "message"),
    [
        ("C3D", "0.5 0.5", r"2 numbers; expected 101 numbers"),
        ("HMP", "0:0.5", r"bin 0; expected 6075 numbers or bins 1 to 6075"),
        ("HMP", "6076:0.5", "bin 6076"),
        ("HMP", "4:0.5 4:0.5", "names a bin twice"),
        ("HMP", "4:half", "expected numbers, or pairs such as 7:0.25"),
        ("HMP", "4:nan", "not finite"),
        ("HMP", "4:0.5\n5:0.5", "has 2 lines; expected 1"),
        ("HMP", "", "has 0 lines"),
    ],
)
def test_malformed_files(root: Path, feature: str, text: str, message: str) -> None:
    (root / "dev-set" / "features" / feature / "video3.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_feature(root, feature, "3")


def test_what_is_not_there(root: Path) -> None:
    with pytest.raises(DataError, match=r"no '.*features/C3D/video9\.txt'; expected the released feature files"):
        read_feature(root, "C3D", "9")
    with pytest.raises(UsageError, match="no feature 'InceptionV3-Preds' of VideoMem; expected one of C3D, HMP"):
        read_feature(root, "InceptionV3-Preds", "3")
    with pytest.raises(UsageError, match=r"frame 84; expected .* frame 0, 56, 112"):
        read_feature(root, "LBP", "3", frame=84)
