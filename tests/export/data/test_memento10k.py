"""Memento10k in its released form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers_sets import memento_record, memento_tree
from memedge.errors import UsageError
from memedge_export.data import open_data
from memedge_export.data.memento10k import stem
from memedge_export.errors import DataError
from memedge_export.train.feed import training_scores


def whole(root: Path, val: str = "val") -> Path:
    train = [memento_record("adult+female+singing", f"peeks-{n}_k_to", 0.7 + n / 100) for n in range(3)]
    train[2] = memento_record(
        "adult+female+singing", "peeks-2_k_to", 0.72, filename="adult+female+singing/peeks-2_k_to.mp4"
    )
    more = [memento_record("bowling", "x+y", 0.9, filename="bowling_x+y.npy", alpha=None)]
    test = [memento_record("bowling", "z", None), memento_record("bowling", "w", 0.6)]
    clips = [
        "adult-female-singing_peeks-0_k_to.mp4",
        "adult-female-singing_peeks-1_k_to.mp4",
        "adult+female+singing/peeks-2_k_to.mp4",
        "bowling_x+y.mp4",
        "bowling_z.mp4",
        "bowling_w.mp4",
    ]
    return memento_tree(root, {"train": train, val: more, "test": test}, clips)


@pytest.mark.parametrize("val", ["val", "dev"])
def test_records_with_decay_captions_and_actions(tmp_path: Path, val: str) -> None:
    data = open_data(f"memento10k:{whole(tmp_path, val)}")
    assert [(r.id, r.split, r.score) for r in data.records] == [
        ("adult-female-singing_peeks-0_k_to", "train", 0.7),
        ("adult-female-singing_peeks-1_k_to", "train", 0.71),
        ("adult-female-singing_peeks-2_k_to", "train", 0.72),
        ("bowling_x+y", "val", 0.9),
        ("bowling_w", "test", 0.6),
    ]
    assert (data.unit, data.sampling) == ("video", "S7")
    first = data.records[0]
    assert first.extra == {"alpha": -0.0016}
    assert first.labels["action"] == ("adult female singing", "singing")
    assert len(first.labels["caption"]) == 5
    assert data.records[2].path == tmp_path / "videos" / "adult+female+singing" / "peeks-2_k_to.mp4"
    assert data.records[3].path == tmp_path / "videos" / "bowling_x+y.mp4"
    assert data.records[3].extra == {}
    assert training_scores([data]).extra["alpha"].tolist() == pytest.approx([-0.0016] * 3)


def test_test_records_without_scores_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = whole(tmp_path)
    open_data(f"memento10k:{root}")
    assert "memento_test_data.json: 1 records without a score were left out" in capsys.readouterr().err
    (root / "memento_test_data.json").unlink()
    assert {r.split for r in open_data(f"memento10k:{root}").records} == {"train", "val"}


@pytest.mark.parametrize(
    "name",
    [
        "adult+female+singing/peeks-www_k_to.mp4",
        "adult-female-singing_peeks-www_k_to.mp4",
        "adult-female-singing_peeks-www_k_to.npy",
        "videos/adult+female+singing/peeks-www_k_to.mp4",
        "adult+female+singing_peeks-www_k_to.mp4",
    ],
)
def test_three_spellings_of_a_name(name: str) -> None:
    assert stem(name) == "adult-female-singing_peeks-www_k_to"


def test_dots_and_plus_signs_of_a_name_stay() -> None:
    assert stem("bowling/a.b+c.mp4") == stem("bowling_a.b+c") == "bowling_a.b+c"


def test_incomplete_trees(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder '.*videos'; expected the clips action_name\.mp4 in it"):
        open_data(f"memento10k:{tmp_path}")
    root = whole(tmp_path / "set")
    (root / "videos" / "bowling_w.mp4").unlink()
    (root / "videos" / "bowling_w.npy").write_bytes(b"an array")
    with pytest.raises(DataError, match=r"1 of 5 videos are not there, first '.*videos/bowling_w\.mp4'"):
        open_data(f"memento10k:{root}")
    (root / "memento_val_data.json").unlink()
    with pytest.raises(DataError, match=r"has no memento_val_data\.json or memento_dev_data\.json; expected it there"):
        open_data(f"memento10k:{root}")
    with pytest.raises(UsageError, match="nothing to choose"):
        open_data(f"memento10k:{root}#2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"Expected `array`, got `object`; expected a list of records|Expected `array`"),
        ('[{"mem_score": 0.5}]', r"missing required field `filename`"),
        ('[{"filename": "a_b.mp4", "mem_score": "high"}]', r"Expected `float \| null`, got `str`"),
        ('[{"filename": "a_b.mp4", "mem_score": 1.5}]', r"record 1: mem_score 1\.5; expected 0\.\.1"),
        ('[{"filename": "a_b.mp4", "mem_score": 0.5}, {"filename": "a/b.mp4", "mem_score": 0.5}]', "expected it once"),
        ("[", "cannot be read"),
    ],
)
def test_malformed_files(tmp_path: Path, content: str, message: str) -> None:
    root = whole(tmp_path)
    (root / "memento_train_data.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_data(f"memento10k:{root}")


def test_byte_order_mark_and_unscored_set(tmp_path: Path) -> None:
    root = whole(tmp_path)
    path = root / "memento_train_data.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_data(f"memento10k:{root}").records) == 5
    empty: list[dict[str, Any]] = [memento_record("a", "b", None)]
    for part in ("train", "val", "test"):
        (root / f"memento_{part}_data.json").write_text(json.dumps(empty if part == "train" else []))
    with pytest.raises(DataError, match=r"no record below .* has a mem_score"):
        open_data(f"memento10k:{root}")
