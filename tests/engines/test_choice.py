"""Engine choice: order, precision, what is skipped, what is timed and what is remembered."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers_bundle import VARIANTS, edit_manifest, make_frame_bundle
from memedge_engines import backends, cache, choice, hardware
from memedge_engines.backends.base import Availability, Backend, Engine, EngineOptions
from memedge_engines.backends.synthetic import SyntheticBackend
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate
from memedge_engines.errors import BackendUnavailable, EngineError
from memedge_engines.manifest import Node


class Fake(SyntheticBackend):
    """A synthetic back end under another name, with its own speed and faults."""

    def __init__(self, name: str, lowerings: Sequence[str] = ("cpu", "fp32"), **settings: Any) -> None:
        self.name, self.lowerings = name, tuple(lowerings)
        self.gpu = bool(settings.pop("gpu", False))
        self.unavailable: str = settings.pop("unavailable", "")
        self.refuses: tuple[str, ...] = settings.pop("refuses", ())
        self.extra = {key: str(value) for key, value in settings.items()}
        self.opened: list[Engine] = []

    def availability(self) -> Availability:
        if self.unavailable:
            return Availability(False, self.unavailable, "install it")
        return Availability(True, version="1", devices=("fake",))

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if lowering in self.refuses:
            raise EngineError(f"engine {self.name}: refuses {lowering}")
        engine = super()._open(bundle, node, lowering, dataclasses.replace(options, extra=self.extra))
        engine.name = self.name
        self.opened.append(engine)
        return engine


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("choice") / "bundle", lowerings=("fp32", "cpu"))


def use(monkeypatch: pytest.MonkeyPatch, *fakes: Backend) -> None:
    by_name = {fake.name: fake for fake in fakes}
    monkeypatch.setattr(backends, "names", lambda: list(by_name))
    monkeypatch.setattr(backends, "get", lambda name: by_name[name])


def chosen(bundle: Bundle, *arguments: Any) -> str:
    found = choice.first(bundle, *arguments)
    for engine in found.engines.values():
        engine.close()
    return str(found.candidate)


# What is tried, and in which order ---------------------------------------------------------------------------------


def test_auto_means_int8_then_float_on_a_cpu_and_fp16_on_a_gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [Candidate("a", "cpu"), Candidate("a", "fp32"), Candidate("b", "cpu"), Candidate("b", "fp32")]
    use(monkeypatch, Fake("a"), Fake("b"))
    assert choice.candidates(bundle) == both
    assert choice.candidates(bundle, "b") == both[2:]
    assert choice.candidates(bundle, "auto", "fp32") == [both[1], both[3]]
    assert choice.candidates(bundle, "auto", "int8") == [both[0], both[2]]
    gpu = Fake("gpu", ("trt-int8", "trt-fp16", "fp32"), gpu=True)
    use(monkeypatch, gpu, Fake("a"))
    monkeypatch.setattr(Bundle, "lowerings", lambda self: ("fp32", "cpu", "trt-int8", "trt-fp16"))
    tolerance = {"fp32": 0.1, "cpu": 0.1, "trt-int8": 0.1, "trt-fp16": 0.1}
    passed = dataclass_like(bundle, tolerance)
    order = ["gpu int8", "gpu fp16", "gpu fp32", "a int8", "a fp32"]
    assert [str(c) for c in choice.candidates(passed)] == order
    # A lowering without recorded golden scores did not pass the gate: auto leaves it, asking for it by name does not.
    failed = dataclass_like(bundle, {"fp32": 0.1, "cpu": 0.1, "trt-fp16": 0.1})
    assert [str(c) for c in choice.candidates(failed)] == order[1:]
    assert [str(c) for c in choice.candidates(failed, "gpu", "int8")] == ["gpu int8"]


def dataclass_like(bundle: Bundle, tolerance: dict[str, float]) -> Bundle:
    """The bundle with other recorded tolerances."""
    import msgspec

    golden = msgspec.structs.replace(bundle.manifest.golden, tolerance=tolerance)
    return Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, golden=golden), bundle.hash)


def test_first_usable_and_why_the_others_were_skipped(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, second = Fake("broken", unavailable="no such chip"), Fake("second", refuses=("cpu",))
    use(monkeypatch, broken, second)
    found = choice.first(bundle)
    assert str(found.candidate) == "second fp32"
    assert not found.remembered
    assert [(str(s.candidate), s.reason, s.fix) for s in found.skipped] == [
        ("broken int8", "no such chip", "install it"),
        ("broken fp32", "no such chip", "install it"),
        ("second int8", "refuses cpu", None),
    ]
    assert set(found.engines) == {"model"}
    assert found.engines["model"].precision == "fp32"
    found.engines["model"].close()


def test_nothing_usable_lists_every_reason(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("one", unavailable="no chip"), Fake("two", unavailable="no driver"))
    with pytest.raises(
        EngineError, match="no engine can run bundle 'tiny-frame' here: one: no chip; two: no driver"
    ) as e:
        choice.first(bundle)
    assert e.value.fix == "memedge doctor"


def test_an_engine_asked_for_by_name_is_an_error_when_unusable(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("one", unavailable="no chip"), Fake("two"))
    with pytest.raises(BackendUnavailable, match="engine one: no chip") as caught:
        choice.first(bundle, "one")
    assert caught.value.fix == "install it"


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onnxruntim", "auto", r"no engine 'onnxruntim'; did you mean 'onnxruntime'\?"),
        ("auto", "int4", r"no precision 'int4'; did you mean 'int8'\? there are auto, fp32, fp16, int8"),
        ("auto", "", "no precision ''; there are auto"),
        ("auto", "fp16", "bundle 'tiny-frame' has no fp16 lowering; it has fp32, int8"),
        ("onnxruntime", "fp16", "has no fp16 lowering"),
        ("onnxruntime-cuda", "int8", "engine onnxruntime-cuda does not run the int8 lowering of bundle 'tiny-frame'"),
    ],
)
def test_names_that_cannot_be_meant(bundle: Bundle, engine: str, precision: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        choice.first(bundle, engine, precision)


def test_engines_opened_before_a_failure_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = VARIANTS["fused"](tmp_path / "bundle")
    fake = Fake("fake", ("fp32",))
    real = Fake._open

    def third_fails(self: Fake, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if node.name == "fuse":
            raise EngineError("engine fake: out of memory")
        return real(self, bundle, node, lowering, options)

    monkeypatch.setattr(Fake, "_open", third_fails)
    use(monkeypatch, fake)
    with pytest.raises(EngineError, match="out of memory"):
        choice.first(fused)
    assert len(fake.opened) == 2
    assert all(engine._closed for engine in fake.opened)


def test_synthetic_is_never_chosen_but_may_be_named(bundle: Bundle) -> None:
    assert all(c.backend != "synthetic" for c in choice.candidates(bundle))
    assert chosen(bundle, "synthetic", "fp32") == "synthetic fp32"


def test_auto_imports_no_library_that_it_does_not_need(bundle: Bundle) -> None:
    script = (
        "import sys\n"
        "from memedge_engines import choice\n"
        "from memedge_engines.bundle import Bundle\n"
        "found = choice.first(Bundle.open(sys.argv[1]))\n"
        "print(found.candidate, [n for n in ('openvino', 'tensorrt', 'onnx', 'torch', 'cv2') if n in sys.modules])\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle.path)], capture_output=True, text=True, env=env, check=True
    )
    if not hardware.nvidia_driver():
        assert done.stdout.split("[")[0].strip() == "onnxruntime int8"
    assert done.stdout.strip().endswith("[]")


# Timing ------------------------------------------------------------------------------------------------------------


def test_tune_finds_the_fastest_and_first_uses_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast, broken = Fake("slow", delay_s=0.02), Fake("fast"), Fake("broken", unavailable="no chip")
    use(monkeypatch, slow, fast, broken)
    assert chosen(bundle) == "slow int8"
    told: list[str] = []
    timings = choice.tune(bundle, count=5, progress=told.append)
    assert [str(t.candidate) for t in timings] == ["fast int8", "slow int8", "broken int8", "broken fp32"]
    assert timings[1].median_ms is not None
    assert timings[1].median_ms >= 20.0
    assert timings[0].runs == timings[1].runs == 5
    assert timings[2].line() == "broken int8: not usable: no chip (fix: install it)"
    assert timings[0].line().startswith("fast int8: median ")
    assert "opening fast int8" in told
    assert "slow int8: run 5/5" in told
    assert all(engine._closed for fake in (slow, fast) for engine in fake.opened[-1:])
    found = choice.first(bundle)
    assert (str(found.candidate), found.remembered) == ("fast int8", True)
    found.engines["model"].close()


def test_tune_times_what_auto_would_run_on_each_engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("a", refuses=("cpu",)), Fake("b"))
    timed = [str(t.candidate) for t in choice.tune(bundle, count=5) if t.median_ms is not None]
    assert sorted(timed) == ["a fp32", "b int8"]


def test_rounds_are_interleaved_and_their_order_turns(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("a"), Fake("b"), Fake("c"))
    steps = [text for text in choice.tuning(bundle, count=6) if ": run " in text]
    by_round = [steps[i : i + 3] for i in range(0, len(steps), 3)]
    assert len(by_round) == 6
    for group in by_round:
        assert sorted(text[0] for text in group) == ["a", "b", "c"]
    assert {group[0][0] for group in by_round} == {"a", "b", "c"}


def test_an_engine_that_fails_while_running_drops_out(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    # Run 1..4 fill in the golden inputs and warm up; the failure comes in the timed rounds.
    use(monkeypatch, Fake("frail", fail_on=8), Fake("sound"))
    timings = choice.tune(bundle, count=6)
    assert [(str(t.candidate), t.runs) for t in timings] == [("sound int8", 6), ("frail int8", 0)]
    assert "run 8 failed" in timings[1].reason


def test_budget_ends_long_measurements(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("slow", delay_s=0.01))
    [timing] = choice.tune(bundle, count=1000, budget_s=0.0)
    assert timing.runs == 5


def test_closing_the_steps_closes_engines_and_remembers_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake("a")
    use(monkeypatch, fake)
    steps = choice.tuning(bundle)
    while ": run 2/" not in next(steps):
        pass
    steps.close()
    assert all(engine._closed for engine in fake.opened)
    assert choice.remembered(bundle) is None


def test_naming_an_engine_remembers_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("a"), Fake("b"))
    choice.tune(bundle, "b", count=5)
    assert choice.remembered(bundle) is None


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_dataflow_can_be_timed_on_real_engines(tmp_path: Path, variant: str) -> None:
    timings = choice.tune(VARIANTS[variant](tmp_path / "bundle"), count=5)
    timed = [t for t in timings if t.median_ms is not None]
    assert {t.candidate.backend for t in timed} >= {"onnxruntime"}
    assert all(t.median_ms <= t.p90_ms for t in timed if t.median_ms is not None and t.p90_ms is not None)


# Memory ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A device on which the second of two engines is remembered as the faster one."""
    use(monkeypatch, Fake("first", delay_s=0.005), Fake("second"))
    choice.tune(bundle, count=5)
    assert chosen(bundle) == "second int8"
    return bundle


