"""The zoo's table in Markdown, from what ``zoo.py`` found."""

from __future__ import annotations

from typing import Any

from memedge.models import cards

_MIXED = ("lmh", "lms", "lhs", "mhs", "lm", "lh", "ls", "mh", "ms", "hs")


def markdown(result: dict[str, Any]) -> str:
    """A row an id; a blank is something that was not done, and why stands below the table."""
    known = {card.id: card for card in cards()}
    head = (
        "| id | parameters | GMAC | counts as published | trained a step | public files | graph = torch, full size "
        "| int8 (cpu) | int8 (trt) | fp16 | TensorRT-RTX builds | streamed = offline | ms a run of each node | load |"
    )
    lines = [_INTRODUCTION, "", head, "|" + "---|" * 14]
    reasons: list[str] = []
    for name in sorted(set(result) & set(known)):
        lines.append(_row(known[name], result[name], reasons))
    reasons += [f"- {name}: {text}" for name, text in _NOTES.items() if name in result]
    shared = [name for name in _TWINS if "of_m3s" in result.get(name, {}).get("full", {})]
    if shared:
        reasons.append(
            f"- {', '.join(shared)}: heads at full size are their own; parity and times of HRNet, CSN and "
            "HOG's components, which are those of m3s, are of that row"
        )
    twins = [name for name in _TWINS if name in result and "narrow" not in result[name]]
    if twins:
        reasons.append(f"- {', '.join(twins)}: not lowered one by one: m3s (m3s-sim without m) has their networks")
    missing = sorted(
        card.id for card in cards() if card.id not in result and not card.ours and card.status == "available"
    )
    if missing:
        reasons.append(f"- not run: {', '.join(missing)}")
    return "\n".join([*lines, "", "## Reasons", "", *reasons, ""])


_INTRODUCTION = """# Every published system, checked

Written by `benchmarks/zoo.py table` from `zoo.json`. Random weights; parameters, MACs, parity and times are of the
full size, in ONNX Runtime on two virtual cores of a 2.8 GHz Xeon with little else running (medians of three; clocks
wander by a third); int8, fp16 and TensorRT-RTX (real parser and strongly typed builder, no GPU) are of a copy an
eighth as wide, calibrated on 32 and judged on 48 generated pictures or moving clips. "trained a step", "public files"
and "streamed" are tests that ran (`zoo.py tests`): each phase of the recipe for a few steps on generated data; files
with the public names and shapes; the live score at the end of the published window against torch on frames picked by
the published rule. Load: seconds of one inference thread pool a second of video, at the published cadence, on the
float graph. Cells of a lowering: Spearman
with the float score, share of multiply-adds in low precision."""


_NOTES = {
    "amnetvid": "what int8 costs comes through the attention maps: with the maps in int8 and the score in float the "
    "final score's Spearman was .878 on 40 generated clips, with the score in int8 and the maps in float 1.000 (an "
    "eighth as wide, all layers, percentile). Random weights attend to all places nearly alike, and the system's own "
    "rendering stretches each map to the whole range; trained weights were not at hand",
    "inceptionv3-mlp": "at full size, calibrated on 512 generated pictures (`memedge export --model inceptionv3-mlp "
    "--int8` as it stands): Spearman .9983 (cpu) and .9982 (trt), all of the work in int8",
    "m3s-sim": "with HRNet in int8 the score's Spearman was .890 (cpu) and .904 (trt), an eighth as wide with random "
    "weights: it is kept in half precision wherever its features are read through their nearest cluster alone",
    "resnet3d34": "on TensorRT it is half precision, as models of dense 3-D convolutions are; int8 is the CPU's form",
}
"""What was looked into."""

_TWINS = tuple(f"m3s-{x}" for x in _MIXED)
"""Combinations of modules whose every network stands in the row m3s, too; their counts are tested, see the card."""


