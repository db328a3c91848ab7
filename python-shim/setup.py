"""Builds the machine code and puts it into the package.

The wheel carries three files beside the Python code: the agent (``_agent/clutch``),
the interpreter host (``_agent/libclutch_interpreter.so``) and the driver's client
(``_native.abi3.so``). None depends on the Python that builds them, so one wheel
serves every Python.

``CLUTCH_PREBUILT_DIR`` names a directory, by its absolute path, that holds the
files already; then Cargo is not called.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent.resolve()
# A source distribution carries the Rust workspace in a folder of its own.
CARRIED = HERE / "rust"
WORKSPACE = CARRIED if CARRIED.is_dir() else HERE.parent
RUST_SOURCES = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "executor",
    "protocol",
    "python-shim/client",
    "python-shim/native",
]
# What Cargo makes, and where the package has it.
PLACES = {
    "clutch": "_agent/clutch",
    "libclutch_interpreter.so": "_agent/libclutch_interpreter.so",
    "libclutch_native.so": "_native.abi3.so",
}
# No wheel claims less than the oldest C library that Rust itself supports.
OLDEST_GLIBC_MINOR = 17


@functools.cache
def machine_code() -> dict[str, Path]:
    """Build the machine code.

    Returns
    -------
    dict
        Files by their place in the package.

    Raises
    ------
    SystemExit
        This is not Linux, Cargo is missing or failed, or a named file does not exist.
    """
    if sys.platform != "linux":
        raise SystemExit("error: joblib-clutch runs on Linux only")
    prebuilt = os.environ.get("CLUTCH_PREBUILT_DIR")
    made = {n: Path(prebuilt).resolve() / n for n in PLACES} if prebuilt else cargo_build()
    for file in made.values():
        if not file.is_file():
            raise SystemExit(f"error: {file} cannot be packed: it does not exist")
    return {place: made[name] for name, place in PLACES.items()}


def cargo_build() -> dict[str, Path]:
    """Run Cargo and return what it made."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SystemExit(
            "error: joblib-clutch is being built from source, which needs Rust, and `cargo` is "
            "not on PATH.\nInstall Rust with rustup (https://rustup.rs), or install a "
            "ready-made wheel of joblib-clutch."
        )
    command = [cargo, "build", "--release", "--locked", "-p", "clutch-executor"]
    command += ["-p", "clutch-interpreter", "-p", "clutch-native"]
    command += ["--message-format=json-render-diagnostics"]
    print("running", *command, file=sys.stderr, flush=True)
    run = subprocess.run(command, cwd=WORKSPACE, stdout=subprocess.PIPE, check=False, text=True)
    if run.returncode != 0:
        raise SystemExit(f"error: cargo could not build it (exit code {run.returncode})")
    made = {
        Path(name).name: Path(name)
        for message in map(json.loads, run.stdout.splitlines())
        if message["reason"] == "compiler-artifact"
        for name in message["filenames"]
    }
    missing = [name for name in PLACES if name not in made]
    if missing:
        raise SystemExit(f"error: cargo did not make {', '.join(missing)}")
    return made


def platform_tag(files: Iterable[Path]) -> str:
    """Return the wheel's platform: the oldest C library that the files run on."""
    machine = platform.machine()
    minors = {
        int(minor)
        for file in files
        for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\d]*\0)", file.read_bytes())
    }
    if not minors:
        return f"linux_{machine}"
    return f"manylinux_2_{max(*minors, OLDEST_GLIBC_MINOR)}_{machine}"


class ClutchDistribution(Distribution):
    """A distribution with machine code."""

    def has_ext_modules(self) -> bool:
        """Return whether the package belongs where machine code goes."""
        return True


class BuildPackage(build_py):
    """Copies the machine code beside the Python code."""

    def run(self) -> None:
        """Copy the package, then the machine code."""
        super().run()
        package = Path(self.get_package_dir("joblib_clutch"))
        if not self.editable_mode:
            package = Path(self.build_lib) / "joblib_clutch"
        for place, file in machine_code().items():
            target = package / place
            target.parent.mkdir(parents=True, exist_ok=True)
            # Replace, never rewrite: an agent may be running from the old file.
            partial = target.with_name(f".{target.name}.partial")
            shutil.copy2(file, partial)
            partial.replace(target)


class BuildWheel(bdist_wheel):
    """Tags the wheel by what its machine code needs, not by the Python that builds it."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags for Python, ABI and platform."""
        return "py3", "none", platform_tag(machine_code().values())


class SourceDistribution(sdist):
    """Carries the Rust workspace along."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the Python files, then the Rust ones."""
        super().make_release_tree(base_dir, files)
        target = Path(base_dir) / "rust"
        target.mkdir(exist_ok=True)
        for name in RUST_SOURCES:
            source = WORKSPACE / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("target", "__pycache__", ".*")
                shutil.copytree(source, target / name, ignore=ignored, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copy2(source, target / name)


setup(
    distclass=ClutchDistribution,
    cmdclass={"bdist_wheel": BuildWheel, "build_py": BuildPackage, "sdist": SourceDistribution},
)
