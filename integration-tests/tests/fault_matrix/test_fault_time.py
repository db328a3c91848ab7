"""Rows L10 to L18: CPU and wall time, and how many threads there may be."""

import bad_tasks
import pytest
import tasks
from joblib import delayed
from support.waiting import Stopwatch

import joblib_clutch
from joblib_clutch import exceptions as errors

# A task that is to be killed is, within this after its limit.
GRACE_SECONDS = 0.5


def test_l10_half_a_cpu_is_half_a_cpu(limits, by_groups):
    if not by_groups():
        pytest.skip("whole CPUs only, where there are no control groups")
    seconds = 1.5
    (used,) = limits.call([delayed(bad_tasks.burn_wall)(seconds)], cpus_per_task=0.5)
    assert used / seconds <= 0.6
    notes = dict(note for row in joblib_clutch.last_report().rows for note in row.notes)
    # Where others use the machine at the same time, there may be nothing to hold back.
    assert notes.get("CPU_THROTTLED", 0) > 0 or used / seconds < 0.45, (used, notes)


def test_l10_a_worker_has_no_more_cpus_than_it_may(limits, by_groups):
    if by_groups():
        pytest.skip("by quota, not by affinity, where there are control groups")

    def cpus():
        import os

        return len(os.sched_getaffinity(0))

    assert limits.call([delayed(cpus)()] * 2, cpus_per_task=1) == [1, 1]


def test_l11_cpu_time_is_that_of_all_threads(limits):
    with limits.within(1.5):
        error = limits.raised(delayed(bad_tasks.burn_threads)(2), task_cpu_timeout=1)
    assert type(error) is errors.CpuTimeLimitError
    assert isinstance(error, TimeoutError)
    assert error.limit == 1
    assert 1 <= error.peak < 3
    assert error.cpu_seconds >= 1
    assert "in burn_threads" in error.stderr_tail or "in work" in error.stderr_tail


def test_l11_cpu_time_is_that_of_each_task(limits):
    pids = limits.call(
        (delayed(tasks.burn)(0.3) for _ in range(8)),
        batch_size=4,
        pre_dispatch="all",
        task_cpu_timeout=1,
    )
    assert len(set(pids)) == 2


def test_l11_waiting_is_no_cpu_time(oracle):
    assert len(oracle.call([delayed(tasks.pid_after)(1.5)], task_cpu_timeout=0.5)) == 1


@pytest.mark.parametrize(
    ("function", "frame"),
    [
        (bad_tasks.spin, "in spin"),
        (tasks.hold_the_gil, "in hold_the_gil"),
        (bad_tasks.swallow_everything, ""),
        (bad_tasks.stop_self, ""),
    ],
    ids=["L12 spins", "L13 holds the lock", "L14 swallows and blocks", "T16 stops itself"],
)
def test_a_task_over_its_time_ends(oracle, function, frame):
    with oracle.within(1 + GRACE_SECONDS):
        error = oracle.raised(delayed(function)(), task_timeout=1)
    assert type(error) is errors.TimeLimitError
    assert error.limit == 1
    assert 1 <= error.peak < 2
    assert error.wall_seconds >= 1
    assert frame in error.stderr_tail
    assert error.pid not in oracle.agent.workers()


def test_l15_waiting_for_a_worker_is_no_running(oracle):
    with Stopwatch() as watch:
        results = oracle.call((delayed(tasks.pid_after)(0.6) for _ in range(6)), task_timeout=1)
    assert len(results) == 6
    assert watch.seconds > 1, "somebody must have waited for longer than the limit"


def test_l18_threads_beyond_the_limit_are_an_error_in_the_task(limits, by_groups):
    task = delayed(bad_tasks.start_threads)(500)
    if by_groups():
        counts = limits.call([task], process_limit=64)
        assert 0 < counts[0] < 64
    else:
        error = limits.raised(task, process_limit=64)
        assert type(error) is errors.ProcessLimitError
        assert error.limit == 64


def test_l18_open_files_beyond_the_limit_are_an_error_in_the_task(oracle):
    with pytest.raises(OSError, match="Too many open files"):
        oracle.call([delayed(bad_tasks.leak_files)(200)], open_files_limit=100)


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        (("--memory-limit-bytes", "1000000000:2000000000"), {"memory_limit": "3GB"}),
        (("--task-timeout-seconds", "1:2"), {"task_timeout": 3}),
        (("--process-limit", ":100"), {"process_limit": 101}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_l19_nobody_gets_more_than_the_agent_allows(setting, option):
    from support.agents import Agent
    from support.oracle import Oracle

    with Agent("--slots", "2", *setting) as agent:
        oracle = Oracle(agent)
        with oracle, pytest.raises(errors.QuotaExceededError) as caught:
            oracle.call([delayed(tasks.pid)()], **option)
    assert setting[0].removeprefix("--") in str(caught.value)
    assert caught.value.fault == "DRIVER"
