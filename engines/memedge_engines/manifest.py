"""The bundle's manifest, version 1: a static dataflow of nodes, strictly decoded.

Unknown fields and missing required fields are errors. Names follow the field's terms: node, target, preprocess
contract,
lowering. The JSON Schema of this module is what ``memedge info --schema`` prints.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .errors import BundleError

SCHEMA_VERSION = 1

Lowering = Literal["fp32", "cpu", "trt-int8", "trt-fp16"]
LOWERINGS: tuple[Lowering, ...] = ("fp32", "cpu", "trt-int8", "trt-fp16")
PRECISION_OF: dict[str, str] = {"fp32": "fp32", "cpu": "int8", "trt-int8": "int8", "trt-fp16": "fp16"}
# What stands in for a lowering that a node does not have: the best float form that the same back ends run.
_STAND_INS: dict[str, tuple[Lowering, ...]] = {
    "cpu": ("fp32",),
    "trt-int8": ("trt-fp16", "fp32"),
    "trt-fp16": ("fp32",),
}
Role = Literal["score", "attention", "class_probs", "embedding", "decay", "contribution", "features"]
Aggregate = Literal["mean", "median", "exponential", "last"]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base of every manifest record."""


class InputStorage(_Strict, frozen=True, kw_only=True):
    """How one file of a node takes one input: dtype, and for int8 the scale (real = int8 * scale)."""

    dtype: Literal["float32", "float16", "int8", "uint8"] = "float32"
    scale: float | None = None


class FileEntry(_Strict, frozen=True, kw_only=True):
    """A file of the bundle: plain name inside the folder and SHA-256 of its bytes (64 lower-case hex digits)."""

    file: str
    sha256: str
    inputs: dict[str, InputStorage] = {}


class Resize(_Strict, frozen=True, kw_only=True):
    """Resize rule. ``short_side``: size s, the other side is int(s * long / short); ``exact``: [height, width];
    ``none``."""

    rule: Literal["short_side", "exact", "none"]
    size: int | tuple[int, int] | None = None
    filter: Literal["triangle", "bilinear"] = "triangle"


class Crop(_Strict, frozen=True, kw_only=True):
    """Crop rule. ``center``: [height, width] at offset int(round((side - crop) / 2)), torchvision's; or ``none``."""

    rule: Literal["center", "none"]
    size: tuple[int, int] | None = None


class Preprocess(_Strict, frozen=True, kw_only=True):
    """Preprocess contract: tensor = (u8 * scale - mean) / std per channel, in ``color`` order.

    ``layout`` is ``nchw`` for single pictures; windows of N pictures use ``ncthw`` (float32 [B,C,N,H,W]) or ``ntchw``.
    """

    color: Literal["rgb", "bgr", "gray"]
    resize: Resize
    crop: Crop
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Literal["nchw", "ncthw", "ntchw"] = "nchw"

    @property
    def channels(self) -> int:
        """1 for gray, else 3."""
        return 1 if self.color == "gray" else 3


class NodeInput(_Strict, frozen=True, kw_only=True):
    """One input of a node.

    Attributes:
        name: tensor name in the graph, or argument name of an extractor.
        source: JSON ``from``: ``source`` (pictures), ``node.output``, or ``caller`` (set per stream).
        preprocess: contract of a ``source`` input of a graph node; none otherwise.
        last: number of elements in the window; 1 means the present one only.
        stride_s: seconds between elements; 0 means consecutive ones.
        padding: ``repeat_oldest`` fills a short window and marks the result partial; ``wait`` does not run the node.
        default: value of a ``caller`` input while nobody set one; a single number fills the whole ``shape``.
        shape: of a ``caller`` input, without batch axis; none: one axis as long as the default.
    """

    name: str
    source: str = msgspec.field(name="from")
    preprocess: Preprocess | None = None
    last: int = 1
    stride_s: float = 0.0
    padding: Literal["repeat_oldest", "wait"] = "repeat_oldest"
    default: list[float] | None = None
    shape: tuple[int, ...] | None = None


class Decay(_Strict, frozen=True, kw_only=True):
    """How the score of a node falls with time: by the value of its output of role ``decay`` for each item of the memory
    game. The score is that after ``lag`` items, which lasted ``item_s`` seconds each."""

    lag: float
    item_s: float


class NodeOutput(_Strict, frozen=True, kw_only=True):
    """One output of a node and what it means; ``decay`` belongs to the role of that name."""

    name: str
    role: Role
    decay: Decay | None = None


class Node(_Strict, frozen=True, kw_only=True):
    """One node: an ONNX graph, a host feature extractor or an aggregate of other outputs.

    Attributes:
        period_s: 0: every offered frame; else ticks at k * period_s from the stream's first frame.
        anchor: ``end``: a node runs at its tick, and its picture windows end there; ``start``: they begin at the tick,
            and the node runs when they are full (clips that start each second).
        after: of a node without pictures and with ``period_s`` 0: the node whose runs it follows; none: any of those
            behind its inputs.
        files: lowering name to file, for ``graph`` nodes; ``fp32`` must be there.
        extractor: registered name and arguments, for ``extractor`` and ``aggregate`` nodes.
        reset: ``stream``: state is cleared when the stream is reset; ``cut``: also at a shot cut.
    """

    name: str
    kind: Literal["graph", "extractor", "aggregate"]
    inputs: tuple[NodeInput, ...]
    outputs: tuple[NodeOutput, ...]
    files: dict[Lowering, FileEntry] = {}
    period_s: float = 0.0
    anchor: Literal["end", "start"] = "end"
    after: str | None = None
    extractor: str | None = None
    options: dict[str, float | int | str | bool] = {}
    reset: Literal["stream", "cut"] = "stream"


