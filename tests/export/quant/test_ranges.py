from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memedge_export.errors import ExportError
from memedge_export.quant.ranges import RangeTable, graph_hash, hash_frames


def fields(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "graph_sha256": graph_hash(b"graph"),
        "method": "percentile",
        "source": "lnsim (pictures of train)",
        "frames": 512,
        "frames_sha256": hash_frames(["a", "b"]),
        "tensors": {"x": (-1.5, 2.25), "zero": (0.0, 0.0), "y": (0.0, 1e-30)},
        "magnitudes": {"x": 3.0, "zero": 0.0, "y": 2.0},
    }
    return {**found, **changes}


def test_table_survives_its_json_exactly(tmp_path: Path) -> None:
    table = RangeTable(**fields())
    assert RangeTable.decode(table.encode()) == table
    assert json.loads(table.encode())["tensors"]["y"] == [0.0, 1e-30]
    (tmp_path / "ranges.json").write_bytes(table.encode())
    assert RangeTable.load(tmp_path) == RangeTable.load(tmp_path / "ranges.json") == table
    assert table.encode() == RangeTable.decode(table.encode()).encode()


def test_zero_ranges_are_listed_and_bounds_are_symmetric() -> None:
    table = RangeTable(**fields())
    assert table.zero_ranges() == ("zero",)
    assert (table.absmax("x"), table.absmax("y")) == (2.25, 1e-30)
    with pytest.raises(ExportError, match="no tensor 'z'"):
        table.absmax("z")


def test_another_graph_is_refused() -> None:
    table = RangeTable(**fields())
    table.check(b"graph")
    with pytest.raises(ExportError, match=r"belongs to the graph .* this graph is .*\(fix: calibrate again"):
        table.check(b"graph2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2, expected 1"),
        ({"method": "mean"}, "method is 'mean', expected one of minmax, percentile, entropy"),
        ({"frames": 0}, "comes from 0 frames"),
        ({"graph_sha256": "abc"}, "graph_sha256 is 'abc'"),
        ({"tensors": {}, "magnitudes": {}}, "names no tensor"),
        ({"tensors": {"x": (0.0, float("inf"))}, "magnitudes": {"x": 1.0}}, "tensor 'x' has the range 0.0 to inf"),
        ({"tensors": {"x": (float("nan"), 1.0)}, "magnitudes": {"x": 1.0}}, "expected finite numbers"),
        ({"tensors": {"x": (1.0, 0.5)}, "magnitudes": {"x": 1.0}}, "expected low <= high"),
        ({"magnitudes": {"x": 1.0}}, "has a range or a magnitude, expected both"),
        ({"magnitudes": {"x": -1.0, "zero": 0.0, "y": 0.0}}, "magnitude -1.0"),
    ],
)
def test_what_no_calibration_writes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        RangeTable(**fields(**changes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"schema": "1"}', b"\xff\xfe"])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ExportError, match=r"r\.json cannot be read: "):
        RangeTable.decode(text, name="r.json")


def test_unknown_fields_overflow_and_missing_files_are_refused(tmp_path: Path) -> None:
    good = RangeTable(**fields()).encode()
    with pytest.raises(ExportError, match="unknown field"):
        RangeTable.decode(good.replace(b'"method"', b'"extra": 1, "method"'))
    with pytest.raises(ExportError):
        RangeTable.decode(good.replace(b"2.25", b"1e999"))
    with pytest.raises(ExportError, match=r"ranges\.json: cannot be read: .*expected a range table"):
        RangeTable.load(tmp_path)