def test_a_choice_is_for_one_bundle_precision_and_thread_count(tuned: Bundle, tmp_path: Path) -> None:
    other = make_frame_bundle(tmp_path / "other", name="other", lowerings=("fp32", "cpu"))
    assert chosen(other) == "first int8"
    assert chosen(tuned, "auto", "fp32") == "first fp32"
    assert chosen(tuned, "auto", "auto", EngineOptions(threads=3)) == "first int8"
    assert chosen(tuned, "first") == "first int8"


def test_new_library_versions_and_devices_are_measured_anew(tuned: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(choice, "library_versions", lambda: {"openvino": "9999"})
        assert chosen(tuned) == "first int8"
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "device_key", lambda: "another machine with the same home")
        assert chosen(tuned) == "first int8"
    assert chosen(tuned) == "second int8"


def test_a_remembered_engine_that_is_gone_is_skipped(tuned: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Fake("first"), Fake("second", unavailable="was removed"))
    found = choice.first(tuned)
    assert (str(found.candidate), found.remembered) == ("first int8", False)
    assert found.skipped[0].reason == "was removed"
    found.engines["model"].close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"key": 1}', '{"key": {}, "value": []}', "\x00\xff", "[" * 50_000]
)
def test_a_corrupt_cache_is_ignored(tuned: Bundle, own_cache: Path, text: str) -> None:
    [file] = (own_cache / "engines").glob("*.json")
    file.write_text(text, encoding="latin-1")
    assert chosen(tuned) == "first int8"
    assert choice.all_remembered() == []


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"backend": 3, "lowering": "cpu"},
        {"backend": "second", "lowering": "x"},
        {"backend": "gone", "lowering": "cpu"},
    ],
)
def test_a_remembered_value_that_makes_no_sense(tuned: Bundle, own_cache: Path, value: dict[str, Any]) -> None:
    [file] = (own_cache / "engines").glob("*.json")
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "value": value}))
    assert chosen(tuned) == "first int8"