class Quantiles(_Strict, frozen=True, kw_only=True):
    """Reference quantiles: ``values[i]`` is the score below which the fraction ``i / (n - 1)`` of ``dataset`` lies."""

    dataset: str
    values: tuple[float, ...]


class Target(_Strict, frozen=True, kw_only=True):
    """A predicted quantity. ``window_s`` is half-open, (t - w, t]; ``sampling`` is the published preset (S7, K3
    ...)."""

    name: str
    source: str = msgspec.field(name="from")
    aggregate: Aggregate = "mean"
    window_s: float = 7.0
    sampling: Literal["S7", "K3", "S28", "S4", "C16", "C45", "F1", "HMP3", "all"] = "S7"
    quantiles: Quantiles | None = None
    primary: bool = False


class Domain(_Strict, frozen=True, kw_only=True):
    """Out-of-domain flag: embedding output, training mean and per-axis standard deviation, threshold on the
    distance."""

    source: str = msgspec.field(name="from")
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float


class Training(_Strict, frozen=True, kw_only=True):
    """What the weights were trained on. ``status`` ``untrained`` is shown wherever a score is shown."""

    status: Literal["trained", "untrained"]
    datasets: tuple[str, ...] = ()
    held_out: str | None = None
    spearman: float | None = None
    spearman_interval: tuple[float, float] | None = None
    notes: str = ""


class Calibration(_Strict, frozen=True, kw_only=True):
    """How the range table was made; none for float bundles."""

    method: str
    frames: int
    source: str
    per_method: dict[str, float] = {}
    sha256: str | None = None


class Promoted(_Strict, frozen=True, kw_only=True):
    """A layer kept in float by the fidelity gate, and why."""

    node: str
    layer: str
    reason: str


class Golden(_Strict, frozen=True, kw_only=True):
    """Golden frames: the file, and per lowering the tolerance that its recorded scores must meet on any device."""

    file: FileEntry
    frames: int
    tolerance: dict[Lowering, float]
    preprocess_tolerance: float = 1.0


class Provenance(_Strict, frozen=True, kw_only=True):
    """Where the bundle comes from.

    Attributes:
        excluded: graph nodes without an int8 lowering in a bundle that has some, each with its reason.
        options: of the model, as they are typed.
        extractors: host extractors that the parameters belong to, name to version.
    """

    model: str
    precision: tuple[Literal["fp32", "fp16", "int8"], ...]
    training: Training
    licence: str
    created: str
    tools: dict[str, str]
    calibration: Calibration | None = None
    excluded: tuple[str, ...] = ()
    promoted: tuple[Promoted, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    options: dict[str, str] = {}
    extractors: dict[str, str] = {}


class Manifest(_Strict, frozen=True, kw_only=True):
    """The whole manifest; see :func:`decode`. ``files`` are further files (ranges, fidelity, model card) by role."""

    schema: int
    name: str
    nodes: tuple[Node, ...]
    targets: tuple[Target, ...]
    golden: Golden
    provenance: Provenance
    domain: Domain | None = None
    files: dict[str, FileEntry] = {}

    @property
    def primary(self) -> Target:
        """The primary target."""
        return next(t for t in self.targets if t.primary)

    @property
    def untrained(self) -> bool:
        """Whether the weights were never trained: scores mean nothing and everything that shows them says so."""
        return self.provenance.training.status == "untrained"

    def node(self, name: str) -> Node:
        """The node called ``name``; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def lowering_of(node: Node, wanted: str) -> str:
    """The lowering of a graph node's file that runs when its bundle runs in ``wanted``: the same one where the node has
    it, else its best float form. Nodes whose operators or size speak against int8 have no int8 file."""
    return next((low for low in (wanted, *_STAND_INS.get(wanted, ())) if low in node.files), wanted)


def decode(data: bytes) -> Manifest:
    """Decode and check a manifest.

    Raises:
        BundleError: not JSON, a newer schema, an unknown or missing field, or a dataflow that contradicts itself.
    """
    try:
        head = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"manifest.json is not JSON: {error}") from None
    version = head.get("schema") if isinstance(head, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise BundleError("manifest.json has no integer field 'schema'; expected 1")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"manifest schema {version}; this memedge reads {SCHEMA_VERSION}", fix="pip install --upgrade memedge"
        )
    if version < 1:
        raise BundleError(f"manifest schema {version}; expected {SCHEMA_VERSION}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"manifest.json: {error}") from None
    from .manifest_rules import check

    check(manifest)
    return manifest


def encode(manifest: Manifest) -> bytes:
    """The manifest as indented JSON, UTF-8, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the manifest."""
    schema = msgspec.json.schema(Manifest)
    # msgspec leaves out what it checks of a mapping's keys.
    for record, field in (("Node", "files"), ("Golden", "tolerance")):
        schema["$defs"][record]["properties"][field]["propertyNames"] = {"enum": list(LOWERINGS)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "memedge bundle manifest", **schema}
