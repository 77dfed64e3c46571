"""Start-up: ``import memedge``, and ``memedge run`` from the start of the process to the first score on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Budget, child_environment, finish, median, parser, say
from media import clip

_RUN = "import sys; from memedge.cli import main; sys.argv[0] = 'memedge'; main()"
_IMPORT = """
import json, sys, time
begin = time.perf_counter()
import memedge
spent = time.perf_counter() - begin
print(json.dumps([spent, sorted(set(sys.modules) & {"av", "cv2", "onnxruntime", "openvino", "PIL", "numpy", "torch"})]))
"""
_LIMIT_S = 60.0


def measure(video: Path, bundle: Path | None = None, runs: int = 5) -> tuple[dict[str, Any], list[Budget]]:
    """Milliseconds of both, and the budgets on them.

    Args:
        bundle: none: the default one.
        runs: processes started for each figure; the first score with an empty cache and with a warm one.
    """
    imports = [_import() for _ in range(runs)]
    loaded = imports[0][1]
    with tempfile.TemporaryDirectory() as cache:
        first = [_first_score(video, bundle, cache) for _ in range(runs)]
    bare = [_python() for _ in range(runs)]
    import_ms = median([spent for spent, _ in imports])
    score_ms = median(first)
    figures = {
        "import_memedge_ms": round(import_ms, 2),
        "imported_with_it": loaded,
        "first_score_ms": [round(value, 1) for value in first],
        "python_alone_ms": round(median(bare), 1),
        "file": video.name,
    }
    note = "default bundle, nothing remembered"
    return figures, [
        Budget.at_most("import memedge", import_ms, 200, "ms"),
        Budget("import memedge loads no decoder and no engine", "none", ", ".join(loaded) or "none", not loaded),
        Budget.at_most("memedge run: process start to first score", score_ms, 1000, "ms", note),
    ]


def _import() -> tuple[float, list[str]]:
    command = [sys.executable, "-c", _IMPORT]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=_LIMIT_S, env=child_environment()
    )
    spent, loaded = json.loads(found.stdout)
    return spent * 1e3, loaded


def _python() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=_LIMIT_S)
    return (time.perf_counter() - begin) * 1e3


def _first_score(video: Path, bundle: Path | None, cache: str) -> float:
    """Milliseconds from the start of ``memedge run`` to the first line of JSON Lines with a score."""
    command = [sys.executable, "-c", _RUN, "run", "--source", str(video), "--jsonl", "-", "--quiet"]
    command += ["--bundle", str(bundle)] if bundle is not None else []
    begin = time.perf_counter()
    own = child_environment(MEMEDGE_CACHE=cache)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=own) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        spent = None
        for line in process.stdout:
            if json.loads(line).get("score") is not None:
                spent = (time.perf_counter() - begin) * 1e3
                break
        process.kill()
        if spent is None:
            raise RuntimeError(f"memedge run gave no score: {process.stderr.read().decode()}")
    return spent


def main() -> None:
    """Measure, print figures and budgets."""
    arguments = parser(__doc__ or "").parse_args()
    say("start-up")
    figures, budgets = measure(clip(), arguments.bundle[0] if arguments.bundle else None)
    finish("start", figures, budgets, arguments.json)


if __name__ == "__main__":
    main()
