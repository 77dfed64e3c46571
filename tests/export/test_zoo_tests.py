"""The tests behind the zoo's table exist and cover every published system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memedge_export.models.system import system_entry, system_names


@pytest.fixture
def tables(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, dict[str, tuple[str, ...]]], set]:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    import zoo_tests

    return zoo_tests.TESTS, set(zoo_tests.NO_PUBLIC_FILES)


def test_every_system_has_a_test_in_every_column(tables: tuple) -> None:
    columns, without = tables
    ids = {"resnet18", "resnet101", *system_names()}
    for name, tests in columns.items():
        covered = {one for names in tests.values() for one in names}
        assert covered == (ids - without if name == "imported" else ids), name
    for name in without:
        entry = system_entry(name)
        assert entry is not None
        assert not entry.imports


def test_what_is_named_exists(tables: tuple, project_root: Path) -> None:
    for tests in tables[0].values():
        for node in tests:
            path, _, test = node.partition("::")
            text = (project_root / path).read_text()
            assert re.search(rf"^def {test.partition('[')[0]}\(", text, re.MULTILINE), node
