"""A record of run_all as a page for people."""

from __future__ import annotations

from typing import Any

_STAGES = ("decode", "preprocess", "infer", "queue", "rolling", "sinks")
_KEPT = {True: "kept", False: "**missed**", None: "reported"}


def page(record: dict[str, Any]) -> str:
    """The page; parts that failed or were left out are named."""
    lines = [f"# Benchmarks, {record['date']}, {record['machine']}", ""]
    lines += _machine(record)
    lines += ["", "## Budgets", "", "| budget | limit | found | | note |", "|---|---|---|---|---|"]
    for budget in record["budgets"]:
        cells = (budget["name"], budget["limit"], budget["found"], _KEPT[budget["kept"]], budget["note"])
        lines.append("| " + " | ".join(cells) + " |")
    for name, reason in record["failed"].items():
        lines += ["", f"**{name} failed:** {reason}"]
    for name, title in (
        ("file", "From a 1080p file"),
        ("prepared", "Frames rendered beforehand, no decoding"),
        ("live", "A live source at 30 frames a second, 1280x720"),
    ):
        if name in record:
            lines += ["", f"## {title}", "", *_bench(record[name])]
    lines += _user_loop(record.get("user_loop", []))
    lines += _engines(record.get("engines", []))
    lines += _rest(record)
    lines += ["", "Definitions: [benchmarks/README.md](../README.md). Everything was measured in one run.", ""]
    return "\n".join(lines)


def _machine(record: dict[str, Any]) -> list[str]:
    machine = record["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    flags = " ".join(machine["flags"])
    kind = " (virtual)" if machine["virtual"] else ""
    power = f", power mode {machine['power_mode']}" if machine["power_mode"] else ""
    cores = f"{machine['usable_cores']} of {machine['cores']} cores"
    return [
        f"{machine['board'] or machine['cpu']}{kind}, {cores}, {machine['machine']}, {flags}; "
        f"governor {machine['governor'] or 'unknown'}{power}; load before {machine['clocks']['load']}.",
        "",
        f"{machine['system']}; {machine['python']}; {packages}.",
    ]


def _bench(report: dict[str, Any]) -> list[str]:
    stages = [stage for stage in _STAGES if any(stage in result["stages"] for result in report["results"])]
    paced = any(result["paced"] for result in report["results"])
    head = ["bundle, engine", *stages, "end to end", "p90", "p99", "max", "frames/s", "CPU ms", "samples"]
    head += ["age p50", "age p99", "dropped"] if paced else ["peak MiB", "first score ms"]
    lines = []
    if report["decoding"]:
        alone = report["decoding"]
        lines = [f"Decoding alone: {alone['wall_ms']:.2f} ms a frame, {alone['cpu_ms']:.2f} ms of processor time.", ""]
    lines += ["Milliseconds, p50 where not said otherwise.", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for result in report["results"]:
        total = result["end_to_end"]
        cells = [result["label"] + (" (UNTRAINED)" if result["untrained"] else "")]
        cells += [f"{result['stages'][s]['p50']:.2f}" if s in result["stages"] else "" for s in stages]
        cells += [f"{total[key]:.2f}" for key in ("p50", "p90", "p99", "max")]
        cells += [f"{result['throughput_fps']:.1f}", f"{result['cpu_ms']:.2f}", str(result["samples"])]
        cells += _last(result, paced)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {text}" for text in report["sentences"])]
    return lines + [f"- WARNING {text}" for text in report["warnings"]]


def _last(result: dict[str, Any], paced: bool) -> list[str]:
    if paced:
        state = result["paced"]
        return [f"{state['age']['p50']:.1f}", f"{state['age']['p99']:.1f}", str(state["dropped"])]
    start = result["start"]
    if not start:
        return ["", ""]
    peak = start["peak_memory_mb"]
    return ["" if peak is None else f"{peak:.0f}", f"{start['first_score_ms']:.0f}"]


def _user_loop(parts: list[dict[str, Any]]) -> list[str]:
    if not parts:
        return []
    lines = ["", "## Beside the loop a user would write", ""]
    lines += ["OpenCV decodes and converts, Pillow resizes, torch runs eagerly in float32, on the same file.", ""]
    for part in parts:
        if "left_out" in part:
            lines += [f"{part['bundle']}: left out: {part['left_out']}", ""]
            continue
        lines += [f"**{part['bundle']}** on `{part['file']}`, torch threads {part['torch_threads']}:", ""]
        lines += ["| | frames/s | times the user's loop |", "|---|---:|---:|"]
        for name, fps in part["fps"].items():
            ratio = part["ratio_to_users_loop"].get(name)
            lines.append(f"| {name} | {fps:.2f} | {'' if ratio is None else format(ratio, '.2f')} |")
        colour = part["cv2_colour"]
        lines += [
            "",
            f"Same RGB frames: scores at most {part['largest_score_difference_same_rgb']:.6f} apart. OpenCV's own "
            f"decoding and colour conversion moves a score by {colour['score_difference_mean']:.4f} (mean; largest "
            f"{colour['score_difference_max']:.4f}), a sample by {colour['pixel_difference_mean_levels']:.2f} levels "
            f"(largest {colour['pixel_difference_max_levels']}).",
            "",
        ]
    return lines


def _engines(parts: list[dict[str, Any]]) -> list[str]:
    measured = [part for part in parts if part]
    if not measured:
        return []
    lines = ["", "## Engines alone", ""]
    lines += ["Median inference in milliseconds, batch 1; the libraries with their defaults.", ""]
    lines += ["| bundle | engine | ms | |", "|---|---|---:|---|"]
    for part in measured:
        for name, value in sorted(part["median_ms"].items(), key=lambda item: item[1]):
            backend, _, lowering = name.removeprefix("memedge ").partition(" ")
            mine = name.startswith("memedge ") and part["auto"] == f"{backend} {_precision(lowering)}"
            lines.append(f"| {part['bundle']} | {name} | {value:.2f} | {'auto' if mine else ''} |")
    return lines


def _precision(lowering: str) -> str:
    return {"fp32": "fp32", "cpu": "int8", "trt-int8": "int8", "trt-fp16": "fp16"}[lowering]


def _rest(record: dict[str, Any]) -> list[str]:
    lines = ["", "## Start, overhead, memory", ""]
    if "start" in record:
        start = record["start"]
        runs = ", ".join(f"{value:.0f}" for value in start["first_score_ms"])
        lines.append(f"- `import memedge`: {start['import_memedge_ms']:.1f} ms")
        lines.append(f"- `memedge run` to the first score: {runs} ms (Python alone {start['python_alone_ms']:.0f} ms)")
    if "overhead" in record:
        own = record["overhead"]
        parts = ", ".join(f"{name} {own['stages_ms'][name]['p50']:.3f}" for name in ("queue", "rolling", "sinks"))
        lines.append(f"- memedge's own part of a frame on the synthetic engine: {own['own_ms']:.3f} ms ({parts})")
    for part in record.get("memory", []):
        sizes = part["resident_mb"]
        lines.append(
            f"- {part['bundle']}, {part['engine']} {part['precision']}, {part['frames']} frames: "
            f"peak {part['peak_mb']:.0f} MB, {sizes[len(sizes) // 2]:.0f} MB half-way, {sizes[-1]:.0f} MB at the end"
        )
    return lines
