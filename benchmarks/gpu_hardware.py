"""What only a GPU can show, on a machine that has one: one command, no bundle, no network, at most ten minutes.

    python benchmarks/gpu_hardware.py --out benchmarks/results [--pycuda pycuda-2026.1.tar.gz] [--minutes 10]

Needs the package with cuda-python (`pip install -e '.[cuda]'`) and a driver. In this order: the device; the driver
seam's checks through cuda-python and through PyCUDA (the installed one, or built here from the archive that
``--pycuda`` names, for which nvcc and a C++ compiler must be there); the preprocessing kernel in all formats against
the CPU path and the float reference; its speed beside the measured copy bandwidth; capture and replay; ordinary,
page-locked and mapped memory; compute-sanitizer where it is installed; ONNX Runtime's CUDA provider with the default
bundle where it is installed.

Each step runs in a process of its own with a time limit, so that one that fails, hangs or crashes hides no other.
Writes ``<date>-<device>-gpu.json`` and ``.md``. Exit code 1 when a step failed; what is not installed is left out and
said. ``--dry`` runs the same on the fake driver, whose kernel does nothing: a test of this script.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LIMIT_S = {"kernel": 240, "speed": 180, "pycuda build": 300, "sanitizer": 150, "onnxruntime": 120}
_USUAL_LIMIT_S = 90
LEFT_OUT = "left out"
_NO_PROVIDER = 3
# Scores between 0 and 1 on the CUDA provider beside fp32 on the CPU: sums in another order; half precision.
_SCORES_APART = {"fp32": 1e-4, "fp16": 5e-3}
_ASKED = "name,driver_version,vbios_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,power.limit,ecc.mode.current"


class Run:
    """One run of the script: where it is, how much time is left, what was found.

    Args:
        dry: on the fake driver.
        minutes: what may be spent in all; steps that come too late are left out.
    """

    def __init__(self, dry: bool, minutes: float) -> None:
        self.dry = dry
        self._ends = time.monotonic() + minutes * 60
        self.steps: dict[str, dict[str, Any]] = {}
        self.environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engines"), *filter(None, sys.path)]),
        }  # fmt: skip

    def left_s(self) -> float:
        """Seconds left."""
        return self._ends - time.monotonic()

    def leave_out(self, label: str, why: str) -> None:
        """Note that a step was not done, and why."""
        self.steps[label] = {LEFT_OUT: why}

    def step(
        self,
        label: str,
        name: str,
        provider: str = "cuda-python",
        small: bool = False,
        before: Sequence[str] = (),
        path: Path | None = None,
    ) -> dict[str, Any]:
        """A step of ``gpu_steps`` in a child process; ``before``: words before the interpreter (a checking tool)."""
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            words = [*before, sys.executable, __file__, "--step", name, "--provider", provider, "--json", str(result)]
            words += [flag for flag, wanted in (("--dry", self.dry), ("--small", small)) if wanted]
            done = self.command(label, words, _LIMIT_S.get(label, _USUAL_LIMIT_S), path)
            if done is not None:
                found = json.loads(result.read_text()) if result.is_file() else {"failures": []}
                if done.returncode and not found.get("failures"):
                    how = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
                    found["failures"] = [f"{how}: {_end(done.stdout)}"]
                self.steps[label] = found | {"seconds": self.steps[label]["seconds"]}
        return self.steps[label]

    def command(
        self, label: str, words: Sequence[str], limit_s: float, path: Path | None = None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str] | None:
        """Run a command under the step's limit; its output, or none where it could not be run or was too slow."""
        limit = min(limit_s, self.left_s())
        if limit < 5:
            self.leave_out(label, "no time was left")
            return None
        say(label)
        environment = dict(self.environment)
        if path is not None:
            environment["PYTHONPATH"] = f"{path}{os.pathsep}{environment['PYTHONPATH']}"
        began = time.monotonic()
        try:
            done = subprocess.run(
                list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                timeout=limit, env=environment, check=False, cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            said = error.stdout.decode("utf-8", "replace") if isinstance(error.stdout, bytes) else error.stdout or ""
            self.steps[label] = {"failures": [f"not done after {limit:.0f} s: {_end(said)}"], "seconds": limit}
            return None
        except OSError as error:
            self.steps[label] = {"failures": [str(error)], "seconds": 0.0}
            return None
        self.steps[label] = {"seconds": time.monotonic() - began}
        return done


def say(text: str) -> None:
    """A line of progress on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _end(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[:600] or "it said nothing"


def machine() -> dict[str, Any]:
    """The machine as far as files and nvidia-smi tell it."""
    found: dict[str, Any] = {}
    try:
        import msgspec

        from memedge.environment import environment

        found |= json.loads(msgspec.json.encode(environment()))
    except Exception as error:  # a description must not stop the measurement
        found["incomplete"] = repr(error)
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        query = [tool, f"--query-gpu={_ASKED}", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        lines = told.stdout.strip().splitlines()
        values = dict(zip(_ASKED.split(","), lines[0].split(", "), strict=False)) if lines else {}
        found["nvidia_smi"] = values or {"failed": _end(told.stderr)}
    return found


def pycuda(run: Run, archive: Path | None) -> None:
    """The seam's checks and the kernel through PyCUDA, installed or built here."""
    label = "conformance, PyCUDA"
    with tempfile.TemporaryDirectory() as folder:
        path: Path | None = None
        if archive is not None and not run.dry:
            path = Path(folder) / "site"
            if not build_pycuda(run, archive, Path(folder), path):
                run.leave_out(label, "it could not be built here")
                return
        elif not run.dry:
            import importlib.util

            if importlib.util.find_spec("pycuda") is None:
                run.leave_out(label, "PyCUDA is not installed; --pycuda ARCHIVE builds it here")
                return
        run.step(label, "conformance", "pycuda", path=path)
        run.step("kernel, PyCUDA", "kernel", "pycuda", small=True, path=path)


def cuda_root() -> Path | None:
    """Folder of the CUDA toolkit; a script named nvcc on the PATH may stand elsewhere."""
    named = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_ROOT", ""), "/usr/local/cuda"]
    found = shutil.which("nvcc")
    beside = [Path(found).resolve().parent.parent] if found else []
    for root in (*(Path(name) for name in named if name), *beside, *sorted(Path("/usr/local").glob("cuda-*"))):
        if (root / "include" / "cuda.h").is_file():
            return root.resolve()
    return None


def driver_library() -> Path | None:
    """Where the driver's library was loaded from."""
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    return next((Path(line.split()[-1]) for line in lines if "/libcuda.so" in line), None)


def build_pycuda(run: Run, archive: Path, folder: Path, path: Path) -> bool:
    """Build PyCUDA from its source archive, without cuRAND, into a folder; what went wrong is in the record."""
    label = "pycuda build"
    root = cuda_root()
    if root is None:
        run.leave_out(label, "no CUDA toolkit: nvcc, or include/cuda.h beside it, is not there")
        return False
    drivers = folder / "drivers"
    drivers.mkdir()
    if (library := driver_library()) is not None:
        # The linker wants libcuda.so; a machine without the toolkit's stubs has libcuda.so.1 alone.
        (drivers / "libcuda.so").symlink_to(library)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else packed.extractall(folder)
    source = next(entry for entry in folder.iterdir() if (entry / "configure.py").is_file())
    install = ["-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir", "--target"]
    configure = [sys.executable, "configure.py", f"--cuda-root={root}", "--no-cuda-enable-curand"]
    configure.append(f"--cudadrv-lib-dir={drivers},{root}/lib64,{root}/lib64/stubs")
    for words in (configure, [sys.executable, *install, str(path), "."]):
        done = run.command(label, words, _LIMIT_S[label], folder=source)
        if done is None:
            return False
        if done.returncode:
            run.steps[label]["failures"] = [f"exit {done.returncode}: {_end(done.stdout)}"]
            return False
    return True


def sanitizer(run: Run) -> None:
    """The kernel under compute-sanitizer: no access outside its memory, no race in shared memory."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    for kind in ("memcheck", "racecheck"):
        label = f"compute-sanitizer {kind}"
        if run.dry or not Path(tool).is_file():
            run.leave_out(label, "compute-sanitizer is not installed")
            continue
        words = [tool, "--tool", kind, "--error-exitcode", "9"]
        run.step(label, "kernel", small=True, before=words)


def onnxruntime(run: Run) -> None:
    """The default bundle's float graph on ONNX Runtime's CUDA provider, beside the CPU provider."""
    label = "onnxruntime"
    bundle = ROOT / "memedge" / "bundles" / "default"
    if run.dry or not bundle.is_dir():
        run.leave_out(label, "on the fake driver" if run.dry else "the default bundle is not there")
        return
    words = [sys.executable, str(Path(__file__).with_name("gpu_onnxruntime.py")), str(bundle)]
    done = run.command(label, words, _LIMIT_S[label])
    if done is None:
        return
    if done.returncode == _NO_PROVIDER:
        run.leave_out(label, f"no CUDA provider: {_end(done.stdout)}")
    elif done.returncode:
        run.steps[label]["failures"] = [f"exit {done.returncode}: {_end(done.stdout)}"]
    else:
        found = json.loads(done.stdout.strip().splitlines()[-1])
        run.steps[label] |= found | {
            "failures": [
                f"{precision} scores differ by {apart:.2g}, more than {_SCORES_APART[precision]:g}"
                for precision, apart in found["largest_differences"].items()
                if not apart <= _SCORES_APART[precision]
            ]
        }


def measure(run: Run, archive: Path | None) -> dict[str, Any]:
    """All steps; the record."""
    device = run.step("device", "device")
    run.step("conformance, cuda-python", "conformance")
    run.step("kernel", "kernel")
    run.step("speed", "speed")
    run.step("graph", "graph")
    run.step("memory", "memory")
    sanitizer(run)
    pycuda(run, archive)
    onnxruntime(run)
    failed = [label for label, found in run.steps.items() if found.get("failures")]
    return {
        "date": datetime.date.today().isoformat(),
        "dry": run.dry,
        "device": device.get("name", "no device"),
        "machine": machine(),
        "steps": run.steps,
        "failed": failed,
    }


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description="What only a GPU can show.")
    parser.add_argument("--out", type=Path, help="folder of the result files; default: they are only printed")
    parser.add_argument("--pycuda", type=Path, metavar="ARCHIVE", help="build PyCUDA here from its source archive")
    parser.add_argument("--minutes", type=float, default=10.0, help="what may be spent in all")
    parser.add_argument("--dry", action="store_true", help="on the fake driver: a test of this script")
    for hidden in ("--step", "--provider", "--json"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.step:
        from gpu_steps import run as run_step

        found = run_step(given.step, given.provider, given.dry, given.small)
        Path(given.json).write_text(json.dumps(found), encoding="utf-8")
        return 1 if found.get("failures") else 0
    if given.pycuda is not None and not given.pycuda.is_file():
        parser.error(f"--pycuda: no file {given.pycuda}")
    from gpu_page import page

    record = measure(Run(given.dry, given.minutes), given.pycuda)
    text = page(record)
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        device = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
        name = f"{record['date']}-{device}-gpu"
        (given.out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (given.out / f"{name}.md").write_text(text, encoding="utf-8")
        say(f"written: {given.out / name}.json and .md")
    for label in record["failed"]:
        say(f"FAILED: {label}: {record['steps'][label]['failures'][0]}")
    return 1 if record["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
