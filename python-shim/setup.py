"""Builds the agent and puts it into the package.

On Linux the wheel carries two files beside the Python code: the agent
(``_agent/clutch``) and the interpreter host (``_agent/libclutch_interpreter.so``).
Neither depends on the Python that builds them, so one wheel serves every Python.
Elsewhere the wheel is pure Python: a driver without an agent.

``CLUTCH_PREBUILT_DIR`` names a directory, by its absolute path, that holds the two
files already; then Cargo is not called.
"""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

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
]
AGENT_FILES = ["clutch", "libclutch_interpreter.so"]
# No wheel claims less than the oldest C library that Rust itself supports.
OLDEST_GLIBC_MINOR = 17

HAS_AGENT = sys.platform == "linux"


@functools.cache
def built_agent() -> list[Path]:
    """Build the agent.

    Returns
    -------
    list of Path
        The agent and the interpreter host, in this order.

    Raises
    ------
    SystemExit
        Cargo is missing or failed, or a named file does not exist.
    """
    prebuilt = os.environ.get("CLUTCH_PREBUILT_DIR")
    files = [Path(prebuilt).resolve() / n for n in AGENT_FILES] if prebuilt else cargo_build()
    for file in files:
        if not file.is_file():
            raise SystemExit(f"error: the agent cannot be packed: {file} does not exist")
    return files


def cargo_build() -> list[Path]:
    """Run Cargo and return what it made."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SystemExit(
            "error: joblib-clutch is being built from source, which needs Rust, and `cargo` is "
            "not on PATH.\nInstall Rust with rustup (https://rustup.rs), or install a "
            "ready-made wheel of joblib-clutch."
        )
    command = [cargo, "build", "--release", "--locked", "-p", "clutch-executor"]
    command += ["-p", "clutch-interpreter", "--message-format=json-render-diagnostics"]
    print("running", *command, file=sys.stderr, flush=True)
    run = subprocess.run(command, cwd=WORKSPACE, stdout=subprocess.PIPE, check=False, text=True)
    if run.returncode != 0:
        raise SystemExit(f"error: cargo could not build the agent (exit code {run.returncode})")
    made = {
        Path(name).name: Path(name)
        for message in map(json.loads, run.stdout.splitlines())
        if message["reason"] == "compiler-artifact"
        for name in message["filenames"]
    }
    missing = [name for name in AGENT_FILES if name not in made]
    if missing:
        raise SystemExit(f"error: cargo did not make {', '.join(missing)}")
    return [made[name] for name in AGENT_FILES]


def platform_tag(files: list[Path]) -> str:
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
    """A distribution with machine code, where there is an agent."""

    def has_ext_modules(self) -> bool:
        """Return whether the package belongs where machine code goes."""
        return HAS_AGENT


class BuildPackage(build_py):
    """Copies the agent beside the Python code."""

    def run(self) -> None:
        """Copy the package, then the agent."""
        super().run()
        if not HAS_AGENT:
            return
        package = Path(self.get_package_dir("joblib_clutch"))
        if not self.editable_mode:
            package = Path(self.build_lib) / "joblib_clutch"
        target = package / "_agent"
        target.mkdir(parents=True, exist_ok=True)
        for file in built_agent():
            # Replace, never rewrite: an agent may be running from the old file.
            partial = target / f".{file.name}.partial"
            shutil.copy2(file, partial)
            partial.replace(target / file.name)


class BuildWheel(bdist_wheel):
    """Tags the wheel by what the agent needs, not by the Python that builds it."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags for Python, ABI and platform."""
        return "py3", "none", platform_tag(built_agent()) if HAS_AGENT else "any"


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
