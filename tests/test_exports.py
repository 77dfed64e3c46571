"""What `import memedge` and `import memedge_engines` offer is what the documents name, and it is all there."""

from __future__ import annotations

import importlib
import inspect

import pytest

DOCUMENTED = {
    "memedge": {"MemedgeError", "Reading", "Score", "Scorer", "__version__", "load", "stream"},
    "memedge_engines": {
        "BackendUnavailable",
        "Bundle",
        "BundleError",
        "EngineError",
        "Executor",
        "ExecutorError",
        "Frame",
        "FrameError",
        "Manifest",
        "MemedgeError",
        "Outputs",
        "PreprocessError",
        "Ticket",
    },
}


@pytest.mark.parametrize("package", sorted(DOCUMENTED))
def test_all_is_what_the_documents_name(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == DOCUMENTED[package]
    assert len(module.__all__) == len(set(module.__all__))


@pytest.mark.parametrize(
    "name", [f"{package}.{name}" for package, names in DOCUMENTED.items() for name in sorted(names)]
)
def test_every_name_resolves_and_is_described(name: str) -> None:
    package, _, attribute = name.partition(".")
    value = getattr(importlib.import_module(package), attribute)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"{name} has no docstring"
    assert attribute in dir(importlib.import_module(package))


def test_errors_share_one_root() -> None:
    import memedge.errors
    import memedge_engines.errors

    for module in (memedge.errors, memedge_engines.errors):
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, Exception) and value.__module__.startswith("memedge"):
                assert issubclass(value, memedge.MemedgeError)


def test_parameters_that_callers_rely_on() -> None:
    import memedge

    load = inspect.signature(memedge.load).parameters
    assert {name: p.default for name, p in load.items()} == {
        "bundle": None,
        "engine": "auto",
        "precision": "auto",
        "max_batch": 1,
    }
    stream = inspect.signature(memedge.stream).parameters
    assert list(stream)[:4] == ["source", "scorer", "window_s", "rate_hz"]
    assert all(stream[name].default is None for name in ("scorer", "window_s", "rate_hz"))


def test_a_reading_has_exactly_the_documented_fields() -> None:
    import memedge

    assert set(memedge.Reading.__struct_fields__) == {
        "bundle", "complete", "coverage", "engine", "flags", "frame_index", "latency_ms", "outputs", "percentile",
        "precision", "rolling", "score", "source", "staleness_s", "targets", "time_s", "wall_time",
    }  # fmt: skip


def test_a_misspelt_name_is_an_attribute_error() -> None:
    import memedge

    with pytest.raises(AttributeError, match="lode"):
        memedge.lode  # noqa: B018


def test_version_is_the_distributions() -> None:
    from importlib.metadata import PackageNotFoundError, version

    import memedge

    try:
        installed = version("memedge")
    except PackageNotFoundError:
        pytest.skip("memedge runs from the source tree, not installed")
    assert memedge.__version__ == installed
