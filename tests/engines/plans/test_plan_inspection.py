"""The inspector's JSON in the schemas of TensorRT 10.x and 11.x: the records follow its documented examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fake_tensorrt import Faults, fake_tensorrt
from helpers_plans import conv, machine
from memedge_engines.plans import builder, inspection, library
from memedge_engines.plans.profile import Profile
from memedge_engines.plans.sidecar import Layers

RECORDS = Path(__file__).parent / "inspector"


@pytest.mark.parametrize("record", ["trt10.json", "trt11.json"])
def test_both_schemas_tell_the_same(record: str) -> None:
    text = (RECORDS / record).read_text()
    # Four int8 layers: convolutions, one of them with a half-precision shortcut, one that writes fp16, and a pooling.
    expected = Layers(total=9, int8=4, fp16=1, fp32=1, other=1, moves=2)
    assert inspection.summary(text) == inspection.summary(json.loads(text)) == expected


@pytest.mark.parametrize(
    "information",
    [
        "", "null", "[]", "{}", "not json", '{"Layers": {}}', '{"Layers": []}', '{"Layers": ["conv1 + relu1", "fc"]}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_tells_nothing_is_none(information: str) -> None:
    assert inspection.summary(information) is None


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ({"Inputs": [{"Format/Datatype": "Int8"}], "Outputs": [{"Format/Datatype": "Half"}]}, "int8"),
        ({"Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]}, "fp16"),
        ({"Inputs": [{"Format": "Row major linear format (kLINEAR)", "Datatype": "Float"}]}, "fp32"),
        ({"Inputs": [{"Format": "Row major linear FP32 format (kLINEAR)"}]}, "fp32"),
        ({"Inputs": [], "Outputs": [{"DataType": "Half"}]}, "fp16"),
        ({"Inputs": [{"DataType": "Int64"}], "Outputs": [{"DataType": "BF16"}]}, "other"),
        ({"Inputs": None, "Outputs": "score"}, "other"),
        ({"Inputs": ["frames", 3]}, "other"),
        ({"LayerType": "Reformat", "Inputs": [{"DataType": "Int8"}]}, "moves"),
        ({"LayerType": 7}, "other"),
    ],
)
def test_one_layer(layer: dict[str, Any], kind: str) -> None:
    found = inspection.summary({"Layers": [layer]})
    assert found == Layers(total=1, **{kind: 1})


def test_a_plan_is_deserialised_for_it() -> None:
    trt = fake_tensorrt("10.3")
    plan = builder.build(conv(), "fp32", Profile(), machine(), trt=trt).plan
    assert inspection.inspect_plan(trt, library.logger(trt), plan) == Layers(total=1, fp32=1)
    trt.fake.faults = Faults(deserialize=("Error Code 1: Serialization",))
    assert inspection.inspect_plan(trt, library.logger(trt), plan) is None
