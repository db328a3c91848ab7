"""Gets a version of joblib ready: its tests, and an environment to run them in."""

import subprocess
import sys
import tarfile
from pathlib import Path

from adapt import MEMMAPPING, PARALLEL, adapt

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "joblib"
REQUIREMENTS = ROOT / "integration-tests" / "requirements.txt"
SUITES = {"test_parallel.py": PARALLEL, "test_memmapping.py": MEMMAPPING}
PACKAGES = {
    "cloudpickle",
    "grpcio",
    "numpy",
    "protobuf",
    "pytest",
    "pytest-timeout",
    "threadpoolctl",
}


def environment(version: str) -> Path:
    """Make an environment with a version of joblib, unless it is there.

    Parameters
    ----------
    version : str
        The version.

    Returns
    -------
    Path
        Its interpreter.
    """
    folder = ROOT / ".venvs" / f"joblib-{version}"
    python, stamp = folder / "bin" / "python", folder / ".stamp"
    pins = [line for line in REQUIREMENTS.read_text().splitlines() if _name(line) in PACKAGES]
    wanted = "\n".join([f"joblib=={version}", *pins])
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"making {folder.relative_to(ROOT)}", flush=True)
        tool = ROOT / "integration-tests" / "tools" / "python-env.sh"
        _run(tool, "create", folder, sys.executable)
        _run(python, "-m", "pip", "install", "--quiet", *wanted.splitlines())
        stamp.write_text(wanted)
    return python


def suite(version: str) -> Path:
    """Take the tests from a version's source release, about our backend.

    Parameters
    ----------
    version : str
        The version.

    Returns
    -------
    Path
        The folder of the tests.
    """
    archive = CACHE / f"joblib-{version}.tar.gz"
    if not archive.is_file():
        print(f"downloading {archive.name}", flush=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", CACHE]
        download += ["--no-binary", ":all:", "--no-deps", "--no-build-isolation"]
        _run(*download, f"joblib=={version}")
    folder = CACHE / version
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as release:

        def text(name: str) -> str:
            return release.extractfile(f"joblib-{version}/{name}").read().decode()

        (folder / "conftest.py").write_text(text("conftest.py"))
        (folder / "testutils.py").write_text(text("joblib/test/testutils.py"))
        for name, rules in SUITES.items():
            (folder / name).write_text(adapt(text(f"joblib/test/{name}"), rules))
    return folder


def _name(requirement: str) -> str:
    return requirement.partition(";")[0].partition("=")[0].strip()


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
