"""The other Python environments of this machine, as `make venvs` builds them."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def python_of(version: str) -> str | None:
    """Return the interpreter of a version with joblib-clutch installed, if there is one."""
    own = f"{os.sys.version_info[0]}.{os.sys.version_info[1]}"
    if version == own:
        return os.sys.executable
    python = ROOT / ".venvs" / version / "bin" / "python"
    return str(python) if python.exists() else None


def python_with_numpy_1() -> str | None:
    """Return an interpreter of our version with joblib-clutch and NumPy 1, if there is one."""
    python = ROOT / ".venvs" / "numpy-1" / "bin" / "python"
    return str(python) if python.exists() else None


def bare_python_of(version: str) -> str | None:
    """Return an interpreter of a version that can make environments, if there is one."""
    finder = ROOT / "integration-tests" / "tools" / "python-env.sh"
    listed = subprocess.run(
        [str(finder), "list"], capture_output=True, text=True, check=True, timeout=60
    )
    found = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
    return found.get(version)
