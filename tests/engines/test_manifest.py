"""Manifest: strict decoding, every rule beyond the types, and the JSON Schema that says the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from helpers_bundle import VARIANTS
from memedge_engines import manifest as manifests
from memedge_engines.errors import BundleError

Data = dict[str, Any]
Edit = Callable[[Data], Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    root = tmp_path_factory.mktemp("manifests")
    return {
        name: json.loads((make(root / name).path / "manifest.json").read_bytes()) for name, make in VARIANTS.items()
    }


def decode(data: Data) -> manifests.Manifest:
    return manifests.decode(json.dumps(data).encode())


def edited(data: Data, edit: Edit) -> Data:
    changed = copy.deepcopy(data)
    edit(changed)
    return changed


def node(data: Data) -> Data:
    return data["nodes"][0]  # type: ignore[no-any-return]


def first_input(data: Data) -> Data:
    return node(data)["inputs"][0]  # type: ignore[no-any-return]


def contract(data: Data) -> Data:
    return first_input(data)["preprocess"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(VARIANTS))
def test_round_trip(good: dict[str, Data], name: str) -> None:
    manifest = decode(good[name])
    encoded = manifests.encode(manifest)
    assert manifests.decode(encoded) == manifest
    assert encoded.endswith(b"}\n")
    assert manifest.primary.name == "short_term"
    assert manifest.node(manifest.nodes[0].name) is manifest.nodes[0]
    with pytest.raises(KeyError):
        manifest.node("nonesuch")


def test_the_letters_of_the_contract(good: dict[str, Data]) -> None:
    """The field names that other rooms and other programs read."""
    data = good["window"]
    assert set(data) == {"schema", "name", "nodes", "targets", "golden", "provenance", "domain", "files"}
    assert data["nodes"][1]["inputs"][0]["from"] == "frame.embedding"
    assert data["targets"][0]["from"] == "model.score"
    assert set(first_input(data)["preprocess"]) == {"color", "resize", "crop", "scale", "mean", "std", "layout"}
    assert set(node(data)["files"]["fp32"]) == {"file", "sha256", "inputs"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "no integer field 'schema'"),
        (b"null", "no integer field 'schema'"),
        (b"{}", "no integer field 'schema'"),
        (b'{"schema": "1"}', "no integer field 'schema'"),
        (b'{"schema": true}', "no integer field 'schema'"),
        (b'{"schema": 1.0}', "no integer field 'schema'"),
        (b'{"schema": 0}', "schema 0; expected 1"),
        (b'{"schema": 1}', "missing required field `name`"),
    ],
)
def test_what_is_no_manifest(raw: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        manifests.decode(raw)


def test_newer_schema_says_how_to_read_it() -> None:
    """Checked before the fields: a newer schema has fields that this version does not know."""
    with pytest.raises(BundleError, match="manifest schema 2; this memedge reads 1") as caught:
        manifests.decode(b'{"schema": 2, "anything": []}')
    assert caught.value.fix == "pip install --upgrade memedge"


TYPE_EDITS: list[tuple[Edit, str]] = [
    (lambda d: d.update(colour="red"), "unknown field `colour`"),
    (lambda d: node(d).update(perid_s=1), "unknown field `perid_s`"),
    (lambda d: contract(d).update(gamma=2.2), "unknown field `gamma`"),
    (lambda d: contract(d)["resize"].update(antialias=True), "unknown field `antialias`"),
    (lambda d: d["targets"][0].update(unit="s"), "unknown field `unit`"),
    (lambda d: d["provenance"]["training"].update(epochs=3), "unknown field `epochs`"),
    (lambda d: d.pop("name"), "missing required field `name`"),
    (lambda d: d.pop("golden"), "missing required field `golden`"),
    (lambda d: node(d).pop("kind"), "missing required field `kind`"),
    (lambda d: first_input(d).pop("from"), "missing required field `from`"),
    (lambda d: contract(d).pop("mean"), "missing required field `mean`"),
    (lambda d: node(d)["files"]["fp32"].pop("sha256"), "missing required field `sha256`"),
    (
        lambda d: node(d)["files"]["fp32"]["inputs"].update(frames={"dtype": "bfloat16"}),
        "Invalid enum value 'bfloat16'",
    ),
    (lambda d: node(d)["files"].update(int4=node(d)["files"]["fp32"]), "Invalid enum value 'int4'"),
    (lambda d: node(d).update(kind="model"), "Invalid enum value 'model'"),
    (lambda d: node(d)["outputs"][0].update(role="rating"), "Invalid enum value 'rating'"),
    (lambda d: contract(d).update(color="yuv"), "Invalid enum value 'yuv'"),
    (lambda d: contract(d).update(layout="nhwc"), "Invalid enum value 'nhwc'"),
    (lambda d: contract(d)["resize"].update(filter="lanczos"), "Invalid enum value 'lanczos'"),
    (lambda d: d["targets"][0].update(aggregate="max"), "Invalid enum value 'max'"),
    (lambda d: d["targets"][0].update(sampling="S8"), "Invalid enum value 'S8'"),
    (lambda d: d["provenance"]["training"].update(status="maybe"), "Invalid enum value 'maybe'"),
    (lambda d: node(d).update(period_s="2"), "Expected `float`, got `str`"),
    (lambda d: first_input(d).update(last=1.5), "Expected `int`"),
    (lambda d: contract(d)["crop"].update(size=[32]), "Expected `array` of length 2"),
    (lambda d: d.update(nodes={}), "Expected `array`"),
]


@pytest.mark.parametrize(("edit", "message"), TYPE_EDITS)
def test_unknown_missing_and_mistyped_fields(good: dict[str, Data], edit: Edit, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        decode(edited(good["frame"], edit))


def window(d: Data) -> None:
    first_input(d).update(last=4)
    contract(d).update(layout="ncthw")


def uncropped_window(d: Data) -> None:
    window(d)
    contract(d)["crop"] = {"rule": "none"}


def quantiles(*values: float) -> Edit:
    return lambda d: d["targets"][0].update(quantiles={"dataset": "x", "values": list(values)})


RULES: list[tuple[str, Edit, str]] = [
    ("frame", lambda d: d.update(nodes=[]), "no nodes; expected at least one"),
    ("frame", lambda d: d.update(targets=[]), "no targets; expected at least one"),
    ("frame", lambda d: node(d).update(name="source"), "is not source or caller"),
    ("frame", lambda d: node(d).update(name="caller"), "is not source or caller"),
    ("frame", lambda d: node(d).update(name="a.b"), "letters, digits, _ and -"),
    ("frame", lambda d: node(d).update(name=""), "letters, digits, _ and -"),
    ("frame", lambda d: node(d).update(name="../up"), "letters, digits, _ and -"),
    ("fused", lambda d: d["nodes"][1].update(name="fast"), "node 'fast' stands twice"),
    ("frame", lambda d: node(d).update(period_s=-1), "period_s -1.0; expected 0 or more"),
    ("frame", lambda d: node(d).update(inputs=[]), "at least one input and one output"),
    ("frame", lambda d: node(d).update(outputs=[]), "at least one input and one output"),
    ("frame", lambda d: node(d)["files"].pop("fp32"), "files has no fp32"),
    ("frame", lambda d: node(d).update(kind="extractor"), "names an extractor and has no files"),
    ("frame", lambda d: node(d).update(kind="aggregate", extractor="mean"), "names an extractor and has no files"),
    ("frame", lambda d: node(d)["outputs"][1].update(name="score"), "a tensor name stands twice"),
    ("fused", lambda d: d["nodes"][2]["inputs"][1].update(name="fast"), "a tensor name stands twice"),
    (
        "frame",
        lambda d: first_input(d).update({"from": "camera"}),
        "from 'camera'; expected source, caller or an earlier",
    ),
    ("window", lambda d: d["nodes"].reverse(), "expected source, caller or an earlier output: none"),
    ("window", lambda d: d["nodes"][1]["inputs"][0].update({"from": "model.score"}), "or an earlier output"),
    ("frame", lambda d: first_input(d).update(preprocess=None), "a preprocess contract belongs to inputs from source"),
    (
        "window",
        lambda d: d["nodes"][1]["inputs"][0].update(preprocess=contract(d)),
        "a preprocess contract belongs to inputs from source",
    ),
    ("frame", lambda d: first_input(d).update(last=0), r"last 0; expected 1\.\."),
    ("frame", lambda d: first_input(d).update(last=5000), r"last 5000; expected 1\.\."),
    ("frame", lambda d: first_input(d).update(stride_s=-0.5), "stride_s -0.5; expected 0 or more"),
    ("frame", lambda d: first_input(d).update(last=4), "a window of 4 pictures needs layout ncthw or ntchw"),
    ("frame", uncropped_window, "a window needs pictures of one size"),
    ("frame", lambda d: contract(d)["resize"].update(size=0), "resize short_side takes one positive size, found 0"),
    ("frame", lambda d: contract(d)["resize"].update(size=[40, 40]), "resize short_side takes one positive size"),
    (
        "frame",
        lambda d: contract(d)["resize"].update(size=None),
        "resize short_side takes one positive size, found None",
    ),
    ("frame", lambda d: contract(d)["resize"].update(rule="exact"), r"resize exact takes \[height, width\], found 40"),
    (
        "frame",
        lambda d: contract(d)["resize"].update(rule="exact", size=[0, 40]),
        r"resize exact takes \[height, width\]",
    ),
    ("frame", lambda d: contract(d)["resize"].update(rule="none"), "resize none takes no size, found 40"),
    ("frame", lambda d: contract(d)["crop"].update(rule="none"), r"crop none with size \(32, 32\)"),
    ("frame", lambda d: contract(d)["crop"].update(size=None), "crop center with size None"),
    ("frame", lambda d: contract(d)["crop"].update(size=[0, 32]), "crop center with size"),
    (
        "frame",
        lambda d: contract(d)["crop"].update(size=[41, 32]),
        r"crop \[41, 32\] is larger than the resized picture",
    ),
    (
        "clip",
        lambda d: contract(d)["crop"].update(size=[24, 33]),
        r"crop \[24, 33\] is larger than the resized picture",
    ),
    ("frame", lambda d: contract(d).update(mean=[0.5]), "mean and std need 3 values for rgb"),
    ("frame", lambda d: contract(d).update(color="gray"), "mean and std need 1 values for gray"),
    ("frame", lambda d: contract(d).update(std=[0.2, 0.0, 0.2]), "std positive"),
    ("frame", lambda d: contract(d).update(std=[0.2, -0.1, 0.2]), "std positive"),
    ("fused", lambda d: d["targets"][1].update(name="short_term"), "a target stands twice"),
    ("frame", lambda d: d["targets"][0].update(primary=False), "exactly one target is primary"),
    ("fused", lambda d: d["targets"][1].update(primary=True), "exactly one target is primary"),
    ("frame", lambda d: d["targets"][0].update({"from": "model.rating"}), "no output 'model.rating'; there are"),
    ("frame", lambda d: d["targets"][0].update({"from": "source"}), "no output 'source'"),
    ("frame", lambda d: d["targets"][0].update(window_s=0), "window_s 0.0; expected more than 0"),
    ("frame", quantiles(0.5), "at least two rising values"),
    ("frame", quantiles(0.2, 0.5, 0.4), "at least two rising values"),
    (
        "frame",
        lambda d: d.update(domain={"from": "model.features", "mean": [0], "std": [1], "threshold": 3}),
        "domain: no output 'model.features'",
    ),
    (
        "frame",
        lambda d: d.update(domain={"from": "model.embedding", "mean": [0, 0], "std": [1], "threshold": 3}),
        "mean and std differ in length",
    ),
    ("frame", lambda d: node(d)["files"]["fp32"].update(file="../model.onnx"), "expected a plain name"),
    ("frame", lambda d: node(d)["files"]["fp32"].update(file="/etc/passwd"), "expected a plain name"),
    ("frame", lambda d: node(d)["files"]["fp32"].update(file="a/b.onnx"), "expected a plain name"),
    ("frame", lambda d: node(d)["files"]["fp32"].update(file=".hidden"), "expected a plain name"),
    ("frame", lambda d: node(d)["files"]["fp32"].update(sha256="0" * 63), "is not 64 lower-case hex digits"),
    ("frame", lambda d: node(d)["files"]["fp32"].update(sha256="G" * 64), "is not 64 lower-case hex digits"),
    ("frame", lambda d: d["golden"]["file"].update(file="x/golden.npz"), "expected a plain name"),
    ("frame", lambda d: d["files"].update(card={"file": "..", "sha256": "0" * 64}), "expected a plain name"),
    ("frame", lambda d: d["golden"]["tolerance"].pop("fp32"), "golden.tolerance has no entry for fp32"),
    ("frame", lambda d: d["golden"]["tolerance"].update(fp32=-0.1), "tolerance -0.1 of fp32; expected 0 or more"),
    ("frame", lambda d: d["golden"].update(preprocess_tolerance=-1), "tolerance -1.0 of preprocess"),
    ("frame", lambda d: d["golden"].update(frames=0), "golden.frames is 0; expected at least 1"),
]


@pytest.mark.parametrize(("name", "edit", "message"), RULES)
def test_rules(good: dict[str, Data], name: str, edit: Edit, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        decode(edited(good[name], edit))


def test_valid_oddities_are_taken(good: dict[str, Data]) -> None:
    decode(edited(good["frame"], window))
    decode(edited(good["frame"], quantiles(0.2, 0.2, 0.3)))
    decode(edited(good["frame"], lambda d: d.update(domain=None)))
    decode(edited(good["frame"], lambda d: contract(d).update(resize={"rule": "none"}, crop={"rule": "none"})))
    exact = {"rule": "exact", "size": [32, 32]}
    decode(edited(good["frame"], lambda d: contract(d).update(resize=exact, crop={"rule": "none"})))
    host = {
        "name": "smooth", "kind": "aggregate", "extractor": "mean",
        "inputs": [{"name": "x", "from": "model.score", "last": 3, "stride_s": 1}],
        "outputs": [{"name": "score", "role": "score"}],
    }  # fmt: skip
    decode(edited(good["frame"], lambda d: d["nodes"].append(host)))
    caller = {"name": "size", "from": "caller", "default": [1.0, 2.0]}
    decode(edited(good["frame"], lambda d: node(d)["inputs"].append(caller)))


def test_json_schema_agrees_with_the_decoder(good: dict[str, Data]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = manifests.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for data in good.values():
        assert list(validator.iter_errors(data)) == []
    for edit, message in TYPE_EDITS:
        assert list(validator.iter_errors(edited(good["frame"], edit))), message
    json.dumps(schema)
