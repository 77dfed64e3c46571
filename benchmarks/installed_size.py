"""How much disk memedge takes with its core dependencies: without pip and without the default bundle.

    python benchmarks/installed_size.py [--limit-mib 350] [--json FILE]

Builds the wheel, installs it into a fresh environment and adds up the files, as an engineer's device would hold them
(compiled .pyc files are counted apart). Exit code 1 above the limit on Python 3.11 and newer; on 3.10 it only reports.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
# What an environment holds before anything is installed.
_NOT_OURS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "wheel", "_virtualenv", "distutils-precedence")


def _size(path: Path, compiled: bool = False) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(
        f.stat().st_size for f in files if f.is_file() and not f.is_symlink() and (f.suffix == ".pyc") == compiled
    )


def measure(site: Path) -> dict[str, float]:
    """MiB of every top-level entry of a site-packages folder, largest first; .pyc files left out."""
    sizes: dict[str, float] = {}
    for entry in site.iterdir():
        name = entry.name.split("-")[0].removesuffix(".libs").removesuffix(".py")
        if name in _NOT_OURS or entry.name == "__pycache__":
            continue
        sizes[name] = sizes.get(name, 0.0) + _size(entry) / MIB
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def main() -> int:
    """Command line; 0 within the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-mib", type=float, default=350.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        # A copy, not the checkout itself: a build leaves folders behind, and would find those of an earlier one.
        source = Path(folder) / "source"
        for name in ("engines", "memedge", "export"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source / name)
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, str(source)], check=True)
        wheel = next(Path(folder).glob("memedge-*.whl"))
        subprocess.run([*pip, "install", str(wheel)], check=True)
        site = next((environment / "lib").glob("python3*/site-packages"))
        sizes = measure(site)
        bundle = _size(site / "memedge" / "bundles") / MIB
        compiled = _size(site, compiled=True) / MIB
    total = sum(sizes.values()) - bundle
    for name, size in sizes.items():
        if size >= 0.5:
            print(f"{size:8.1f} MiB  {name}")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    counts = sys.version_info >= (3, 11)
    rule = f"limit {arguments.limit_mib:.0f} MiB" if counts else "reported only, the limit is for 3.11 and newer"
    print(f"{total:8.1f} MiB  in all on Python {version} ({rule})")
    print(f"{bundle:8.1f} MiB  default bundle and {compiled:.1f} MiB of .pyc files, not counted")
    if arguments.json:
        answer = {"python": version, "total_mib": round(total, 1), "default_bundle_mib": round(bundle, 1)}
        answer["packages_mib"] = {name: round(size, 1) for name, size in sizes.items()}  # type: ignore[assignment]
        arguments.json.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    return 1 if counts and total > arguments.limit_mib else 0


if __name__ == "__main__":
    raise SystemExit(main())
