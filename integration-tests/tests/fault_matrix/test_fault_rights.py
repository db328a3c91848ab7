"""Row L19: an agent of a user without rights."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import Agent, clean_environment

# An interpreter that every user can run. Ours may be in somebody's home.
PYTHON = "/usr/bin/python3"
LIMIT = 256 << 20

DRIVER = """
import sys
import bad_tasks
from joblib import Parallel, delayed
from joblib_clutch import exceptions
address = sys.argv[1]
run = Parallel(2, backend="clutch", agents=address, batch_size=1, memory_limit="256MiB")
try:
    run([delayed(bad_tasks.hog)(3 << 30)])
except exceptions.MemoryLimitError as error:
    print(error.kind, error.limit)
"""


def as_nobody() -> list[str]:
    """Return the program that makes another one run as a user without rights."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not (setpriv := shutil.which("setpriv")):
        pytest.skip("there is no setpriv to become another user with")
    nobody = pwd.getpwnam("nobody")
    return [setpriv, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def environment() -> dict[str, str]:
    """Return an environment in which that interpreter finds our packages."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *(path for path in sys.path if path)]
    return clean_environment(PYTHONPATH=os.pathsep.join(dict.fromkeys(paths)))


def run_as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*as_nobody(), PYTHON, *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )


@contextlib.contextmanager
def agent_of_nobody(*flags: str) -> Iterator[Agent]:
    """Start an agent without rights, where that can be."""
    version = f"import sys, joblib_clutch; assert sys.version_info[:2] == {sys.version_info[:2]}"
    tried = run_as_nobody("-c", version)
    if tried.returncode:
        pytest.skip(f"{PYTHON} cannot stand in for ours: {tried.stderr.strip()[-200:]}")
    become = tuple(as_nobody())
    with Agent(*flags, become=become, pythons=(PYTHON,), environment=environment()) as agent:
        yield agent


def said_by_a_driver(agent: Agent) -> str:
    """Run a driver as the same user; return what it prints."""
    ended = run_as_nobody("-c", DRIVER, agent.address)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_l19_an_agent_without_rights_holds_limits_too():
    with agent_of_nobody("--slots", "2") as agent:
        assert said_by_a_driver(agent) == f"MEMORY_LIMIT {LIMIT}"
        assert agent.process.poll() is None
