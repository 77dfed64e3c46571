"""``fidelity.json``: read strictly, shown by ``memedge info``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers_bundle import edit_manifest, make_frame_bundle
from memedge import fidelity
from memedge.errors import BundleError
from memedge.fidelity import (
    Fidelity,
    FidelityFile,
    GateFrames,
    Human,
    LoweringFidelity,
    MethodResult,
    Other,
    Promoted,
    Speed,
)
from memedge.info import info_json, info_lines
from memedge_engines.bundle import Bundle


def made() -> FidelityFile:
    good = Fidelity(
        frames=266, finite=True, float_std=0.08, spearman=0.9987, mean_abs=0.0012, max_abs=0.0061, std_ratio=0.991,
        passed=True,
        human=Human(frames=266, float_rho=0.412, rho=0.411, drop=0.001, interval=(-0.002, 0.004)),
        other=Other(source="generated pictures", frames=200, spearman=0.962),
        warnings=("generated pictures: Spearman with float scores 0.9620; expected at least 0.97",),
    )  # fmt: skip
    bad = Fidelity(
        frames=266, finite=False, float_std=None, spearman=None, mean_abs=None, max_abs=None, std_ratio=None,
        passed=False, reasons=("3 of 266 scores are not finite; expected none",),
    )  # fmt: skip
    cpu = LoweringFidelity(
        fidelity=good, passed=True, mac_share=0.973, tries=3, method="percentile",
        promoted=(Promoted(layer="conv1", reason="lowering it alone moves scores by 0.03", gain=0.03, mac_share=0.02),),
        floated={"linear": "belongs to the head, which stays float"},
        methods=(
            MethodResult(method="minmax", spearman=0.95, mean_abs=0.02, std_ratio=0.8, passed=False),
            MethodResult(method="percentile", spearman=0.99, mean_abs=0.01, std_ratio=0.95, passed=True),
        ),
        speed=Speed(
            machine="a processor", engine="onnxruntime", threads=1, runs=15,
            float_ms=66, lowered_ms=24, unpromoted_ms=22.5,
        ),
    )  # fmt: skip
    trt = LoweringFidelity(fidelity=bad, passed=False, allowed=True, mac_share=0.5, tries=1, reasons=bad.reasons)
    return FidelityFile(
        gate=GateFrames(source="lnsim val", frames=266, sha256="ab" * 32), lowerings={"trt-int8": trt, "cpu": cpu}
    )


def test_what_is_written_is_what_is_read() -> None:
    file = made()
    data = fidelity.encode(file)
    assert fidelity.decode(data) == file
    assert data.endswith(b"}\n")
    assert b"NaN" not in data


def bundle_with(path: Path, data: bytes) -> Bundle:
    bundle = make_frame_bundle(path, lowerings=("fp32", "cpu"))
    (bundle.path / "fidelity.json").write_bytes(data)
    entry = {"file": "fidelity.json", "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(bundle.path, lambda manifest: manifest["files"].update(fidelity=entry))
    return Bundle.open(bundle.path)


def test_info_shows_everything(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path / "b", fidelity.encode(made()))
    text = info_lines(bundle)
    assert all("\n" not in line for line in text)
    for line in (
        "fidelity gate: 266 pictures, lnsim val",
        "fidelity cpu: passed: Spearman 0.9987, mean |difference| 0.0012 (largest 0.0061), spread 0.991 of float's",
        "fidelity cpu: 97.3 % of convolution multiply-adds in int8",
        "fidelity cpu: rank correlation with human scores 0.4120 in float, 0.4110 lowered: drop 0.0010 "
        "(95 % interval -0.0020 to 0.0040, 266 pictures)",
        "fidelity cpu: on 200 pictures of another kind (generated pictures): Spearman 0.9620",
        "fidelity cpu: warning: generated pictures: Spearman with float scores 0.9620; expected at least 0.97",
        "fidelity cpu: promoted to float: conv1 (2.0 %): lowering it alone moves scores by 0.03",
        "fidelity cpu: float: linear: belongs to the head, which stays float",
        "fidelity cpu: 24.00 ms an inference, 22.50 ms without promotions, float 66.00 ms "
        "(2.75 times as fast; onnxruntime, 1 thread, a processor)",
        "fidelity cpu: calibration minmax: Spearman 0.9500, mean |difference| 0.0200",
        "fidelity cpu: calibration percentile (chosen): Spearman 0.9900, mean |difference| 0.0100",
        "fidelity trt-int8: FAILED, written because it was allowed: Spearman none, mean |difference| none "
        "(largest none), spread none of float's",
        "fidelity trt-int8: FAILED: 3 of 266 scores are not finite; expected none",
    ):
        assert line in text, line
    told = json.loads(json.dumps(info_json(bundle), allow_nan=False))
    assert told["fidelity"] == json.loads(fidelity.encode(made()))


def test_a_bundle_without_the_file(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b")
    assert fidelity.read(bundle) is None
    assert info_json(bundle)["fidelity"] is None
    assert not any(line.startswith("fidelity") for line in info_lines(bundle))


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path / "b", fidelity.encode(made()))
    file = bundle.path / "fidelity.json"
    file.write_bytes(file.read_bytes().replace(b"0.9987", b"0.9999"))
    os.utime(file, (1, 1))
    with pytest.raises(BundleError, match="altered or cut short"):
        info_lines(bundle)


def edited(change: Callable[[dict[str, Any]], None]) -> bytes:
    data = json.loads(fidelity.encode(made()))
    change(data)
    return msgspec.json.encode(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff", "is not JSON"),
        (b"[1]", "has no field 'schema' of 1"),
        (b"{}", "has no field 'schema' of 1"),
        (b'{"schema": 1}', "missing required field"),
        (edited(lambda d: d.update(schema=2)), "schema 2; this memedge reads 1"),
        (edited(lambda d: d.update(schema=True)), "has no field 'schema'"),
        (edited(lambda d: d.update(extra=1)), "unknown field"),
        (edited(lambda d: d["lowerings"].update(int4=d["lowerings"]["cpu"])), "Invalid enum value 'int4'"),
        (edited(lambda d: d["lowerings"]["cpu"].pop("tries")), "missing required field `tries`"),
        (edited(lambda d: d["lowerings"]["cpu"].update(mac_share=1.5)), "mac_share 1.5; expected 0 to 1"),
        (edited(lambda d: d["lowerings"]["trt-int8"].update(passed=True)), "contradicts itself"),
        (edited(lambda d: d["lowerings"]["cpu"]["speed"].update(lowered_ms=0)), "takes no time"),
        (edited(lambda d: d["lowerings"]["cpu"]["fidelity"].update(frames="many")), "Expected `int`"),
    ],
)
def test_files_that_are_not_what_they_should_be(data: bytes, told: str) -> None:
    with pytest.raises(BundleError, match=told):
        fidelity.decode(data)


def test_what_cannot_be_read_back_is_not_written() -> None:
    human = Human(frames=3, float_rho=float("nan"), rho=0.1, drop=0.0, interval=(0.0, 0.0))
    file = made()
    one = file.lowerings["cpu"]
    broken = msgspec.structs.replace(one, fidelity=msgspec.structs.replace(one.fidelity, human=human))
    with pytest.raises(BundleError, match="float_rho"):
        fidelity.encode(msgspec.structs.replace(file, lowerings={"cpu": broken}))
