from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers_bundle import make_frame_bundle
from helpers_modules import ROOT
from helpers_plans import machine
from memedge_engines.bundle import Bundle
from memedge_engines.errors import PlanError, PlanMismatch, PlanMissing
from memedge_engines.manifest import Node
from memedge_engines.plans import sidecar, store
from memedge_engines.plans.machine import Machine
from memedge_engines.plans.profile import Profile
from memedge_engines.plans.sidecar import SideCar

HERE = machine()
BATCH = Profile()
DATA = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + b"the rest of a plan"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("store") / "bundle")


@pytest.fixture
def node(bundle: Bundle) -> Node:
    return bundle.manifest.node("model")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def record(bundle: Bundle, data: bytes = DATA, **fields: Any) -> SideCar:
    node = bundle.manifest.node("model")
    entry = node.files["fp32"]
    told: dict[str, Any] = {
        "schema": 1, "plan_sha256": hashlib.sha256(data).hexdigest(), "plan_bytes": len(data), "profile": BATCH,
        "header": sidecar.Header(tag="ftrt", serialization=0, version=(10, 3, 0, 26)), "machine": HERE,
        "source": sidecar.Source(
            bundle=bundle.hash, bundle_name="tiny", node="model", lowering="fp32", file=entry.file,
            onnx_sha256=entry.sha256,
        ),
        "options": sidecar.Options(), "tensors": (), "golden": (), "seconds": 1.0, "created": "2026", "tool": "test",
        "preprocess": {"frames": node.inputs[0].preprocess},
    }  # fmt: skip
    return SideCar(**{**told, **fields})


def put(bundle: Bundle, data: bytes = DATA, **fields: Any) -> Path:
    return store.write(bundle, bundle.manifest.node("model"), data, record(bundle, data, **fields))


def read(bundle: Bundle, on: Machine = HERE, profile: Profile = BATCH, **more: Any) -> store.Plan:
    return store.read(bundle, bundle.manifest.node("model"), "fp32", profile, on, **more)


def rewrite(path: Path, **fields: Any) -> None:
    """Replace fields of a side-car on disk."""
    beside = path.with_name(path.name.replace(".plan", ".engine.json"))
    told = sidecar.decode(beside.read_bytes())
    beside.write_bytes(sidecar.encode(msgspec.structs.replace(told, **fields)))


def mismatch(bundle: Bundle, **more: Any) -> PlanMismatch:
    with pytest.raises(PlanMismatch) as caught:
        read(bundle, **more)
    assert caught.value.fix
    return caught.value


def test_there_and_back(bundle: Bundle, folder: Path) -> None:
    with pytest.raises(PlanMissing, match=r"no plan of node 'model' \(fp32\).*Orin, TensorRT 10\.3\.0.*memedge build"):
        read(bundle)
    path = put(bundle)
    plan = read(bundle)
    assert (plan.path, plan.data, plan.sidecar) == (path, DATA, record(bundle))
    # A plain file that other tools open, its record beside it, no leftovers.
    assert path.read_bytes() == DATA
    assert sorted(p.name for p in path.parent.iterdir()) == [
        path.name.replace(".plan", ".engine.json"),
        path.name,
    ]
    assert path.parent.parent == folder / "plans"
    read(bundle, on=machine(driver="999", cuda="13.0", l4t="R39"))
    store.forget(bundle, bundle.manifest.node("model"), "fp32", BATCH, HERE)
    with pytest.raises(PlanMissing):
        read(bundle)
    assert not path.parent.exists()


def test_profiles_and_machines_have_plans_of_their_own(bundle: Bundle) -> None:
    other = machine(tensorrt="10.7.0")
    paths = {put(bundle), put(bundle, profile=Profile(4, 4)), put(bundle, machine=other)}
    assert len(paths) == 3
    assert read(bundle, profile=Profile(4, 4)).sidecar.profile.max_batch == 4
    assert read(bundle, on=other).sidecar.machine == other
    with pytest.raises(PlanMissing):
        read(bundle, profile=Profile(2, 2))