def _row(card: Any, found: dict[str, Any], reasons: list[str]) -> str:
    name = card.id
    full, narrow, tests = (found.get(key, {}) for key in ("full", "narrow", "tests"))
    if not full:
        reasons.append(f"- {name}: not run at full size")
    if not narrow and name not in _TWINS:
        reasons.append(f"- {name}: lowerings and TensorRT-RTX not run")
    for stage, part in (("full", full), ("narrow", narrow)):
        if "error" in part:
            reasons.append(f"- {name}, {stage}: {part['error']}")
    for lowering, one in narrow.get("fidelity", {}).items():
        reasons.extend(f"- {name}, {lowering}: {text}" for text in one.get("reasons", ()))
    for line in narrow.get("excluded", ()):
        reasons.append(f"- {name}: {line}")
    worst = max(full.get("worst", {}).values(), default=None)
    nodes = ", ".join(f"{node} {one['ms']:.3g}" for node, one in full.get("nodes", {}).items())
    load = full.get("seconds_per_second")
    cells = [
        f"`{name}`",
        f"{full['parameters']:,}" if "parameters" in full else "",
        f"{full['macs'] / 1e9:.3g}" if "macs" in full else "",
        tests.get("counts", ""),
        tests.get("trained", ""),
        tests.get("imported", ""),
        "" if worst is None else f"within {worst:.1g}",
        *(_lowering(narrow, lowering) for lowering in ("cpu", "trt-int8", "trt-fp16")),
        _rtx(name, narrow.get("rtx", {}), reasons),
        tests.get("streamed", ""),
        nodes,
        "" if load is None else f"{load:.2g}",
    ]
    return "| " + " | ".join(cells) + " |"


def _lowering(narrow: dict[str, Any], lowering: str) -> str:
    one = narrow.get("fidelity", {}).get(lowering)
    if one is None:
        return ""
    rho = "none" if one["spearman"] is None else f"{one['spearman']:.4f}"
    return f"{rho}, {one['share']:.0%}" + ("" if one["passed"] else " (gate not passed)")


def _rtx(name: str, nodes: dict[str, dict[str, str]], reasons: list[str]) -> str:
    if not nodes:
        return ""
    built = 0
    for node, lowerings in nodes.items():
        refused = {lowering: text for lowering, text in lowerings.items() if text != "built"}
        built += not refused
        reasons.extend(f"- {name}, TensorRT-RTX on {node} ({key}): {text}" for key, text in refused.items())
    return "yes" if built == len(nodes) else f"{built} of {len(nodes)} nodes"


BEGIN, END = "<!-- zoo: written by benchmarks/zoo.py readme -->", "<!-- end of zoo -->"
_CLASSES = ((0.2, "nano"), (2.2, "small"), (16.0, "medium"))
_PRECISIONS = {"cpu": "int8", "trt-int8": "int8", "trt-fp16": "fp16"}


def readme(text: str, result: dict[str, Any]) -> str:
    """The README with its table of systems written anew."""
    head = "| model | kind | input | parameters | GMAC | class | precisions | published Spearman | source |"
    rows = [head, "|" + "---|" * 9]
    rows += [_readme_row(card, result) for card in cards() if not card.ours]
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}"


def _readme_row(card: Any, result: dict[str, Any]) -> str:
    found = result.get(card.id, {})
    cells = [
        f"`{card.id}`",
        card.kind,
        card.input,
        "" if card.parameters is None else f"{card.parameters / 1e6:.3g} M",
        "" if card.macs is None else f"{card.macs / 1e9:.3g}",
        load_class(found),
        _like(card.id) if card.id in _TWINS and "narrow" not in found else precisions(found),
        card.published,
        card.source,
    ]
    return "| " + " | ".join(cells) + " |"


def _like(name: str) -> str:
    """HRNet is int8 where its own features are read, as in m3s; elsewhere precisions are those of m3s-sim."""
    return "as `m3s`" if "m" in name.removeprefix("m3s-") else "as `m3s-sim`"


def load_class(found: dict[str, Any]) -> str:
    """Class by multiply-adds a second of video at the published cadence; empty where they were not counted."""
    nodes = found.get("full", {}).get("nodes", {})
    if not nodes or any("macs" not in one for one in nodes.values()):
        return ""
    load = sum(one["macs"] / 1e9 / one["period_s"] for one in nodes.values() if one["period_s"])
    return next((name for limit, name in _CLASSES if load <= limit), "large")


def precisions(found: dict[str, Any]) -> str:
    """Precisions whose lowerings passed the gate, an eighth as wide; fp32 always."""
    passed = [_PRECISIONS[name] for name, one in found.get("narrow", {}).get("fidelity", {}).items() if one["passed"]]
    return ", ".join(["fp32", *(name for name in ("fp16", "int8") if name in passed)])
