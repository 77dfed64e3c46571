"""VideoMem in its released forms."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from helpers_sets import VIDEOMEM_HEADER, videomem_captions, videomem_table, videomem_tree
from memedge.errors import UsageError
from memedge_export.data import open_data, videomem
from memedge_export.errors import DataError


def tree(root: Path, dev: int = 40, test: int = 0) -> Path:
    """Both sets with captions; the files are empty, since none is opened. Numbers are interleaved."""
    numbers = list(range(1, dev + test + 1))
    parts = {"test-set": numbers[3::4][:test]}
    parts["dev-set"] = [n for n in numbers if n not in parts["test-set"]]
    for part, chosen in parts.items():
        (root / part / "sources").mkdir(parents=True)
        names = sorted(f"video{n}.webm" for n in chosen)
        for name in names:
            (root / part / "sources" / name).write_bytes(name.encode())
        scored = [f"{n},{0.4 + int(n[5:-5]) / 250:.3f},{30 + int(n[5:-5])},{int(n[5:-5]) / 1000:.3f},12" for n in names]
        if part == "dev-set" or test:
            videomem_table(root / part / "ground-truth" / f"ground-truth_{part}.csv", scored)
    videomem_captions(
        root / "dev-set" / "dev-set_video-captions.txt", sorted(f"video{n}.webm" for n in parts["dev-set"])
    )
    videomem_captions(root / "test-set" / "test-set_videos-captions.txt", [f"video{n}.webm" for n in parts["test-set"]])
    return root


def test_both_targets_responses_and_captions(tmp_path: Path) -> None:
    data = open_data(f"videomem:{tree(tmp_path)}")
    assert (data.unit, data.targets, data.sampling) == ("video", ("short_term", "long_term"), "S7")
    record = next(r for r in data.records if r.id == "video10.webm")
    assert record.path == tmp_path / "dev-set" / "sources" / "video10.webm"
    assert (record.score, record.targets) == (0.44, {"short_term": 0.44, "long_term": 0.01})
    assert record.responses == {"short_term": 40, "long_term": 12}
    assert record.labels == {"caption": ("a slow pan over video10",)}
    assert [r.id for r in data.records[:3]] == ["video1.webm", "video10.webm", "video11.webm"]  # sorted as text
    # Without test scores, development is divided by a hash of the name.
    assert {r.split for r in data.records} == {"train", "val", "test"}


def test_with_test_scores_development_gives_train_and_val(tmp_path: Path) -> None:
    root = tree(tmp_path, 80, 20)
    data = open_data(f"videomem:{root}")
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [65, 15, 20]
    assert all(r.path.parent.parent.name == "test-set" for r in data.split("test"))
    assert data.records == open_data(f"videomem:{root}").records
    assert data.split("test")[0].labels["caption"] == (f"a slow pan over {data.split('test')[0].id[:-5]}",)
    videomem_table(root / "test-set" / "ground-truth" / "ground-truth_test-set.csv", ["video1.webm,0.5,1,0.5,1"])
    with pytest.raises(DataError, match=r"video1\.webm is in the development and in the test table"):
        open_data(f"videomem:{root}")


def test_subset_of_the_most_annotated(tmp_path: Path) -> None:
    data = open_data(f"videomem:{tree(tmp_path, 80, 20)}")
    chosen = videomem.most_annotated(data, 5)
    assert len(chosen.records) == 85
    ranked = sorted((r.responses["short_term"] for r in data.split("test")), reverse=True)
    assert sorted((r.responses["short_term"] for r in chosen.split("test")), reverse=True) == ranked[:5]
    assert videomem.TEST_SUBSET == 500
    assert open_data(f"videomem:{tmp_path}#test500").records == data.records


def test_division_of_ones_own(tmp_path: Path) -> None:
    root = tree(tmp_path, 6)
    (root / "own.csv").write_text("video,split\n1,train\nvideo2,val\nvideo4.webm,test\n")
    data = open_data(f"videomem:{root}#split=own.csv")
    assert {r.id: r.split for r in data.records} == {
        "video1.webm": "train", "video2.webm": "val", "video4.webm": "test"
    }  # fmt: skip
    (root / "own.pkl").write_bytes(pickle.dumps((["video1"], ["video2"])))
    with pytest.raises(DataError, match="is a pickle, which can run programs and is never read"):
        open_data(f"videomem:{root}#split=own.pkl")
    with pytest.raises(DataError, match=r"there is no '.*none\.csv'; expected a CSV file with columns video,split"):
        open_data(f"videomem:{root}#split=none.csv")
    for rows, message in {
        "1,dev": "split 'dev'; expected train, val, test",
        "77,train": r"line 2: video77\.webm which has no scores",
        "1,train\nvideo1,val": r"line 3: video1\.webm for the second time",
        "clip,train": "video 'clip'",
    }.items():
        (root / "own.csv").write_text(f"video,split\n{rows}\n")
        with pytest.raises(DataError, match=message):
            open_data(f"videomem:{root}#split=own.csv")
    with pytest.raises(UsageError, match=r"videomem:DIR#test5; expected test500 or split=FILE\.csv"):
        open_data(f"videomem:{root}#test5")


def test_course_package_with_bare_numbers_and_empty_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Dev-set" / "Sources").mkdir(parents=True)
    for number in (7494, 12):
        (tmp_path / "Dev-set" / "Sources" / f"video{number}.webm").write_bytes(b"")
    rows = ["7494,0.5,36,,", "video12,0.7,,0.5,12", "8000,,,,"]
    videomem_table(tmp_path / "Dev-set" / "Ground-truth" / "ground-truth.csv", rows)
    data = open_data(f"videomem:{tmp_path}")
    assert [(r.id, dict(r.targets), dict(r.responses)) for r in data.records] == [
        ("video7494.webm", {"short_term": 0.5}, {"short_term": 36}),
        ("video12.webm", {"short_term": 0.7, "long_term": 0.5}, {"long_term": 12}),
    ]
    assert data.records[0].value("long_term") is None
    assert "1 rows without a score were left out" in capsys.readouterr().err


def test_release_without_long_term_scores(tmp_path: Path) -> None:
    root = tree(tmp_path, 3)
    header = ",".join(VIDEOMEM_HEADER.split(",")[:3])
    rows = ["video1.webm,0.5,36", "video2.webm,0.6,36"]
    videomem_table(root / "dev-set" / "ground-truth" / "ground-truth_dev-set.csv", rows, header)
    assert open_data(f"videomem:{root}").targets == ("short_term",)


def test_missing_videos_are_counted_and_named(tmp_path: Path) -> None:
    root = tree(tmp_path, 9)
    for number in (2, 3):
        (root / "dev-set" / "sources" / f"video{number}.webm").unlink()
    with pytest.raises(DataError, match=r"2 of 9 videos are not there, first '.*video2\.webm', '.*video3\.webm'"):
        open_data(f"videomem:{root}")
    assert len(open_data(f"videomem:{root}", missing="drop").records) == 7


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("video1.webm a title", r"line 1: 'video1\.webm a title'; expected videoN\.webm, a TAB and its title"),
        ("clip.webm\ta-title", "expected videoN"),
    ],
)
def test_malformed_captions(tmp_path: Path, row: str, message: str) -> None:
    root = tree(tmp_path, 2)
    (root / "dev-set" / "dev-set_video-captions.txt").write_text(row)
    with pytest.raises(DataError, match=message):
        open_data(f"videomem:{root}")


def test_malformed_annotations_and_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'many' annotations; expected a number"):
        videomem.read(videomem_tree(tmp_path / "a", 1, ["video1.webm,0.5,many,0.5,12"]))
    root = tree(tmp_path / "b", 2)
    (root / "dev-set" / "ground-truth" / "ground-truth_dev-set.csv").write_text("video,score\n")
    with pytest.raises(DataError, match="lacks the column short-term_memorability; found video, score"):
        videomem.read(root)


@pytest.mark.parametrize("name", ["video7494.webm", "video7494", "7494", " 7494 ", "VIDEO7494.WEBM"])
def test_three_spellings(name: str) -> None:
    assert videomem.video_name(name) == "video7494.webm"


def test_other_names_are_none() -> None:
    assert videomem.video_name("video7494.mp4") is None
    assert videomem.video_name("") is None