def test_a_cache_that_cannot_be_written_costs_nothing_but_memory(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "file" / "cache"))
    use(monkeypatch, Fake("first", delay_s=0.005), Fake("second"))
    assert str(choice.tune(bundle, count=5)[0].candidate) == "second int8"
    assert chosen(bundle) == "first int8"
    assert "cannot write to" in cache.status()
    assert choice.all_remembered() == []


def test_cache_is_bounded_and_atomic(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_ENTRIES", 5)
    for number in range(9):
        assert cache.store("engines", {"n": number}, {"value": number})
        newest = next((own_cache / "engines").glob("*.json"))
        assert newest.exists()
    names = sorted(os.listdir(own_cache / "engines"))
    assert len(names) == 5
    assert all(name.endswith(".json") and not name.startswith(".") for name in names)
    assert cache.load("engines", {"n": 8}) == {"value": 8}
    cache.forget("engines", {"n": 8})
    cache.forget("engines", {"n": 8})
    assert cache.load("engines", {"n": 8}) is None
    assert cache.status() == ""


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "own"))
    assert cache.folder() == tmp_path / "own"
    monkeypatch.delenv("MEMEDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "memedge"
    # The XDG specification: relative paths are ignored.
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.folder() == tmp_path / ".cache" / "memedge"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == tmp_path / "Library" / "Caches" / "memedge"


def test_library_versions_come_from_package_metadata() -> None:
    import onnxruntime

    found = choice.library_versions()
    assert onnxruntime.__version__ in (found.get("onnxruntime"), found.get("onnxruntime-gpu"))


def test_edited_bundle_is_another_bundle(tuned: Bundle, tmp_path: Path) -> None:
    copy = make_frame_bundle(tmp_path / "copy", lowerings=("fp32", "cpu"))
    assert chosen(copy) == "second int8", "a copy is the same bundle"
    edit_manifest(copy.path, lambda manifest: manifest["provenance"].update(licence="other"))
    assert chosen(Bundle.open(copy.path)) == "first int8"
