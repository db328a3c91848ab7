"""Rows S13 and S14: root's agent, whose workers are a user without rights."""

import ast
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.agents import Agent, clean_environment, run_agent
from support.processes import is_alive
from support.waiting import until

NOBODY = pwd.getpwnam("nobody")
# An interpreter that every user can run. Ours may be in somebody's home.
PYTHON = "/usr/bin/python3"
HERE = Path(__file__).parent

DRIVER = """
import sys
import numpy
import prying, bad_tasks
from joblib import Parallel, delayed
from joblib_clutch import exceptions
address, what, *arguments = sys.argv[1:]
def call(task, **options):
    run = Parallel(2, backend="clutch", agents=address, batch_size=1, **options)
    return run([task])[0]
if what == "hog":
    try:
        call(delayed(bad_tasks.hog)(3 << 30), memory_limit="256MiB")
    except exceptions.MemoryLimitError as error:
        print(repr((error.kind, error.limit)))
elif what == "spin":
    try:
        call(delayed(prying.spin)(), task_timeout=0.5)
    except exceptions.TimeLimitError as error:
        print(repr("in spin" in str(error)))
elif what == "arrays":
    array = numpy.arange(4 << 20)
    back = call(delayed(numpy.add)(array, 1))
    print(repr(bool((back == array + 1).all())))
else:
    numbers = [int(a) if a.isdigit() else a for a in arguments]
    print(repr(call(delayed(getattr(prying, what))(*numbers))))
"""


def environment() -> dict[str, str]:
    """Return an environment in which that interpreter finds our packages."""
    packages = [path for path in sys.path if "site-packages" in path]
    shim = Path(HERE.parents[2], "python-shim", "src")
    paths = [str(HERE), str(HERE.parent), str(shim), *packages]
    return clean_environment(PYTHONPATH=os.pathsep.join(paths), HOME="/root")


@pytest.fixture(scope="module")
def user_agent() -> Iterator[Agent]:
    """Return an agent of root with workers of nobody, where that can be."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not shutil.which("setpriv"):
        pytest.skip("there is no setpriv to become another user with")
    version = f"import sys, joblib_clutch; assert sys.version_info[:2] == {sys.version_info[:2]}"
    nobody = ["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"]
    tried = subprocess.run(
        [*nobody, PYTHON, "-c", version],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if tried.returncode:
        pytest.skip(f"nobody cannot use {PYTHON} for ours: {tried.stderr.strip()[-200:]}")
    flags = ("--slots", "2", "--worker-user", "nobody")
    with Agent(*flags, pythons=(PYTHON,), environment=environment()) as agent:
        yield agent


def command(agent: Agent, what: str, *arguments: object) -> list[str]:
    return [PYTHON, "-c", DRIVER, agent.address, what, *map(str, arguments)]


def said(agent: Agent, what: str, *arguments: object) -> Any:
    """Have a driver of root's run a task; return what it prints."""
    ended = subprocess.run(
        command(agent, what, *arguments),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )
    assert ended.returncode == 0, ended.stderr
    return ast.literal_eval(ended.stdout)


@contextlib.contextmanager
def another_session(agent: Agent) -> Iterator[int]:
    """Keep a worker of another session busy; give its process."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101 - for its worker
        file = Path(folder) / "pid"
        driver = subprocess.Popen(
            command(agent, "pid_when_there", file), env=environment(), cwd="/"
        )
        try:
            until(lambda: file.exists() and file.read_text(), seconds=30)
            yield int(file.read_text())
        finally:
            driver.kill()
            driver.wait()


def test_workers_are_that_user_and_have_no_rights_to_win(user_agent):
    found = said(user_agent, "identity")
    uid, gid = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
    assert found["uid"] == [uid] * 4
    assert found["gid"] == [gid] * 4
    assert found["groups"] == [gid]
    assert found["capabilities"] == ["0" * 16] * 3
    assert (found["no_new_privs"], found["leader"], found["oom"]) == ("1", True, "1000")
    assert found["home"] == NOBODY.pw_dir
    (zygote,) = user_agent.zygotes()
    assert Path(f"/proc/{zygote}/environ").stat().st_uid == 0, "open to others of its user"
    lines = Path(f"/proc/{zygote}/status").read_text().splitlines()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in lines
    assert "NoNewPrivs:\t1" in lines


def test_s14_a_task_cannot_look_into_its_agent_nor_read_what_is_roots(user_agent):
    (zygote,) = user_agent.zygotes()
    assert said(user_agent, "opened", user_agent.pid, zygote) == []
    with tempfile.NamedTemporaryFile("w", dir="/tmp", suffix=".json") as access:
        assert Path(access.name).stat().st_mode & 0o777 == 0o600
        assert said(user_agent, "readable", access.name) is False
    assert said(user_agent, "readable", "/etc/passwd") is True


def test_s13_a_task_cannot_look_into_another_sessions_worker(user_agent):
    """Its memory, its variables, and the descriptors and maps of its blobs."""
    with another_session(user_agent) as other:
        assert other in user_agent.busy()
        assert said(user_agent, "opened", other) == []
        assert is_alive(other)


def test_temporary_files_are_private_and_go_with_their_worker(user_agent):
    first, second = (said(user_agent, "temporary") for _ in range(2))
    for found in (first, second):
        assert (found["owner"], found["mode"]) == (NOBODY.pw_uid, 0o700)
        assert found["siblings"] is None, "a task can list the directories of others"
    assert first["folder"] != second["folder"]
    until(lambda: not any(Path(found["folder"]).exists() for found in (first, second)))


def test_limits_stacks_and_large_arrays_are_as_ever(user_agent):
    assert said(user_agent, "hog") == ("MEMORY_LIMIT", 256 << 20)
    assert said(user_agent, "spin") is True, "the stack is not told"
    assert said(user_agent, "arrays") is True


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_that_user_cannot_read_is_named():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)  # noqa: PTH101 - as it is, said once more
        python = Path(folder) / "python"
        python.symlink_to(PYTHON)
        ended = run_agent("agent", "--worker-user", "nobody", "--python", str(python))
        assert ended.returncode == 78
        for named in ("`nobody`", f"`{folder}`", f"`{python}`", "worker-user"):
            assert named in ended.stderr


def test_a_user_who_is_not_there_is_refused():
    ended = run_agent("agent", "--worker-user", "nobody-at-all")
    assert ended.returncode == 78
    assert "setting `worker-user` cannot be `nobody-at-all`" in ended.stderr
