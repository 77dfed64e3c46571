"""Every name of TensorRT in our sources exists in every supported version, with these parameters.

Exceptions stand in ``tests/data/tensorrt_allowed.json``: file, name, and the reason why it is used behind a guard.
``helpers_tensorrt_names`` says how a source must call TensorRT's objects so that this test can follow them.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from fake_tensorrt import VERSIONS
from fake_tensorrt.module import recorded
from fake_tensorrt.surface import bind
from helpers_modules import ROOT, modules
from helpers_tensorrt_names import Use, attributes, uses

DUMPS = {version: recorded(version) for version in VERSIONS}
CLASSES = set().union(*(dump["classes"] for dump in DUMPS.values()))
ALLOWED: dict[str, dict[str, str]] = json.loads(
    (ROOT / "tests" / "data" / "tensorrt_allowed.json").read_text(encoding="utf-8")
)
SOURCES = {module.name: module.path for module in modules()}
USES = [use for name, path in SOURCES.items() for use in uses(path, name, CLASSES)]
# What a module object has without TensorRT's doing.
PYTHON = {"__name__", "__version__", "__file__"}
# Gone before 10.3, so that no dump has them; from the release notes of 8.x and 10.0.
GONE_BEFORE = {
    "get_binding_index", "get_binding_name", "get_binding_shape", "get_binding_dtype", "binding_is_input",
    "num_bindings", "execute_async_v2", "execute_async", "enqueueV2", "max_workspace_size", "build_engine",
    "build_cuda_engine", "set_binding_shape", "get_profile_shape", "platform_has_fast_fp16", "platform_has_fast_int8",
    "int8_calibrator", "dynamic_range", "set_dynamic_range", "algorithm_selector", "device_memory_size",
    "create_execution_context_without_device_memory", "all_shape_inputs_specified", "has_implicit_batch_dimension",
    "weight_streaming_budget", "execute_v2", "build_engine_with_config", "EXPLICIT_BATCH", "set_calibration_profile",
    "parse_with_weight_descriptors",
}  # fmt: skip


def _inherited(dump: dict[str, Any], owner: str) -> list[dict[str, Any]]:
    """A class and its bases."""
    told = dump["classes"].get(owner)
    if told is None:
        return []
    return [told, *(one for base in told.get("bases", ()) for one in _inherited(dump, base))]


def problem(use: Use, version: str) -> str:
    """Why a use does not go with a version; empty where it does."""
    dump = DUMPS[version]
    if use.owner == "module":
        there = use.name in PYTHON | dump["classes"].keys() | dump["functions"].keys() | set(dump["values"])
        return "" if there else f"no {use.name}"
    owner = use.owner.removeprefix("class ").removeprefix("value ")
    told = _inherited(dump, owner)
    if not told:
        return f"no class {owner}"
    members = {name for one in told for group in ("enum", "values", "classes") for name in one.get(group, ())}
    properties = {name: access for one in told for name, access in one.get("properties", {}).items()}
    methods = {name: overloads for one in told for name, overloads in one.get("methods", {}).items()}
    if use.name in members or (use.owner.startswith("value ") and use.name in ("name", "__members__")):
        return ""
    if use.name in properties:
        return "" if not use.stored or properties[use.name] == "rw" else f"{owner}.{use.name} is read only"
    if use.name not in methods:
        return f"no {owner}.{use.name}"
    if use.call is None or use.owner.startswith("class "):  # a method as a value, or of a base class
        return ""
    count, keywords = use.call
    if bind(methods[use.name], (None,) * count, dict.fromkeys(keywords)) is None:
        return f"{owner}.{use.name} takes {methods[use.name]}, not {count} and {list(keywords)}"
    return ""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists_in_every_version(version: str) -> None:
    bad = []
    for use in USES:
        found = problem(use, version)
        if found and use.name not in ALLOWED.get(use.file, {}):
            bad.append(f"{use.file}:{use.line}: {found} in TensorRT {version}")
    assert not bad, "\n".join(bad)


def test_exceptions_are_used_and_needed() -> None:
    wanted = {(use.file, use.name) for use in USES if any(problem(use, version) for version in VERSIONS)}
    listed = {(file, name) for file, names in ALLOWED.items() for name in names}
    assert listed <= wanted, f"no exception is needed for {sorted(listed - wanted)}"
    assert all(len(reason) > 20 for names in ALLOWED.values() for reason in names.values())


def test_the_reading_follows_our_sources() -> None:
    """What is looked for above is found at all: the objects of a build and of a run, each by its class."""
    found = {f"{use.owner}.{use.name}" for use in USES}
    build = {
        "module.Builder", "Builder.create_network", "OnnxParser.parse", "ParserError.desc", "ITensor.dtype",
        "INetworkDefinition.get_input", "IBuilderConfig.max_aux_streams", "IOptimizationProfile.set_shape",
        "ITimingCache.serialize", "Builder.build_serialized_network", "IHostMemory.nbytes",
        "Runtime.deserialize_cuda_engine", "EngineInspector.get_engine_information", "class MemoryPoolType.WORKSPACE",
    }  # fmt: skip
    run = {
        "module.Runtime", "ICudaEngine.get_tensor_mode", "ICudaEngine.get_tensor_profile_shape",
        "ICudaEngine.create_execution_context", "IExecutionContext.set_input_shape", "IExecutionContext.infer_shapes",
        "IExecutionContext.set_tensor_address", "IExecutionContext.set_device_memory",
        "IExecutionContext.execute_async_v3", "class ExecutionContextAllocationStrategy.USER_MANAGED",
    }  # fmt: skip
    assert build | run <= found, sorted((build | run) - found)


def test_no_number_stands_for_a_member() -> None:
    """Values of enumerations changed between versions: no literal may stand where a member is meant."""
    bad = [f"{u.file}:{u.line}: {u.owner}.{u.name} with a number" for u in USES if u.name == "<number>"]
    bad += [
        f"{u.file}:{u.line}: .value of {u.owner}" for u in USES if u.owner.startswith("value ") and u.name == "value"
    ]
    places = {"create_network": (0, "flags"), "set_memory_pool_limit": (0, "pool"), "set_flag": (0, "flag"),
              "clear_flag": (0, "flag"), "get_flag": (0, "flag"), "get_memory_pool_limit": (0, "pool"),
              "get_engine_information": (0, "format"), "create_execution_context": (0, "strategy")}  # fmt: skip
    for use in USES:
        if set(use.literals) & set(places.get(use.name, ())):
            bad.append(f"{use.file}:{use.line}: {use.owner}.{use.name} with a number")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", [name for name, path in SOURCES.items() if "trt" in path.read_text(encoding="utf-8")])
def test_no_name_that_is_gone_on_any_object(name: str) -> None:
    bad = [f"{name}:{line}: .{attribute}" for attribute, line in attributes(SOURCES[name]) if attribute in GONE_BEFORE]
    assert not bad, "\n".join(bad)


def _read(source: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "source.py"
    path.write_text(source, encoding="utf-8")
    found = uses(path, "source", CLASSES)
    return sorted(
        {f"{version}: {problem(use, version)}" for use in found for version in VERSIONS} - {f"{v}: " for v in VERSIONS}
    )


# Sources, and the versions that lack something of them.
WRONG: dict[str, tuple[str, str]] = {
    "removed flag": ("def f(trt, config):\n    config.set_flag(trt.BuilderFlag.FP16)", "11."),
    "later method": ("def f(trt):\n    b = trt.Builder(None)\n    b.build_engine_with_config(1, 2)", "10.3"),
    "later property": (
        "def f(trt, builder):\n    c = builder.create_builder_config()\n    c.l2_limit_for_tiling = 1",
        "10.7",
    ),
    "read only": ("def f(trt, engine):\n    engine.num_layers = 3", "10.3"),
    "arguments": (
        "def f(trt, runtime):\n    e = runtime.deserialize_cuda_engine(b'')\n    e.get_tensor_name()",
        "11.4",
    ),
    "keyword": ("def f(trt, context):\n    context.execute_async_v3(stream=1)", "10.16"),
    "field": (
        "class A:\n    def __init__(self, trt, r):\n        self._r = trt.Runtime(r)\n"
        "    def g(self):\n        self._r.deserialise(b'')",
        "10.3",
    ),
    "comprehension": ("def f(trt, parser):\n    return [e.text() for e in [parser.get_error(i) for i in b]]", "10.3"),
    "helper": ("def f(trt, engine):\n    context = need(engine.create_execution_context())\n    context.run()", "11.0"),
    "member": ("def f(trt, tensor):\n    return tensor.dtype == trt.DataType.FLOAT16", "10.3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_reading_finds_what_is_wrong(case: str, tmp_path: Path) -> None:
    source, version = WRONG[case]
    ast.parse(source)
    assert any(line.startswith(version) for line in _read(source, tmp_path)), _read(source, tmp_path)


def test_the_reading_leaves_other_objects_alone(tmp_path: Path) -> None:
    source = (
        "from .things import builder\n"
        "def f(trt, job: Job, profile: Profile):\n"
        "    profile.level, job.profile.level, builder.build(trt)\n"
        "    engine: Mine = make()\n"
        "    engine.run()\n"
        "    plan = LoadedPlan(trt, b'')\n"
        "    plan.context()\n"
    )
    assert _read(source, tmp_path) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(trt, builder):\n    builder.create_network(1 << 0)",
        "def f(trt, config):\n    config.set_flag(flag=3)",
        "def f(trt, tensor):\n    return tensor.dtype == 0",
        "def f(trt, tensor):\n    return tensor.dtype.value",
    ],
)
def test_numbers_are_found(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "source.py"
    path.write_text(source, encoding="utf-8")
    monkeypatch.setitem(globals(), "USES", uses(path, "source", CLASSES))
    with pytest.raises(AssertionError, match=r"number|value"):
        test_no_number_stands_for_a_member()