@pytest.mark.parametrize(
    ("there", "reason", "text"),
    [
        ({"tensorrt": "10.7.0"}, "version", r"built by TensorRT 10\.7\.0; this is 10\.3\.0"),
        ({"sm": "110", "gpu": "Thor"}, "architecture", "built for Thor"),
        ({"arch": "x86_64"}, "platform", "built on Linux x86_64"),
        ({"flavour": "rtx"}, "header", "flavour rtx"),
    ],
)
def test_plans_of_another_machine(bundle: Bundle, there: dict[str, Any], reason: str, text: str) -> None:
    """A cache that travelled, or a system that was upgraded: the reason is told, whether the key matches or not."""
    other = machine(**there)
    path = put(bundle, machine=other)
    error = mismatch(bundle)
    assert error.reason == reason
    assert re.search(text, error.message)
    path.rename(store.plan_path(bundle, bundle.manifest.node("model"), "fp32", BATCH, HERE))
    beside = path.name.replace(".plan", ".engine.json")
    here = store.plan_path(bundle, bundle.manifest.node("model"), "fp32", BATCH, HERE).name
    path.with_name(beside).rename(path.with_name(here.replace(".plan", ".engine.json")))
    assert mismatch(bundle).reason == reason


def test_damaged_plans(bundle: Bundle) -> None:
    path = put(bundle)
    for data in (DATA[:-1], DATA + b"x", b"", DATA[:30] + b"X" + DATA[31:]):
        path.write_bytes(data)
        error = mismatch(bundle)
        assert error.reason == "hash"
        assert "altered or cut short" in error.message
    path.unlink()
    error = mismatch(bundle)
    assert (error.reason, "cannot read" in error.message) == ("hash", True)


def test_reasons_come_in_their_order(bundle: Bundle, node: Node) -> None:
    """Everything is wrong at first; mended one by one, the next reason shows."""
    path = put(bundle, b"not a plan at all")
    right = record(bundle)
    rewrite(
        path, plan_sha256="0" * 64, machine=machine(tensorrt="11.0.0", sm="90", arch="x86_64"), preprocess={},
        source=msgspec.structs.replace(right.source, onnx_sha256="1" * 64), golden=None,
    )  # fmt: skip
    seen = [mismatch(bundle).reason]
    mends: list[Any] = [
        lambda: rewrite(path, plan_sha256=hashlib.sha256(b"not a plan at all").hexdigest()),
        lambda: rewrite(path, source=right.source),
        lambda: (path.write_bytes(DATA), rewrite(path, plan_sha256=right.plan_sha256)),
        lambda: rewrite(path, machine=machine(sm="90", arch="x86_64")),
        lambda: rewrite(path, machine=machine(arch="x86_64")),
        lambda: rewrite(path, machine=HERE),
        lambda: rewrite(path, preprocess=right.preprocess),
    ]
    for mend in mends:
        mend()
        seen.append(mismatch(bundle).reason)
    assert seen == ["hash", "hash", "header", "version", "architecture", "platform", "schema", "golden"]
    assert read(bundle, unproven=True).sidecar.golden is None
    rewrite(path, golden=())
    read(bundle)


def test_a_header_that_is_not_the_recorded_one(bundle: Bundle) -> None:
    other = b"ftrt" + bytes(20) + bytes([10, 7, 0, 23]) + b"rest"
    put(bundle, other)
    assert mismatch(bundle).reason == "header"


def test_side_cars_that_do_not_decode(bundle: Bundle) -> None:
    path = put(bundle)
    beside = path.with_name(path.name.replace(".plan", ".engine.json"))
    for data in (b"", b"{}", beside.read_bytes()[:-20]):
        beside.write_bytes(data)
        assert mismatch(bundle).reason == "schema"
    beside.unlink()
    # Nothing says what these bytes are: they are not run, and not blamed either.
    with pytest.raises(PlanMissing):
        read(bundle)


