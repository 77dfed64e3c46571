"""Tables as people and spreadsheets write them: byte order mark or none, LF or CR LF, blanks around fields, an unnamed
first column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memedge.console import status

from ..errors import DataError


@dataclass(frozen=True)
class Table:
    """Rows by column name; every cell is text without blanks around it, none is missing.

    Attributes:
        path: of the file, for messages.
        columns: names in order, without unnamed ones.
        rows: line ``n`` of the file is ``rows[n - 2]`` where no cell holds a line break.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def column(self, name: str) -> list[str]:
        """One column's cells."""
        return [row[name] for row in self.rows]

    def place(self, index: int) -> str:
        """Where row ``index`` stands, for messages."""
        return f"'{self.path}' line {index + 2}"


def read_text(path: Path) -> str:
    """The text of a file without byte order mark.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read '{path}': {error}") from None


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """A CSV file with at least the columns ``needed``.

    Raises:
        DataError: it cannot be read, a column is missing or stands there twice.
    """
    try:
        reader = csv.DictReader(read_text(path).splitlines(), skipinitialspace=True, restval="")
        rows = [{k.strip(): (v or "").strip() for k, v in row.items() if k and k.strip()} for row in reader]
        columns = [name.strip() for name in reader.fieldnames or [] if name.strip()]
    except csv.Error as error:
        raise DataError(f"cannot read '{path}': {error}") from None
    absent = [name for name in needed if name not in columns]
    if absent:
        raise DataError(f"'{path}' lacks the column {', '.join(absent)}; found {', '.join(columns) or 'none'}")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"'{path}' has the column {', '.join(twice)} twice; expected each once")
    return Table(path, tuple(columns), tuple(rows))


def below(root: Path, name: str, place: str) -> Path:
    """``root / name``; refused when it leaves ``root``.

    Raises:
        DataError: an empty name, an absolute path, or one with ``..``; ``place`` says where it stands.
    """
    path = Path(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{place}: file '{name}'; expected a name below '{root}'")
    return root / path


def tell_left_out(table: Path, count: int, what: str = "rows without a score") -> None:
    """Say how many records of a table were left out, if any."""
    if count:
        status(f"{table}: {count} {what} were left out")
