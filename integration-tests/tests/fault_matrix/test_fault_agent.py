"""Rows A04 to A13: the agent and its zygotes, where no other test has them."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest
import tasks
from joblib import Parallel, delayed
from support import processes
from support.agents import LIGHT_WARM, Agent, clean_environment
from support.oracle import Oracle
from support.waiting import until

from joblib_clutch import exceptions as errors
from joblib_clutch.session import Session
from joblib_clutch.settings import Lease


def test_a04_a_zygote_that_cannot_start_is_not_started_for_ever(tmp_path):
    starts = tmp_path / "starts"
    (tmp_path / "crashes.py").write_text(
        "import ctypes\n"
        f"with open({str(starts)!r}, 'a') as file: file.write('started\\n')\n"
        "ctypes.string_at(0)\n"
    )
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}"
    with Agent(warm=(*LIGHT_WARM, "crashes"), environment=environment) as agent:
        for _ in range(8):
            with pytest.raises(errors.WorkerStartError, match="while it started"):
                Session(agent.address, Lease(), dict)
        assert agent.process.poll() is None
        assert len(starts.read_text().split()) <= 3


@contextlib.contextmanager
def failing_forks(zygote: int, which: str) -> Iterator[None]:
    """Let a zygote's forks fail as if there were too many processes."""
    if not (strace := shutil.which("strace")):
        pytest.skip("there is no strace to make system calls fail with")
    # Not those of the intermediate, which has a count of its own: no `-f`.
    calls = "clone,clone3,fork,vfork"
    inject = f"inject={calls}:error=EAGAIN:when={which}"
    command = [strace, "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject]
    tracer = subprocess.Popen([*command, "-p", str(zygote)], stderr=subprocess.PIPE, text=True)
    try:
        if "attached" not in (told := tracer.stderr.readline()):
            pytest.skip(f"strace cannot trace here: {told.strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def test_a06_a_fork_that_fails_for_a_moment_is_tried_again():
    with Agent("--slots", "2") as agent, Oracle(agent) as oracle:
        oracle.call(delayed(tasks.pid)() for _ in range(2))
        oracle.leave()
        (zygote,) = agent.zygotes()
        with failing_forks(zygote, "1..2"):
            assert oracle.call(delayed(tasks.double)(i) for i in range(2)) == [0, 2]


def test_a06_forks_that_go_on_failing_are_an_error_that_names_the_reason():
    with Agent("--slots", "2") as agent, Oracle(agent) as oracle:
        oracle.call(delayed(tasks.pid)() for _ in range(2))
        oracle.leave()
        (zygote,) = agent.zygotes()
        with failing_forks(zygote, "1+"), pytest.raises(errors.WorkerStartError) as caught:
            oracle.call(delayed(tasks.double)(i) for i in range(2))
        for part in ("os error 11", "Resource temporarily unavailable", "EAGAIN"):
            if part in str(caught.value):
                break
        else:
            pytest.fail(str(caught.value))


def test_a07_a_draining_agent_finishes_what_runs_and_gives_back_what_waits(gate):
    with Agent("--slots", "2") as agent:
        run = Parallel(
            2,
            backend="clutch",
            agents=agent.address,
            batch_size=1,
            pre_dispatch="all",
            return_as="generator",
        )
        results = run(delayed(tasks.wait_for)(gate, i) for i in range(50))
        until(agent.busy, lambda busy: len(busy) == 2)
        agent.signal()
        until(lambda: agent.status().draining)
        tasks.open_gate(gate)
        with pytest.raises(errors.AgentDrainingError):
            list(results)
        assert agent.exit_code() == 0


def test_a10_an_agent_without_descriptors_neither_spins_nor_loses_anybody():
    with Agent("--slots", "2") as agent, Oracle(agent) as oracle:
        oracle.call(delayed(tasks.pid)() for _ in range(2))
        in_use = len(processes.descriptors_of(agent.pid))
        _, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (in_use + 4, hard))
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(60)]
        try:
            for stranger in strangers:
                stranger.connect("\0" + agent.address.partition(":")[2])
            before = processes.cpu_seconds(agent.pid)
            assert len(oracle.call(delayed(tasks.pid_after)(1) for _ in range(2))) == 2
            assert processes.cpu_seconds(agent.pid) - before < 0.3, "it spins"
        finally:
            for stranger in strangers:
                stranger.close()
        until(
            lambda: len(processes.descriptors_of(agent.pid)),
            lambda count: count <= in_use,
            what="the strangers' descriptors to be closed",
        )
        assert agent.status().pid == agent.pid
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_a12_zygotes_and_workers_outlive_the_threads_of_an_agents_runtime():
    """Threads that block end when idle for ten seconds; nobody may die with one."""
    with Agent("--slots", "2") as agent, Oracle(agent) as oracle:
        workers = set(oracle.call(delayed(tasks.pid_after)(0.05) for _ in range(4)))
        zygotes = agent.zygotes()
        assert set(oracle.call(delayed(tasks.pid_after)(11) for _ in range(2))) <= workers
        assert agent.zygotes() == zygotes
        assert set(oracle.call(delayed(tasks.pid_after)(0.05) for _ in range(4))) <= workers


def test_a13_an_agent_that_cannot_write_its_log_goes_on():
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with Agent("--log", "debug", stderr=full) as agent, Oracle(agent) as oracle:
            error = oracle.raised(delayed(tasks.segfault)())
            assert type(error) is errors.WorkerCrashedError
    finally:
        os.close(full)
