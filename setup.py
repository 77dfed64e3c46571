"""Builds the compiled CPU preprocessing where a C++ compiler is there; everything else is said in pyproject.toml.

It is a plain shared object that ctypes loads (engines/memedge_engines/kernels/host.py), not an extension module: no
Python headers are needed, and one wheel serves every Python. Without a compiler the installation goes through all the
same, and NumPy and Pillow do the work.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

KERNELS = Path("engines/memedge_engines/kernels")
FLAGS = ["-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-Wno-maybe-uninitialized"]
# Python's own flags may let signed numbers wrap around, which keeps loops from becoming vector instructions.
FLAGS += ["-fno-wrapv"]
# The code uses nothing of the C++ library: the linker may leave it out.
LINK_FLAGS = ["-Wl,--as-needed"] if sys.platform == "linux" else []


class BuildKernels(build_ext):
    """Compiles with the flags of the compiler at hand, or leaves the shared object out."""

    def run(self) -> None:
        """Compile; a compiler that is absent or fails ends nothing."""
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError, OSError) as error:
            self._left_out(error)

    def build_extension(self, ext: Extension) -> None:
        """Compile one shared object."""
        microsoft = self.compiler.compiler_type == "msvc"
        ext.extra_compile_args = ["/O2", "/std:c++17"] if microsoft else FLAGS
        ext.extra_link_args = [] if microsoft else LINK_FLAGS
        super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        """The name that kernels/host.py loads, the same for every Python."""
        return str(Path(*fullname.split("."))) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None: what is exported is marked in the source, and there is no PyInit function."""
        return []

    def get_outputs(self) -> list[str]:
        """What was built; nothing when it was left out."""
        return [path for path in super().get_outputs() if Path(path).is_file()]

    def copy_extensions_to_source(self) -> None:
        """For editable installations; nothing to copy when it was left out."""
        try:
            super().copy_extensions_to_source()
        except OSError as error:
            self._left_out(error)

    def _left_out(self, error: Exception) -> None:
        self.announce(f"the compiled preprocessing is left out, NumPy and Pillow serve ({error})", level=2)


class Wheel(bdist_wheel):
    """A wheel for this platform and any Python; for any platform when nothing was compiled."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform tag."""
        built = any(Path(self.bdist_dir).rglob("memedge_host.*"))
        return "py3", "none", super().get_tag()[2] if built else "any"


setup(
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(
            "memedge_engines.kernels.memedge_host",
            sources=[(KERNELS / "host.cpp").as_posix()],
            depends=[path.as_posix() for path in sorted(KERNELS.glob("*.h"))],
            language="c++",
            optional=True,
        )
    ],
)
