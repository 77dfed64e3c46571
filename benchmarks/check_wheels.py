"""Does every core dependency exist as a ready-made aarch64 wheel, with everything that it needs itself?

    python benchmarks/check_wheels.py [--python 3.10 3.12] [--json FILE]

Asks pip to resolve the core for Jetsons and other 64-bit ARM boards without building anything. Exit code 1 when one
dependency has no wheel. glibc: JetPack 6 and Debian 12 take manylinux_2_35 and older.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEWEST_GLIBC = 35


def core_dependencies() -> list[str]:
    """The `dependencies` of pyproject.toml; read by hand, since Python 3.10 has no TOML reader."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("pyproject.toml has no list of dependencies")
    return re.findall(r'^\s*"([^"]+)"', block[1], re.MULTILINE)


def resolve(requirements: list[str], python: str) -> tuple[list[dict[str, str]], str]:
    """What pip would install for aarch64 and this Python: name, version and wheel; and pip's complaint, if any."""
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(NEWEST_GLIBC, 16, -1)]
    platforms += ["manylinux2014_aarch64", "linux_aarch64"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
        command += ["--ignore-installed", "--target", folder, "--report", str(report), "--only-binary=:all:"]
        command += ["--implementation", "cp", "--python-version", python]
        for platform in platforms:
            command += ["--platform", platform]
        done = subprocess.run([*command, *requirements], capture_output=True, text=True)
        if done.returncode:
            complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return [], "\n".join(complaints or done.stderr.splitlines()[-3:])
        items: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    rows = [
        {
            "name": item["metadata"]["name"],
            "version": item["metadata"]["version"],
            "wheel": item["download_info"]["url"].rpartition("/")[2],
        }
        for item in items
    ]
    return sorted(rows, key=lambda row: row["name"].lower()), ""


def main() -> int:
    """Command line; 0 when everything resolves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=["3.10", "3.12"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    core, answers, failed = core_dependencies(), {}, False
    for python in arguments.python:
        rows, complaint = resolve(core, python)
        answers[python] = rows
        print(f"Python {python}, aarch64, glibc <= 2.{NEWEST_GLIBC}: {len(core)} core dependencies", flush=True)
        if complaint:
            failed = True
            print("  together they do not resolve; one by one:")
            for requirement in core:
                _, alone = resolve([requirement], python)
                print(f"  {requirement:24} {alone or 'resolves'}")
            continue
        names = {re.split(r"[<>=!~ ]", requirement)[0] for requirement in core}
        for row in rows:
            mark = "core" if row["name"].lower() in names else "    "
            print(f"  {mark}  {row['name']:20} {row['version']:14} {row['wheel']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
