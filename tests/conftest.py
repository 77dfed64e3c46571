"""Fixtures that every test may use: shared test data where it is present, and a cache folder of the tests' own.

`make test` spreads the tests over processes with pytest-xdist; plain `pytest` runs them in one.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_DATA = _ROOT.parent / "shared" / "data"

# Single tests of half a minute where nothing is cached yet.
_LONG = [_ROOT / "tests" / name for name in ("test_lint.py", "test_lean_py310.py")]

# One thread for each numeric library: tests share a small machine, and scores must not depend on thread counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class _NeedsTorch(pytest.Module):
    """A test module of the export package where torch is absent: skipped without being imported."""

    def collect(self) -> Any:
        pytest.skip("torch is absent: the export extra is not installed", allow_module_level=True)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, Any]:
    """pytest-xdist takes skips at one line for one skip that several processes tell of: each module names itself."""
    report = yield
    if isinstance(collector, _NeedsTorch) and isinstance(report.longrepr, tuple):
        report.longrepr = (str(collector.path), 1, report.longrepr[2])
    return report


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Tests of training and export need torch; the others run without."""
    needs_torch = module_path.is_relative_to(_ROOT / "tests" / "export")
    if needs_torch and importlib.util.find_spec("torch") is None:
        return _NeedsTorch.from_parent(parent, path=module_path)
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """What `-n auto` means: the cores that this process may use, and no more than a container grants it time for."""
    from memedge.environment import environment

    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    here = environment()
    return max(1, min(here.usable_cores, math.ceil(here.cpu_quota or here.usable_cores)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: _LONG.index(item.path) if item.path in _LONG else len(_LONG))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor write the user's cache of engine choices and plans."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="module")
def _collect_only_what_is_new() -> None:
    """A film that is closed starts the garbage collector, which beside all the objects of torch, ONNX and their like
    takes half a second each time: what is there when a test module begins is exempt.
    """
    gc.collect()
    gc.freeze()


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
