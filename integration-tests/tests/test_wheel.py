"""The wheel, installed where there is nothing else, runs a job."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.environments import ROOT, VERSIONS, bare_python_of

JOB = """
import json, os, sys
import joblib_clutch
from joblib import Parallel, delayed

def task(number):
    agent = os.readlink(f"/proc/{os.getppid()}/exe")
    return number * 2, os.getpid(), sys.version_info[:2], sys.prefix, agent

results = Parallel(n_jobs=2, backend="clutch")(delayed(task)(i) for i in range(10))
assert [r[0] for r in results] == list(range(0, 20, 2)), results
assert os.getpid() not in {r[1] for r in results}, results
assert {r[2:4] for r in results} == {(sys.version_info[:2], sys.prefix)}, results
print(json.dumps({"shim": joblib_clutch.__file__, "agents": sorted({r[4] for r in results})}))
"""


def wheel_or_skip() -> str:
    given = os.environ.get("CLUTCH_TEST_WHEEL")
    built = [given] if given else sorted(map(str, (ROOT / "dist").glob("joblib_clutch-*.whl")))
    if not built:
        pytest.skip("no wheel was built: `make wheel` builds one")
    return built[-1]


@pytest.fixture(params=VERSIONS)
def clean_python(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the interpreter of a new environment with the wheel and what it needs."""
    wheel = wheel_or_skip()
    python = bare_python_of(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} with a shared library on this machine")
    with tempfile.TemporaryDirectory(prefix="clutch-test-") as folder:
        create = [str(ROOT / "integration-tests/tools/python-env.sh"), "create", folder, python]
        subprocess.run(create, check=True, capture_output=True, timeout=120)
        inside = f"{folder}/bin/python"
        install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
        # pip takes what it finds on the path of modules for installed.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CLUTCH_"))}
        installed = subprocess.run(
            install, check=False, capture_output=True, text=True, timeout=240, env=clean
        )
        if installed.returncode != 0 and "No matching distribution" in installed.stderr:
            pytest.skip(f"what the wheel needs cannot be had: {installed.stderr[-300:]}")
        assert installed.returncode == 0, installed.stderr
        yield inside


@pytest.mark.timeout(400)
def test_the_wheel_runs_a_job_in_a_clean_environment(clean_python: str, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(JOB)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [clean_python, "-I", str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    used = json.loads(ran.stdout)
    folder = Path(used["shim"]).parent
    assert folder.is_relative_to(Path(clean_python).parents[1]), used
    assert used["agents"] == [str(folder / "_agent" / "clutch")]
