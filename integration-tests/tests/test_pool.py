"""Workers: reused, replaced, retired; and nothing that grows."""

import os

import pytest
import tasks
from joblib import Parallel, delayed
from support import processes
from support.agents import Agent, forget
from support.drivers import run_script
from support.waiting import until

import joblib_clutch


def pids(agent, count=8, **options):
    """Return the workers that ran some tasks of 10 ms."""
    run = Parallel(2, backend="clutch", agents=agent.address, batch_size=1, **options)
    return set(run(delayed(tasks.pid_after)(0.01) for _ in range(count)))


def test_workers_are_reused_by_later_calls(shared_agent):
    first = pids(shared_agent)
    assert len(first) == 2
    for _ in range(3):
        assert pids(shared_agent) == first


def test_idle_workers_leave():
    with Agent("--worker-idle-seconds", "0.5") as agent:
        first = pids(agent)
        assert set(agent.workers()) == first
        until(agent.workers, lambda left: not left, seconds=3)
        assert processes.named(processes.children_of(agent.pid), "clutch-worker") == []
        assert not pids(agent) & first


def test_a_worker_is_replaced_after_its_batches():
    with Agent("--worker-max-batches", "3", "--slots", "2") as agent:
        run = Parallel(2, backend="clutch", agents=agent.address, batch_size=1)
        ran = run(delayed(tasks.pid)() for _ in range(30))
        counts = {pid: ran.count(pid) for pid in ran}
        assert max(counts.values()) <= 3, counts
        assert len(counts) >= 10


def test_a_worker_that_grew_is_replaced_between_batches():
    with Agent("--worker-max-growth-bytes", str(50 << 20), "--slots", "1") as agent:
        run = Parallel(2, backend="clutch", agents=agent.address, batch_size=1)
        steady = run(delayed(tasks.hold_bytes)(1 << 10) for _ in range(8))
        assert len(set(steady)) == 1, steady
        growing = run(delayed(tasks.hold_bytes)(20 << 20) for _ in range(9))
        counts = [growing.count(pid) for pid in dict.fromkeys(growing)]
        # The first worker's measure began before; the others may grow by two tasks.
        assert counts == [3, 4, 2], counts


def test_another_initializer_gets_other_workers(shared_agent):
    plain = pids(shared_agent)

    def variable(value):
        run = Parallel(
            2,
            backend="clutch",
            agents=shared_agent.address,
            initializer=tasks.set_environment,
            initargs=("TEST_VALUE", value),
        )
        got = run(delayed(tasks.environment_and_pid)("TEST_VALUE") for _ in range(4))
        return {value for value, _ in got}, {pid for _, pid in got}

    first, second, again = variable("1"), variable("2"), variable("1")
    assert (first[0], second[0], again[0]) == ({"1"}, {"2"}, {"1"})
    assert not first[1] & second[1]
    assert not (first[1] | second[1]) & plain
    without = Parallel(2, backend="clutch", agents=shared_agent.address)
    assert without(delayed(tasks.environment)("TEST_VALUE") for _ in range(2)) == [None, None]


def test_the_initializer_runs_once_in_each_worker(shared_agent, tmp_path):
    log = str(tmp_path / "log")

    def note(path):
        with open(path, "a") as file:  # noqa: PTH123 - pickled by value
            file.write(f"{os.getpid()}\n")

    options = {"initializer": note, "initargs": (log,)}
    used = pids(shared_agent, **options) | pids(shared_agent, **options)
    noted = [int(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(noted) == sorted(set(noted)), noted
    assert used <= set(noted)


def test_random_numbers_differ_between_workers():
    def draw(seconds):
        import random
        import time

        import numpy as np

        time.sleep(seconds)
        return os.getpid(), random.random(), float(np.random.rand()), os.urandom(4)

    with Agent("--slots", "3", warm=("cloudpickle", "joblib", "numpy.random")) as agent:
        run = Parallel(3, backend="clutch", agents=agent.address, batch_size=1)
        draws = run(delayed(draw)(0.05) for _ in range(9))
    assert len({draw[0] for draw in draws}) == 3, draws
    for position in (1, 2, 3):
        assert len({draw[position] for draw in draws}) == len(draws), draws


@pytest.mark.timeout(120)
def test_50_000_tasks_through_one_session_leave_no_trace_in_the_agent():
    with Agent("--slots", "2") as agent:
        run = Parallel(
            2, backend="clutch", agents=agent.address, batch_size=25, pre_dispatch="4*n_jobs"
        )

        def measure(count):
            assert sum(run(delayed(tasks.double)(1) for _ in range(count))) == 2 * count
            return processes.resident_bytes(agent.pid), processes.descriptors_of(agent.pid)

        measure(5_000)
        bytes_before, descriptors_before = measure(5_000)
        bytes_after, descriptors_after = measure(50_000)
        assert joblib_clutch.last_report().summary()["tasks"] == 50_000
        assert bytes_after - bytes_before < 4 << 20, (bytes_before, bytes_after)
        assert len(descriptors_after) <= len(descriptors_before), descriptors_after
        assert [(s.waiting, s.running) for s in agent.status().sessions] == [(0, 0)]


def test_workers_die_with_their_session_and_descriptors_return():
    with Agent("--slots", "2") as agent:
        before = len(processes.descriptors_of(agent.pid))

        for _ in range(5):
            assert len(pids(agent)) == 2
            forget(agent.address)
            until(agent.workers, lambda left: not left, seconds=2)
        until(
            lambda: len(processes.descriptors_of(agent.pid)),
            lambda count: count <= before + 1,
            seconds=2,
            what="descriptors as before",
        )
        assert processes.named(processes.children_of(agent.pid), "clutch-worker") == []


def test_the_driver_does_not_grow_with_the_number_of_its_calls(shared_agent):
    facts = run_script(
        """
        import threading
        run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])

        def measure(calls):
            for _ in range(calls):
                run(delayed(abs)(i) for i in range(4))
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        measure(20)
        say(before=measure(1), after=measure(300))
        """,
        shared_agent.address,
    )
    assert facts["after"][0] <= facts["before"][0], facts
    assert facts["after"][1] <= facts["before"][1] + 2, facts
