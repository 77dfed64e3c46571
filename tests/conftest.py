"""Fixtures that every test may use: shared test data where it is present, and a cache folder of the tests' own."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_DATA = _ROOT.parent / "shared" / "data"

# One thread for each numeric library: tests share a small machine, and scores must not depend on thread counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class _NeedsTorch(pytest.Module):
    """A test module of the export package where torch is absent: skipped without being imported."""

    def collect(self) -> Any:
        pytest.skip("torch is absent: the export extra is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Tests of training and export need torch; the others run without."""
    needs_torch = module_path.is_relative_to(_ROOT / "tests" / "export")
    if needs_torch and importlib.util.find_spec("torch") is None:
        return _NeedsTorch.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor write the user's cache of engine choices and plans."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of pyproject.toml."""
    return _ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data that lies beside the checkout, not in it: `../shared/data`."""
    if not _DATA.is_dir():
        pytest.skip("no ../shared/data beside the checkout")
    return _DATA


def _part(data: Path, name: str) -> Path:
    if not (data / name).is_dir():
        pytest.skip(f"no ../shared/data/{name} beside the checkout")
    return data / name


@pytest.fixture(scope="session")
def clips(shared_data: Path) -> Path:
    """Test clips with known properties, described by `clips.json`."""
    return _part(shared_data, "clips")


@pytest.fixture(scope="session")
def lnsim(shared_data: Path) -> Path:
    """Photographs with measured memorability scores."""
    return _part(shared_data, "lnsim")


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    """The clip that the project rendered itself: 20 s, 1280x720."""
    return _ROOT / "samples" / "clip" / "demo.mp4"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many tests were skipped, and why: one line for each reason, above pytest's own closing line."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section(f"{sum(reasons.values())} tests were skipped", sep="-")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:5}  {reason}")
