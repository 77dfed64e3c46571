from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from helpers_plans import machine
from memedge_engines.errors import PlanMismatch
from memedge_engines.manifest import Calibration, Crop, Preprocess, Resize
from memedge_engines.plans import sidecar
from memedge_engines.plans.profile import Profile
from memedge_engines.plans.sidecar import SideCar

HEADER = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26])


def record(**fields: Any) -> SideCar:
    resize = Resize(rule="short_side", size=256)
    contract = Preprocess(
        color="rgb", resize=resize, crop=Crop(rule="center", size=(224, 224)), scale=1 / 255,
        mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2),
    )  # fmt: skip
    told: dict[str, Any] = {
        "schema": 1, "plan_sha256": "a" * 64, "plan_bytes": 28, "header": sidecar.read_header(HEADER),
        "machine": machine(), "profile": Profile(4, 2, 512, 5),
        "source": sidecar.Source(
            bundle="b" * 64, bundle_name="resnet-s", node="model", lowering="trt-int8", file="model.trt-int8.onnx",
            onnx_sha256="c" * 64, ranges_sha256="d" * 64,
            calibration=Calibration(method="entropy", frames=512, source="lnsim", sha256="d" * 64),
        ),
        "options": sidecar.Options(flags=("TF32",), level=5, workspace_bytes=512 << 20, timing_cache_bytes=7),
        "tensors": (
            sidecar.TensorSpec(
                name="frames", mode="input", dtype="int8", layout="linear", shape=(-1, 3, 224, 224),
                minimum=(1, 3, 224, 224), optimum=(2, 3, 224, 224), maximum=(4, 3, 224, 224), scale=0.02,
            ),
            sidecar.TensorSpec(name="score", mode="output", dtype="float32", layout="linear", shape=(-1, 1)),
        ),
        "preprocess": {"frames": contract},
        "layers": sidecar.Layers(total=9, int8=5, fp16=1, fp32=1, moves=2),
        "golden": (sidecar.Difference(target="short_term", largest=1e-4, tolerance=0.01),),
        "seconds": 41.5, "created": "2026-01-01T00:00:00+00:00", "tool": "memedge 0.1.0",
    }  # fmt: skip
    return SideCar(**{**told, **fields})


def plain() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(sidecar.encode(record()))
    return data


def test_there_and_back() -> None:
    for one in (record(), record(layers=None, golden=None), record(golden=())):
        assert sidecar.decode(sidecar.encode(one)) == one


EDITS: list[tuple[Any, str]] = [
    (lambda d: d.pop("plan_sha256"), "missing required field `plan_sha256`"),
    (lambda d: d.pop("machine"), "missing required field `machine`"),
    (lambda d: d.update(extra=1), "unknown field `extra`"),
    (lambda d: d["machine"].update(extra=1), "unknown field `extra`"),
    (lambda d: d["profile"].update(dla=True), "unknown field `dla`"),
    (lambda d: d["source"].update(lowering="cpu"), "Invalid enum value 'cpu'"),
    (lambda d: d["header"].update(tag="xxxx"), "Invalid enum value 'xxxx'"),
    (lambda d: d["options"].update(typing="loose"), "Invalid enum value 'loose'"),
    (lambda d: d["tensors"][0].update(shape=["batch"]), "Expected `int`, got `str`"),
    (lambda d: d["preprocess"]["frames"].pop("mean"), "missing required field `mean`"),
    (lambda d: d.update(plan_bytes="28"), "Expected `int`, got `str`"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS)
def test_strictly_decoded(edit: Any, message: str) -> None:
    data = plain()
    edit(data)
    with pytest.raises(PlanMismatch, match=message) as caught:
        sidecar.decode(json.dumps(data).encode())
    assert caught.value.reason == "schema"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"1", b"\xff", b'{"schema": 2}', b'{"schema": true}', b"{}", b"[" * 99999, b" " * (2 << 20)],
)
def test_what_is_no_side_car(data: bytes) -> None:
    with pytest.raises(PlanMismatch) as caught:
        sidecar.decode(data)
    assert caught.value.reason == "schema"


def test_a_profile_that_contradicts_itself_is_refused() -> None:
    data = plain()
    data["profile"].update(max_batch=1, opt_batch=4)
    with pytest.raises(PlanMismatch, match="batch 4 of at most 1"):
        sidecar.decode(json.dumps(data).encode())


def test_the_json_schema_agrees_with_the_decoder() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = sidecar.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(plain())) == []
    for edit, message in EDITS:
        data = plain()
        edit(data)
        assert list(validator.iter_errors(data)), message


def test_headers() -> None:
    header = sidecar.read_header(HEADER + b"rest")
    assert (header.tag, header.serialization, header.version) == ("ftrt", 0, (10, 3, 0, 26))
    later = sidecar.read_header(b"ftrt\x01\0\0\0" + bytes(20))
    assert (later.serialization, later.version) == (1, ())
    assert sidecar.read_header(b"vtrt" + bytes(24)).tag == "vtrt"
    for data, text in [
        (b"", "begins with b''"),
        (b"ftrt", "has 4 bytes; a plan's header alone has 28"),
        (b"\x08\x0a\x12\x07pytorch" + bytes(40), r"begins with b'\\x08"),
        (b"PK\x03\x04" + bytes(40), "begins with b'PK"),
    ]:
        with pytest.raises(PlanMismatch, match=text) as caught:
            sidecar.read_header(data)
        assert caught.value.reason == "header"


def test_metadata_before_a_plan_is_named() -> None:
    metadata = json.dumps({"description": "YOLO", "stride": 32}).encode()
    data = len(metadata).to_bytes(4, "little") + metadata + HEADER
    assert sidecar.split_prefix(data) == ({"description": "YOLO", "stride": 32}, HEADER)
    with pytest.raises(PlanMismatch, match=r"41 bytes of metadata .* as ultralytics writes it \(description, stride\)"):
        sidecar.read_header(data)
    for other in (
        HEADER,
        b"",
        data[:10],
        b"\x10\0\0\0" + b"x" * 16 + HEADER,
        len(b"[1]").to_bytes(4, "little") + b"[1]" + HEADER,
    ):
        assert sidecar.split_prefix(other) == (None, other)
    assert "prefix" not in msgspec.json.encode(record()).decode()
