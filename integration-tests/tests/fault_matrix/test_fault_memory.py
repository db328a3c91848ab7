"""Rows L01 to L09: memory, whoever takes it, and how deaths are told apart."""

import os
import signal
from pathlib import Path

import bad_tasks
import numpy as np
import pytest
import tasks
from joblib import delayed
from support import processes
from support.agents import Agent
from support.mechanisms import agent_by
from support.oracle import Oracle
from support.rounds import rounds
from support.waiting import until

import joblib_clutch
from joblib_clutch import exceptions as errors

MEGABYTE = 1 << 20
LIMIT = 256 * MEGABYTE
MUCH = 3 << 30


def rows():
    return joblib_clutch.last_report().rows


def notes():
    return [note for row in rows() for note in row.notes]


def test_l01_and_l06_memory_over_the_limit_ends_the_task(limits, by_groups):
    with limits.within(2):
        error = limits.raised(delayed(bad_tasks.hog)(MUCH, 60), memory_limit="256MiB")
    assert type(error) is errors.MemoryLimitError, error
    assert isinstance(error, MemoryError)
    assert error.limit == LIMIT
    assert (error.signal, error.fault, error.attempt) == (signal.SIGKILL, "TASK", 1)
    if by_groups():
        assert 0.9 * LIMIT <= error.peak <= LIMIT + 4096
    else:
        # What is allocated between two looks comes on top.
        assert LIMIT < error.peak < LIMIT + 1024 * MEGABYTE
    for part in ("256.0 MiB", "peak"):
        assert part in str(error), error


def test_l02_a_soft_limit_lets_the_task_know(oracle):
    error = oracle.raised(
        delayed(bad_tasks.allocate_at_once)(MUCH), memory_limit="512MiB", soft_memory=True
    )
    assert type(error).__mro__.index(MemoryError) < 2, error
    assert not isinstance(error, errors.ClutchError), "it is the task's own exception"


def test_l02_after_a_memory_error_the_worker_is_replaced(oracle):
    def allocate_and_go_on():
        try:
            bad_tasks.allocate_at_once(MUCH)
        except MemoryError:
            return os.getpid()
        raise AssertionError("there was room")

    options = {"memory_limit": "512MiB", "soft_memory": True}
    pids = oracle.call([delayed(allocate_and_go_on)()], **options)
    assert len(pids) == 1
    failing = delayed(bad_tasks.allocate_at_once)(MUCH)
    with pytest.raises(MemoryError):
        oracle.call([failing, failing], **options)
    failed = {row.pid for row in rows() if row.outcome == "TASK_RAISED"}
    until(oracle.agent.workers, lambda workers: not failed & set(workers), seconds=3)


@pytest.mark.parametrize("round_", rounds(2, 20))
def test_l03_threads_of_blas_at_a_soft_limit_never_hang(oracle, round_):
    limit = (160 + 12 * round_) * MEGABYTE
    try:
        results = oracle.call(
            [delayed(bad_tasks.multiply)(6, 1500)],
            memory_limit=limit,
            soft_memory=True,
            task_timeout=60,
        )
        assert results == [6]
    except MemoryError as error:  # the task's own, or ours
        assert getattr(error, "kind", "MEMORY_LIMIT") == "MEMORY_LIMIT"
    except RuntimeError as error:  # so Python says that there is no memory for a stack
        assert "can't start new thread" in str(error)


HOGS = [
    bad_tasks.hog_in_a_child,
    bad_tasks.hog_in_a_child_and_raise,
    bad_tasks.hog_in_a_child_and_wait,
]


@pytest.mark.parametrize("hog", HOGS)
def test_l04_a_child_at_the_memory_limit_fails_its_task_whatever_that_makes_of_it(limits, hog):
    """The kernel may kill the child alone: nobody else waits for a task that waits for ever."""
    options = {"memory_limit": "256MiB"}
    for _ in rounds(2, 20):
        with limits.within(5):
            error = limits.raised(delayed(hog)(), **options)
        assert type(error) is errors.MemoryLimitError, error
        assert (error.limit, error.fault, error.task_index) == (LIMIT, "TASK", 0)
        assert error.peak > 0.9 * LIMIT
        assert notes() == []
        assert limits.call([delayed(tasks.double)(1)], **options) == [2]


