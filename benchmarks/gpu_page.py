"""A record of gpu_hardware.py as a page for people."""

from __future__ import annotations

from typing import Any


def page(record: dict[str, Any]) -> str:
    """The page; steps that failed or were left out are named with the reason."""
    steps = record["steps"]
    lines = [f"# GPU, {record['date']}, {record['device']}", ""]
    if record["dry"]:
        lines += ["**On the fake driver: a test of the script, no measurement.**", ""]
    lines += [_machine(record), "", "| step | | seconds |", "|---|---|---:|"]
    for label, found in steps.items():
        state = f"left out: {found['left out']}" if "left out" in found else _state(found)
        lines.append(f"| {label} | {state} | {found.get('seconds', 0):.0f} |")
    for label, found in steps.items():
        for text in found.get("failures", [])[:10]:
            lines += ["", f"**{label}:** {text}"]
    lines += _kernel(steps.get("kernel", {}))
    lines += _speed(steps.get("speed", {}))
    lines += _graph(steps.get("graph", {}))
    lines += _plain("A 1080p NV12 frame in different memory", steps.get("memory", {}))
    lines += _plain("ONNX Runtime, default bundle, float graph", steps.get("onnxruntime", {}))
    return "\n".join(lines) + "\n"


def _state(found: dict[str, Any]) -> str:
    failures = found.get("failures", [])
    return f"**failed** ({len(failures)})" if failures else "done"


def _machine(record: dict[str, Any]) -> str:
    device, machine = record["steps"].get("device", {}), record["machine"]
    parts = []
    if "capability" in device:
        parts.append(
            f"{device['name']}, compute capability {device['capability']}, {device['multiprocessors']} "
            f"multiprocessors, {device['memory_mib']} MiB, driver of CUDA {device['cuda']}, "
            f"{'integrated' if device['integrated'] else 'discrete'}; the kernel's PTX loads in "
            f"{device['ptx_load_ms']:.0f} ms"
        )
    told = machine.get("nvidia_smi", {})
    if "driver_version" in told:
        parts.append(f"driver {told['driver_version']}, SM clock {told['clocks.sm']} of {told['clocks.max.sm']}")
    host = (machine.get("board") or machine.get("cpu"), machine.get("system"), machine.get("python"))
    parts.append(", ".join(str(part) for part in host if part))
    packages = machine.get("packages", {})
    parts.append(", ".join(f"{name} {version}" for name, version in packages.items()))
    return "; ".join(part for part in parts if part) + "."


def _kernel(found: dict[str, Any]) -> list[str]:
    if "tensors_compared" not in found:
        return []
    lines = ["", "## The kernel's results", ""]
    if found["not_compared_because"]:
        lines.append(f"Not compared with the CPU path: {found['not_compared_because']}.")
    else:
        equal, compared = found["tensors_equal_to_cpu_path"], found["tensors_compared"]
        lines.append(f"{equal} of {compared} tensors are equal to the CPU path's, byte for byte.")
    lines.append(f"At most {found['largest_difference_levels']:.3f} levels from the float reference.")
    return lines


def _speed(found: dict[str, Any]) -> list[str]:
    if "rows" not in found:
        return []
    lines = ["", "## The kernel's speed", ""]
    lines += [
        f"Copy within device memory: {found['copy_gb_s']:.0f} GB/s (read and written). The kernel alone, to 224x224 "
        "float16, frames on the device; bytes: what the crop needs of the source, and the tensor.",
        "",
        "| frames | size | format | ms | us a frame | GB/s | of the copy's |",
        "|---:|---|---|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        head = f"| {row['frames']} | {row['size']} | {row['format']} |"
        if "left_out" in row:
            lines.append(f"{head} {row['left_out']} | | | |")
            continue
        lines.append(
            f"{head} {row['ms']:.4f} | {row['us_per_frame']:.1f} | {row['gb_s']:.0f} | {row['of_copy_bandwidth']:.0%} |"
        )
    return lines


def _graph(found: dict[str, Any]) -> list[str]:
    if "plain" not in found:
        return []
    lines = ["", "## Kernel and read-back of one 1080p frame: call by call, and as a graph", ""]
    lines += ["| | device us | queueing us | round trip us | round trip p99 us |", "|---|---:|---:|---:|---:|"]
    for name in ("plain", "replayed"):
        part = found[name]
        cells = (part["device_us"], part["queue_us"], part["round_trip_us"], part["round_trip_p99_us"])
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in cells) + " |")
    return lines


def _plain(title: str, found: dict[str, Any]) -> list[str]:
    shown = {name: value for name, value in found.items() if name not in ("failures", "seconds", "left out")}
    if not shown:
        return []
    lines = ["", f"## {title}", ""]
    for name, value in shown.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append(f"- {name}: {text}")
    return lines
