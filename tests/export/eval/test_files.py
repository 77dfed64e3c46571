"""The files of an evaluation, read back with other tools."""

from __future__ import annotations

import base64
import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_eval import write_clips
from memedge.errors import UsageError
from memedge_export.data.records import DataSet, Record
from memedge_export.eval import matrix, page, plots, predictions, text
from memedge_export.eval.metrics import evaluate
from memedge_export.eval.outputs import Outputs, write
from memedge_export.eval.parts import Part
from memedge_export.eval.report import Measured, Model, Report
from memedge_export.eval.thumbnails import thumbnail

NAME = '<b>&"odd"$_1.png'


def part_of(folder: Path, count: int = 30, name: str = "nature") -> Part:
    """Pictures of rising brightness with scores; the model is right but for the first and the last."""
    records = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (320, 200), (number * 8, 90, 90)).save(path)
        records.append(Record(NAME if number == 0 else f"{number}.png", path, number / count, "test"))
    human = np.arange(count) / count
    guess = human * 0.5 + 0.25
    guess[[0, -1]] = guess[[-1, 0]]
    part = Part(DataSet(name, tuple(records)), name, "test", records, list(range(count)), {"short_term": human})
    part.predicted = {"one": {"short_term": guess}, "two, int8": {"short_term": guess[::-1].copy()}}
    return part


def report_of(*parts: Part) -> Report:
    labels = list(dict.fromkeys(label for part in parts for label in part.predicted))
    models = tuple(
        Model(label=label, kind="bundle", model="resnet-s", name="n", sha256=label, engine="e", precision="fp32",
              targets=("short_term",))
        for label in labels
    )  # fmt: skip
    results = tuple(
        Measured(model=label, data=part.name, split=part.split, target=target, unit=part.data.unit,
                 figures=evaluate(part.models(target)[label][part.scored(target)], human[part.scored(target)]))
        for part in parts for target, human in part.human.items() for label in part.predicted
    )  # fmt: skip
    return Report(created="2026-01-01T00:00:00Z", resamples=1000, seed=0, models=models, results=results)