def test_l04_the_initializer_s_children_count_too(limits):
    error = limits.raised(
        delayed(tasks.double)(1), memory_limit="256MiB", initializer=bad_tasks.hog_in_a_child
    )
    assert type(error) is errors.MemoryLimitError, error
    assert (error.limit, error.task_index) == (LIMIT, None)


def test_l05_mapped_arguments_are_not_the_workers_memory(limits):
    array = np.ones(200 * MEGABYTE // 8)
    results = limits.call([delayed(bad_tasks.sum_of)(array)] * 4, memory_limit="96MiB")
    assert [total for total, _ in results] == [array.sum()] * 4


CAUSES = ["limit", "killed", "time", "cancelled", "crash"]


def end_by(cause, oracle, tmp_path):
    """End a worker for one of the reasons; return how that was told."""
    if cause == "limit":
        error = oracle.raised(delayed(bad_tasks.hog)(MUCH, 60), memory_limit="192MiB")
    elif cause == "killed":
        error = oracle.raised(delayed(tasks.kill_self)(), retries=0)
    elif cause == "time":
        error = oracle.raised(delayed(tasks.sleep_long)(), task_timeout=0.1)
    elif cause == "crash":
        error = oracle.raised(delayed(bad_tasks.raise_signal)(signal.SIGSEGV))
    else:
        log = tmp_path / "log"
        generator = oracle.parallel(return_as="generator")
        results = generator(delayed(bad_tasks.say_and_wait)(str(log), "/never") for _ in range(2))
        until(lambda: bad_tasks.noted(log), lambda pids: len(pids) >= 2)
        results.close()
        log.unlink()
        outcomes = until(lambda: [row.outcome for row in rows()], lambda told: len(told) == 2)
        assert set(outcomes) == {"CANCELLED"}
        return "CANCELLED"
    return error.kind


@pytest.mark.parametrize("cause", CAUSES)
def test_l08_deaths_are_told_apart_every_time(limits, cause, tmp_path):
    expected = {
        "limit": "MEMORY_LIMIT",
        "killed": "WORKER_KILLED",
        "time": "TIME_LIMIT",
        "cancelled": "CANCELLED",
        "crash": "WORKER_CRASHED",
    }[cause]
    told = [end_by(cause, limits, tmp_path) for _ in rounds(4, 20)]
    assert told == [expected] * len(told)


@pytest.mark.parametrize("mechanism", ["groups", "sampling"])
def test_l09_short_of_memory_the_youngest_batch_makes_way_and_runs_later(mechanism, tmp_path):
    with agent_by(mechanism, "--memory-ceiling-bytes", str(700 * MEGABYTE)) as agent:
        with Oracle(agent, next_task_seconds=6) as oracle:
            zygotes = agent.zygotes()
            held = oracle.call(delayed(bad_tasks.hog)(450 * MEGABYTE, 2.0) for _ in range(2))
            assert all(count >= 450 * MEGABYTE for count in held)
            # The kernel may kill both, before anybody is asked to make way.
            again = [set(row.retried) for row in rows() if row.attempts > 1]
            assert again in ([{"MEMORY_PRESSURE"}], [{"MEMORY_PRESSURE"}] * 2), rows()
            assert agent.process.poll() is None
            assert agent.zygotes() == zygotes
        if mechanism == "groups":
            (score,) = [Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in [agent.pid]]
            assert int(score) <= 0


def test_l09_a_batch_that_never_fits_fails_as_such():
    with agent_by("sampling", "--memory-ceiling-bytes", str(300 * MEGABYTE)) as agent:
        oracle = Oracle(agent, next_task_seconds=6)
        with oracle, pytest.raises(errors.MemoryPressureError) as caught:
            oracle.call([delayed(bad_tasks.hog)(MUCH, 60)])
        assert caught.value.fault == "AGENT"
        assert agent.process.poll() is None


def test_l09_workers_are_the_kernels_choice_before_the_agent():
    with Agent("--slots", "2") as agent, Oracle(agent) as oracle:
        (worker,) = set(oracle.call([delayed(tasks.pid)()]))
        assert processes.is_alive(worker)
        scores = [
            int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (agent.pid, worker)
        ]
        assert scores[0] < scores[1]
