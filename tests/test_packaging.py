"""The wheel: three import packages, the core dependencies and no more, the console command, the default bundle."""

from __future__ import annotations

import email.message
import email.parser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers_modules import PACKAGES, ROOT, modules
from memedge_engines.kernels.host import HostKernels, load

CORE = {
    "numpy": "<3,>=1.24",
    "onnxruntime": None,
    "msgspec": None,
    "av": None,
    "pillow": None,
    "typer": None,
    "rich": None,
}
EXTRAS = {"export", "imagenet", "opencv", "openvino", "cuda", "pycuda", "tensorrt", "gpu", "plot", "dev"}


def build_wheel(work: Path, **environment: str) -> Path:
    """The project's wheel, built without the network from a copy of the files that git would take."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 or newer builds the wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if name.split("/")[0] in ("tests", "benchmarks", "samples") or not (ROOT / name).is_file():
            continue
        target = work / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = (
        "import sys, warnings; warnings.simplefilter('ignore');"
        "from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", build, str(work)],
        cwd=work / "source",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(work.glob("*.whl"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a machine without a compiler builds it."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), CC="/bin/false", CXX="/bin/false")


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    """The same, opened."""
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    """The METADATA file, parsed."""
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def _requirements(metadata: email.message.Message) -> list[tuple[str, str, str]]:
    """Name, version part and marker of every requirement."""
    from packaging.requirements import Requirement

    parsed = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    return [(r.name, str(r.specifier), str(r.marker or "")) for r in parsed]


def test_core_dependencies_are_exactly_the_documented_ones(metadata: email.message.Message) -> None:
    core = {name: spec for name, spec, marker in _requirements(metadata) if "extra" not in marker}
    assert set(core) == set(CORE)
    for name, spec in CORE.items():
        assert core[name], f"{name} has no lower bound"
        if spec:
            assert core[name] == spec


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "memedge"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra") or []) == EXTRAS


def test_wheel_holds_every_module_and_nothing_foreign(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package, folder in PACKAGES.items():
        for module in modules(package):
            assert f"{package}/{module.path.relative_to(folder).as_posix()}" in names
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.endswith(".pyc") or "/test" in name]


def test_wheel_holds_the_data(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for path in (ROOT / "memedge").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            assert f"memedge/{path.relative_to(ROOT / 'memedge').as_posix()}" in names
    bundle = {name for name in names if name.startswith("memedge/bundles/default/")}
    assert "memedge/bundles/default/manifest.json" in bundle
    assert sum(wheel.getinfo(name).file_size for name in bundle) <= 25_000_000


def test_without_a_compiler_the_wheel_is_for_every_platform(built: Path, wheel: zipfile.ZipFile) -> None:
    assert built.name.endswith("-py3-none-any.whl")
    assert not [name for name in wheel.namelist() if name.endswith((".so", ".dll"))]


@pytest.mark.slow
def test_with_a_compiler_the_wheel_is_for_this_platform_and_every_python(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    built = build_wheel(tmp_path)
    assert re.search(r"-py3-none-(?!any)\w+\.whl$", built.name)
    place = zipfile.ZipFile(built).extract("memedge_engines/kernels/memedge_host.so", tmp_path)
    found = load(Path(place))
    assert isinstance(found, HostKernels), found
    assert found.instructions[0] == "plain"


def test_console_command_and_export_commands(wheel: zipfile.ZipFile) -> None:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "memedge = memedge.cli:main" in text
    for command in ("train", "eval", "export"):
        assert f"{command} = memedge_export.commands.{command}:command" in text


def test_torch_is_pinned(metadata: email.message.Message) -> None:
    pins = [spec for name, spec, _ in _requirements(metadata) if name == "torch"]
    assert pins == ["==2.13.0"]


def test_top_level_holds_what_the_readme_says() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tops = {Path(line).parts[0] for line in listed.stdout.splitlines()}
    assert tops <= {
        ".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "benchmarks", "engines", "export", "memedge",
        "pyproject.toml", "samples", "setup.py", "tests",
    }  # fmt: skip


def test_nothing_is_committed_that_git_is_told_to_ignore() -> None:
    words = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert not listed.stdout.splitlines()