class Page(HTMLParser):
    """Collects what a browser would show and load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_holds_the_worst_and_the_best_and_loads_nothing(tmp_path: Path) -> None:
    part = part_of(tmp_path)
    html = page.page(report_of(part), [part], count=2).decode()
    found = Page(html)
    assert found.open == []
    assert page.BANNER in found.words
    assert not {"script", "link", "iframe", "a"} & {tag for tag, _ in found.tags}
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    pictures = [a for tag, a in found.tags if tag == "img"]
    first = [a["alt"] for a in pictures[:4]]  # one over, one under (the only swapped ones), two at best
    assert first == [NAME, "29.png", "1.png", "2.png"]
    assert "human 0.000 (rank 30)predicted 0.733 (rank 1)rank difference -29" in found.words
    for a in pictures:
        kind, _, data = str(a["src"]).partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert (image.size, image.format) == ((240, 150), "JPEG")


def test_a_thumbnail_of_a_video_is_its_middle_frame(tmp_path: Path) -> None:
    write_clips(tmp_path, 1)
    record = Record("0.mkv", tmp_path / "0.mkv", 0.5, "test")
    uri = thumbnail(record, "video")
    assert uri is not None
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        level = float(np.asarray(image).mean())
    wanted = 255 * (0.2 + 0.3 * np.sin(14 / 3))  # frame 14 of 28; limited range and noise cost a few levels
    assert level == pytest.approx(max(wanted, 0), abs=12)
    assert thumbnail(Record("x", tmp_path / "none.png", 0.5, "test"), "picture") is None


def test_predictions_are_written_record_by_record(tmp_path: Path) -> None:
    part = part_of(tmp_path, 5)
    part.human["short_term"][1] = np.nan
    part.skipped[2] = "damaged"
    for found in part.predicted.values():
        found["short_term"][2] = np.nan
    rows = list(csv.DictReader(io.StringIO(predictions.to_csv([part]).decode())))
    assert list(rows[0]) == ["data", "id", "split", "target", "human", "one", "two, int8"]
    assert [row["id"] for row in rows] == [NAME, *(f"{n}.png" for n in range(1, 5))]
    assert (rows[1]["human"], rows[2]["one"]) == ("", "")
    assert float(rows[3]["one"]) == pytest.approx(part.models("short_term")["one"][3], abs=1e-6)


def test_a_run_file_is_one_whole_run(tmp_path: Path) -> None:
    part = part_of(tmp_path, 4)
    with pytest.raises(UsageError, match="found 2: one on nature, short_term; two, int8 on nature"):
        predictions.to_run_file([part])
    del part.predicted["two, int8"]
    rows = list(csv.reader(io.StringIO(predictions.to_run_file([part]).decode())))
    assert [row[0] for row in rows] == [NAME, "1.png", "2.png", "3.png"]
    assert [float(row[1]) for row in rows] == pytest.approx(part.models("short_term")["one"], abs=1e-6)
    assert predictions.to_run_file([part], 0.5).decode().splitlines()[1].endswith(",0.5")
    part.predicted["one"]["short_term"][3] = np.nan
    with pytest.raises(UsageError, match=r"'3\.png' has none"):
        predictions.to_run_file([part])


def test_the_matrix_as_text_csv_and_picture(tmp_path: Path) -> None:
    first, second = part_of(tmp_path), part_of(tmp_path, name="other, set")
    del second.predicted["one"]
    report = report_of(first, second)
    found = matrix.matrices(report)
    assert [(m.models, m.sets) for m in found] == [(("one", "two, int8"), ("nature test", "other, set test"))]
    rows = list(csv.DictReader(io.StringIO(matrix.to_csv(found).decode())))
    assert (rows[0]["other, set test"], rows[0]["nature test n"]) == ("", "30")
    assert float(rows[1]["other, set test"]) == pytest.approx(report.results[2].figures.spearman, abs=1e-6)
    assert "-0." in list(matrix.lines(found))[3]
    pytest.importorskip("matplotlib", reason="matplotlib is absent")
    for data, least in (
        (plots.heat_map(found, Path("m.png")), 400),
        (plots.scatter(report, [first, second], Path("s.png")), 900),
    ):
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "PNG"
            assert image.width > least
    assert plots.scatter(report, [first, second], Path("s.svg")).startswith(b"<?xml")


def test_lines_say_which_model_ranks_better(tmp_path: Path) -> None:
    from memedge_export.eval.metrics import difference
    from memedge_export.eval.report import Compared

    part = part_of(tmp_path)
    report = report_of(part)
    one, two = (part.models("short_term")[label] for label in ("one", "two, int8"))
    for a, b, first, second, said in (
        (two, one, "two, int8", "one", "'one' ranks better"),
        (one, two, "one", "two, int8", "'one' ranks better"),
        (one, one, "one", "one", "do not tell them apart"),
    ):
        compared = Compared(first=first, second=second, data="nature", split="test", target="short_term",
                            difference=difference(a, b, part.human["short_term"]))  # fmt: skip
        whole = Report(**{**{f: getattr(report, f) for f in report.__struct_fields__}, "comparisons": (compared,)})
        (line,) = (line for line in text.lines(whole) if " minus " in line)
        assert said in line


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"scatter": "a.gif"}, r"--scatter .*a\.gif'; expected a name that ends in \.png"),
        ({"save": "a.json"}, r"\.eval\.json"),
        ({"page": "none/a.html"}, "lies in .*none', which is not there"),
        ({"predictions": "."}, "is a folder"),
        ({"predictions": "a.csv", "run_file": "a.csv"}, "--predictions and --run-file have the same path"),
        ({"matrix": ("a.csv", "a.csv")}, "have the same path"),
        ({"confidence": 1.0}, "--confidence is a number for every row of --run-file"),
        ({"page_count": 0}, "--page-count 0"),
    ],
)
def test_what_would_fail_later_fails_first(outputs: dict[str, object], message: str, tmp_path: Path) -> None:
    def absolute(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(absolute(v) for v in value)
        return tmp_path / value if isinstance(value, str) else value

    with pytest.raises(UsageError, match=message):
        Outputs(**{name: absolute(value) for name, value in outputs.items()}).check()  # type: ignore[arg-type]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_of(tmp_path, 5)
    target = tmp_path / "best.html"
    target.write_text("old")

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "thumbnail", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(Outputs(predictions=tmp_path / "p.csv", page=target), report_of(part), [part])
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.glob("*.csv")) == ["p.csv"]
    assert not list(tmp_path.glob(".*"))
