"""``fidelity.json``: what the fidelity gate measured of each lowering. Export writes it, ``memedge info`` shows it."""

from __future__ import annotations

import msgspec

from memedge_engines.bundle import Bundle
from memedge_engines.manifest import LOWERINGS, Lowering

from .errors import BundleError

ROLE = "fidelity"
FILE = "fidelity.json"
SCHEMA = 1


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base of every record of the file. A figure that cannot be computed (of scores that are not finite) is none."""


class Human(_Strict, frozen=True, kw_only=True):
    """Rank correlation with human scores, before and after.

    Attributes:
        frames: pictures with a human score.
        float_rho, rho: Spearman of the float scores, and of the lowering's, with the human scores.
        drop: ``float_rho - rho``, as measured; this is what the gate looks at.
        interval: 95 % paired bootstrap interval of the drop.
    """

    frames: int
    float_rho: float
    rho: float
    drop: float
    interval: tuple[float, float]


class Other(_Strict, frozen=True, kw_only=True):
    """Spearman with the float scores on pictures of another kind than the gate's; it warns and never fails."""

    source: str
    frames: int
    spearman: float | None


class Fidelity(_Strict, frozen=True, kw_only=True):
    """How a lowering's scores compare with the float graph's on the gate's pictures.

    Attributes:
        frames: number of pictures.
        finite: whether every score is a finite number.
        float_std: standard deviation of the float scores.
        spearman: rank correlation of the two.
        mean_abs, max_abs: of |difference|, in scores of 0..1.
        std_ratio: standard deviation of the lowering's scores over that of the float scores.
        passed: whether every rule holds; ``reasons`` has a sentence for each that does not.
        warnings: what a person should know although nothing failed.
    """

    frames: int
    finite: bool
    float_std: float | None
    spearman: float | None
    mean_abs: float | None
    max_abs: float | None
    std_ratio: float | None
    passed: bool
    human: Human | None = None
    other: Other | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Promoted(_Strict, frozen=True, kw_only=True):
    """A layer that the gate kept in float.

    Attributes:
        gain: root mean square of what lowering this layer alone does to the scores; what promoting it takes away.
        mac_share: its share of all convolution multiply-adds, 0..1.
    """

    layer: str
    reason: str
    gain: float
    mac_share: float


class MethodResult(_Strict, frozen=True, kw_only=True):
    """What one calibration method gave, before any promotion."""

    method: str
    spearman: float | None
    mean_abs: float | None
    std_ratio: float | None
    passed: bool


class Speed(_Strict, frozen=True, kw_only=True):
    """Median milliseconds of one inference (batch of one, no preprocessing) on the machine that exported.

    ``unpromoted_ms``: of the lowering without promotions; none when nothing was promoted.
    """

    machine: str
    engine: str
    threads: int
    runs: int
    float_ms: float
    lowered_ms: float
    unpromoted_ms: float | None = None


class LoweringFidelity(_Strict, frozen=True, kw_only=True):
    """One lowering at the gate.

    Attributes:
        passed: whether it passed: its fidelity, and its share of int8.
        allowed: it did not pass and was written all the same (``--allow``).
        reasons: why it did not pass.
        mac_share: share of convolution multiply-adds that are lowered, 0..1.
        tries: lowerings that were measured until this one.
        floated: layer to the reason why it cannot be lowered at all.
        method: calibration method, with the results of every one that was tried in ``methods``.
    """

    fidelity: Fidelity
    passed: bool
    mac_share: float
    tries: int
    allowed: bool = False
    reasons: tuple[str, ...] = ()
    promoted: tuple[Promoted, ...] = ()
    floated: dict[str, str] = {}
    method: str | None = None
    methods: tuple[MethodResult, ...] = ()
    speed: Speed | None = None


class GateFrames(_Strict, frozen=True, kw_only=True):
    """The gate's pictures: where they are from, how many, and the hash over the list of their hashes."""

    source: str
    frames: int
    sha256: str | None = None


class FidelityFile(_Strict, frozen=True, kw_only=True):
    """The whole file."""

    gate: GateFrames
    lowerings: dict[Lowering, LoweringFidelity]
    schema: int = SCHEMA


def encode(file: FidelityFile) -> bytes:
    """The file as indented JSON, UTF-8, with a final newline; what it holds is what :func:`decode` accepts.

    Raises:
        BundleError: a figure that is not finite where one is needed.
    """
    data = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    decode(data)
    return data