def test_the_cache_is_bounded_and_keeps_what_was_used_last(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_PLANS", 3)
    profiles = [Profile(n, n) for n in range(1, 7)]
    for number, profile in enumerate(profiles[:3]):
        path = put(bundle, profile=profile)
        os.utime(path, (1000 + number, 1000 + number))
    read(bundle, profile=profiles[0])  # used now: the second one is the oldest
    put(bundle, profile=profiles[3])
    kept = {p.name for p in store.stored(bundle)}
    assert len(kept) == 3
    read(bundle, profile=profiles[0])
    with pytest.raises(PlanMissing):
        read(bundle, profile=profiles[1])
    monkeypatch.setattr(store, "MAX_BYTES", 10)
    abandoned = folder / "plans" / ".x.tmp"
    abandoned.write_bytes(b"")
    os.utime(abandoned, (1, 1))
    put(bundle, profile=profiles[4])  # alone larger than allowed, but it is the one that was asked for
    assert [p.name for p in store.stored(bundle)] == [read(bundle, profile=profiles[4]).path.name]
    assert not abandoned.exists()


def test_where_nothing_can_be_written(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check_writable()
    folder.joinpath("file").write_bytes(b"")
    monkeypatch.setenv("MEMEDGE_CACHE", str(folder / "file"))
    for attempt in (store.check_writable, lambda: put(bundle), lambda: store.lock(bundle, "fp32", HERE).__enter__()):
        with pytest.raises(PlanError, match=r"cannot keep plans in .*\(fix: set MEMEDGE_CACHE to a folder") as caught:
            attempt()
        assert caught.value.cause == ""
    assert not store.keep_timing_cache(HERE, b"data")
    monkeypatch.setenv("MEMEDGE_CACHE", str(folder))

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.tempfile, "mkstemp", full)
    with pytest.raises(PlanError, match="No space left on device") as caught:
        put(bundle)
    assert caught.value.cause == "disk"


def test_timing_caches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.timing_cache(HERE) == b""
    assert not store.keep_timing_cache(HERE, b"")
    assert store.keep_timing_cache(HERE, b"measured")
    assert store.timing_cache(HERE) == b"measured"
    assert store.timing_cache(machine(tensorrt="10.7.0")) == store.timing_cache(machine(gpu="Orin Nano")) == b""
    (path,) = (folder / "timing").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert store.timing_cache(HERE) == b""
    monkeypatch.setattr(store, "MAX_TIMING_CACHES", 2)
    for number in range(5):
        assert store.keep_timing_cache(machine(sm=str(number)), b"data")
    assert len(list((folder / "timing").iterdir())) == 2
    assert store.timing_cache(machine(sm="4")) == b"data"


_HOLD = """
import sys, time
from memedge_engines.bundle import Bundle
from memedge_engines.plans import store
sys.path.insert(0, sys.argv[2])
from helpers_plans import machine
with store.lock(Bundle.open(sys.argv[1]), "fp32", machine()):
    print("held", flush=True)
    time.sleep(60)
"""


def test_builders_wait_for_each_other_and_a_dead_one_is_forgotten(bundle: Bundle) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "engines")])
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(bundle.path), str(ROOT / "tests")],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths},
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            waits: list[float] = []

            def waiting() -> None:
                waits.append(time.monotonic())
                if len(waits) == 2:
                    os.kill(holder.pid, signal.SIGKILL)

            # Another bundle, lowering or machine need not wait.
            with store.lock(bundle, "trt-int8", HERE, lambda: pytest.fail("waited")):
                pass
            with store.lock(bundle, "fp32", HERE, waiting):
                assert len(waits) >= 2
        finally:
            holder.kill()


def test_a_wait_can_be_ended(bundle: Bundle) -> None:
    def enough() -> None:
        raise TimeoutError

    with store.lock(bundle, "fp32", HERE), pytest.raises(TimeoutError), store.lock(bundle, "fp32", HERE, enough):
        pytest.fail("two at a time")
    with store.lock(bundle, "fp32", HERE, enough):
        pass
