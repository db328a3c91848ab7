"""Zygotes: when they do not start, and when they die."""

import os
import signal
import sys

import pytest
import tasks
from joblib import Parallel, delayed
from support.agents import Agent
from support.waiting import until

from joblib_clutch import exceptions
from joblib_clutch.session import Session


def call(agent, count=2):
    run = Parallel(n_jobs=2, backend="clutch", agents=agent.address)
    return run(delayed(tasks.pid)() for _ in range(count))


def zygote_of(agent):
    (environment,) = agent.status().environments
    return environment.zygote_pid


def test_a_dead_zygote_leaves_its_workers_alone_and_is_replaced(gate):
    with Agent() as agent:
        run = Parallel(n_jobs=2, backend="clutch", agents=agent.address, return_as="generator")
        results = run(delayed(tasks.wait_for)(gate, i) for i in range(2))
        workers = until(agent.busy, lambda busy: len(busy) == 2)
        first = zygote_of(agent)
        os.kill(first, signal.SIGKILL)
        tasks.open_gate(gate)
        assert list(results) == [0, 1]
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        until(agent.workers, lambda left: not set(left) & set(workers))
        assert set(call(agent)).isdisjoint(workers)
        assert zygote_of(agent) not in (0, first)


def test_a_zygote_that_did_not_start_is_tried_again(tmp_path):
    """The interpreter host is missing something at first, and repaired later."""
    broken = tmp_path / "broken"
    broken.touch()
    library = tmp_path / "lib"
    library.mkdir()
    module = library / "breaks_while_asked.py"
    module.write_text(f"import os\nif os.path.exists({str(broken)!r}): os._exit(9)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(library), *sys.path])}
    warm = ("cloudpickle", "joblib", "breaks_while_asked")
    with Agent(warm=warm, environment=environment) as agent:
        for _ in range(2):
            with pytest.raises(exceptions.WorkerStartError, match="ended while it started") as seen:
                Session(agent.address, None, dict)
            assert seen.value.fault == "AGENT"
        broken.unlink()
        assert len(call(agent)) == 2


def test_a_zygote_that_takes_too_long_names_the_setting():
    with (
        Agent("--start-seconds", "0.001") as agent,
        pytest.raises(exceptions.WorkerStartError, match=r"`start-seconds` = 0\.001"),
    ):
        Session(agent.address, None, dict)


def test_warm_modules_that_start_threads_are_given_up(tmp_path):
    """A zygote with threads must not fork; its successor imports nothing ahead."""
    module = tmp_path / "starts_a_thread.py"
    module.write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with Agent(warm=("starts_a_thread",), environment=environment) as agent:
        assert len(call(agent)) == 2
        (served,) = agent.status().environments
        assert list(served.warm_modules) == []