def decode(data: bytes) -> FidelityFile:
    """Decode and check a ``fidelity.json``.

    Raises:
        BundleError: not JSON, a newer schema, an unknown, missing or impossible field.
    """
    try:
        head = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(f"{FILE} is not JSON: {error}") from None
    version = head.get("schema") if isinstance(head, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{FILE} has no field 'schema' of {SCHEMA}")
    if version > SCHEMA:
        raise BundleError(
            f"{FILE} of schema {version}; this memedge reads {SCHEMA}", fix="pip install --upgrade memedge"
        )
    try:
        file = msgspec.json.decode(data, type=FidelityFile)
    except msgspec.ValidationError as error:
        raise BundleError(f"{FILE}: {error}") from None
    for name, one in file.lowerings.items():
        if not 0 <= one.mac_share <= 1:
            raise BundleError(f"{FILE}: {name} has mac_share {one.mac_share:g}; expected 0 to 1")
        if one.passed and (one.allowed or not one.fidelity.passed):
            raise BundleError(f"{FILE}: {name} contradicts itself: passed, and yet it failed")
        if one.speed is not None and min(one.speed.float_ms, one.speed.lowered_ms) <= 0:
            raise BundleError(f"{FILE}: {name} has an inference that takes no time; expected more than 0 ms")
    return file


def read(bundle: Bundle) -> FidelityFile | None:
    """What the gate measured of a bundle's lowerings; none for a bundle without such a file.

    Raises:
        BundleError: the file is missing, altered or not what it should be.
    """
    entry = bundle.manifest.files.get(ROLE)
    return None if entry is None else decode(bundle.read(entry))


def lines(file: FidelityFile) -> list[str]:
    """Everything that was measured, in whole lines for people."""
    out = [f"fidelity gate: {file.gate.frames} pictures, {' '.join(file.gate.source.split())}"]
    for name in LOWERINGS:
        if name in file.lowerings:
            out += [f"fidelity {name}: {text}" for text in _lowering_lines(name, file.lowerings[name])]
    return out


def _lowering_lines(name: str, one: LoweringFidelity) -> list[str]:
    found = one.fidelity
    verdict = "passed" if one.passed else "FAILED, written because it was allowed" if one.allowed else "FAILED"
    kind = "16 bits" if name == "trt-fp16" else "int8"
    out = [
        f"{verdict}: Spearman {_number(found.spearman)}, mean |difference| {_number(found.mean_abs)} "
        f"(largest {_number(found.max_abs)}), spread {_number(found.std_ratio, 3)} of float's",
        f"{100 * one.mac_share:.1f} % of convolution multiply-adds in {kind}",
    ]
    out += [f"FAILED: {reason}" for reason in one.reasons]
    if found.human is not None:
        human, (low, high) = found.human, found.human.interval
        out.append(
            f"rank correlation with human scores {human.float_rho:.4f} in float, {human.rho:.4f} lowered: drop "
            f"{human.drop:.4f} (95 % interval {low:.4f} to {high:.4f}, {human.frames} pictures)"
        )
    if found.other is not None:
        other = found.other
        out.append(f"on {other.frames} pictures of another kind ({other.source}): Spearman {_number(other.spearman)}")
    out += [f"warning: {text}" for text in found.warnings]
    out += [f"promoted to float: {p.layer} ({100 * p.mac_share:.1f} %): {p.reason}" for p in one.promoted]
    out += [f"float: {layer}: {reason}" for layer, reason in sorted(one.floated.items())]
    if one.speed is not None:
        out.append(_speed_line(one.speed))
    for result in one.methods:
        chosen = " (chosen)" if result.method == one.method else ""
        out.append(
            f"calibration {result.method}{chosen}: Spearman {_number(result.spearman)}, "
            f"mean |difference| {_number(result.mean_abs)}"
        )
    return out


def _speed_line(speed: Speed) -> str:
    cost = ""
    if speed.unpromoted_ms is not None:
        cost = f", {speed.unpromoted_ms:.2f} ms without promotions"
    threads = f"{speed.threads} thread{'s' if speed.threads != 1 else ''}"
    return (
        f"{speed.lowered_ms:.2f} ms an inference{cost}, float {speed.float_ms:.2f} ms "
        f"({speed.float_ms / speed.lowered_ms:.2f} times as fast; {speed.engine}, {threads}, {speed.machine})"
    )


def _number(value: float | None, places: int = 4) -> str:
    return "none" if value is None else f"{value:.{places}f}"
