"""Compiles the core with mypyc, for a wheel that is built with ``KPS_COMPILE=1``.

hatchling calls this for every wheel. Without ``KPS_COMPILE``, and for an editable installation, it
does nothing. pyproject.toml says which modules are compiled. Their sources stay in the wheel, for
tracebacks, and so does the checkout as it was: all that is made is in a temporary folder.
"""

import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from shutil import which
from sysconfig import get_config_var
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Behaviour is tested with this minor version of mypyc.
REQUIRES = ["mypy>=2.4,<2.5", "setuptools>=70"]

MISREAD = "Treating generator comprehension as list"
"""A warning of mypyc: such an expression would be no iterator."""


class CompileCore(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel."""

    def dependencies(self) -> list[str]:
        """Return what a build needs besides hatchling: also what the core imports, for mypy."""
        return [*REQUIRES, *self.metadata.core.dependencies] if is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the builder what there is to be packed."""
        if version == "editable" or not is_wanted():
            return
        check_tools()
        self._folder = TemporaryDirectory()
        built = compile_modules(self._modules(), Path(self._folder.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update(
            {str(path): path.relative_to(built).as_posix() for path in built.rglob("*.*")}
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made, once it is in the wheel."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    def _modules(self) -> list[str]:
        root, interpreted = Path(self.root), self.config["interpreted"]
        found = {
            path.relative_to(root) for glob in self.config["compiled"] for path in root.glob(glob)
        }
        for glob in interpreted:
            matching = {path.relative_to(root) for path in root.glob(glob)}
            if not matching & found:
                raise ValueError(f"pyproject.toml names {glob} as interpreted, and there is none")
            found -= matching
        return sorted(path.as_posix() for path in found)


def is_wanted() -> bool:
    """Tell whether the wheel is to be compiled."""
    return os.environ.get("KPS_COMPILE", "0") not in ("", "0")


def check_tools() -> None:
    """Raise :class:`ValueError` without what only turns out to be missing after some minutes."""
    # Without CC (on Windows) only setuptools knows where the compiler is.
    compiler = shlex.split(os.environ.get("CC") or get_config_var("CC") or "")[:1]
    if compiler and which(compiler[0]) is None:
        raise ValueError(f"KPS_COMPILE=1 needs a C compiler, and there is no {compiler[0]}")
    header = Path(get_config_var("INCLUDEPY"), "Python.h")
    if not header.exists():
        raise ValueError(f"KPS_COMPILE=1 needs the headers of Python, and there is no {header}")


def compile_modules(modules: list[str], folder: Path) -> Path:
    """Compile modules; return the folder with what is to be imported in place of them.

    A build runs in the folder of the project, so the paths are relative to it.
    """
    # Both are there only for builds that compile.
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    class BuildInParallel(build_ext):
        """Compiles the C files of an extension side by side."""

        def build_extension(self, extension: Any) -> None:
            def compile_one(source: str) -> list[str]:
                objects: list[str] = self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=extension.include_dirs,
                    extra_postargs=extension.extra_compile_args,
                    depends=extension.depends,
                )
                return objects

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = list(pool.map(compile_one, extension.sources))
            extension.extra_objects = [name for names in compiled for name in names]
            extension.sources = []
            super().build_extension(extension)

    said = StringIO()
    try:
        with redirect_stdout(said):
            extensions = mypycify(
                # Other modules may import libraries that are not there.
                [f"--cache-dir={folder / 'types'}", "--follow-imports=silent", *modules],
                target_dir=str(folder / "c"),
                group_name="kps",
                multi_file=True,
                opt_level="2",  # 3 takes a fifth longer
                debug_level="0",
            )
    finally:
        print(said.getvalue(), end="")
    if MISREAD in said.getvalue():
        raise ValueError(f"mypyc would make something else of this: {MISREAD}")
    built = folder / "built"
    command = BuildInParallel(Distribution({"name": "kps", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(built), str(folder / "objects")
    command.ensure_finalized()
    command.run()
    return built
