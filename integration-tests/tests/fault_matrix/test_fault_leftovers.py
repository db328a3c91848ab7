"""Rows T16 to T23: what tasks leave behind, and that the next task finds nothing of it."""

import os
import subprocess
import sys
from pathlib import Path

import bad_tasks
import pytest
import tasks
from joblib import delayed
from support import processes
from support.agents import Agent
from support.oracle import Oracle
from support.waiting import until

import joblib_clutch
from joblib_clutch import exceptions as errors

MEGABYTE = 1 << 20
CHILDREN = ["plain", "session", "double"]


def noted():
    """Return what the last report notes, added up by kind."""
    sums = {}
    for row in joblib_clutch.last_report().rows:
        for kind, count in row.notes:
            sums[kind] = sums.get(kind, 0) + count
    return sums


@pytest.fixture(scope="module")
def lone_agent():
    """Return an agent with one slot: what follows a task runs in the same worker."""
    with Agent("--slots", "1") as agent:
        yield agent


@pytest.fixture
def lone(lone_agent):
    with Oracle(lone_agent) as oracle:
        yield oracle


@pytest.mark.parametrize("change", bad_tasks.CHANGES)
def test_t16_the_next_task_does_not_see_what_the_last_one_did_to(lone, change):
    """Of the state of random numbers this is not promised: it goes on, as in one process."""
    tasks_of_a_call = [bad_tasks.state, change, bad_tasks.state]
    before, _, after = lone.call(delayed(function)() for function in tasks_of_a_call)
    assert after == before


def test_t16_what_a_task_prints_is_seen_after_another_closed_its_streams(lone, capfd):
    lone.call(delayed(function)() for function in [bad_tasks.close_streams, bad_tasks.state])
    lone.call(delayed(print)("still here") for _ in range(2))
    until(lambda: capfd.readouterr().out, lambda text: "still here" in text)


def test_t16_a_worker_survives_damage_to_its_modules(lone):
    pids = lone.call(delayed(bad_tasks.damage_modules)() for _ in range(3))
    assert len(pids) == 3
    with pytest.raises(ValueError, match="after the damage"):
        lone.call(delayed(tasks.raise_value_error)("after the damage", i) for i in range(2))


def test_t17_a_thread_left_behind_costs_its_worker(lone):
    with pytest.warns(errors.ClutchWarning, match="thread"):
        pids = lone.call(delayed(bad_tasks.leave_a_thread)() for _ in range(3))
    assert len(set(pids)) == 3, "a worker with a thread of a task was used again"
    assert noted() == {"THREADS_LEFT": 3}


@pytest.mark.parametrize("kind", CHILDREN)
def test_t18_a_child_left_behind_is_killed(limits, kind):
    with limits.within(1):
        left = limits.call(delayed(bad_tasks.leave_a_child)(kind) for _ in range(3))
        children = [child for _, child in left]
        until(lambda: [pid for pid in children if processes.is_alive(pid)], lambda pids: not pids)
    # One that is about to end by itself may count, too.
    assert set(noted()) == {"CHILDREN_KILLED"}
    assert noted()["CHILDREN_KILLED"] >= 3


@pytest.mark.parametrize("kind", CHILDREN)
def test_t18_a_child_dies_with_a_worker_that_is_killed(limits, kind, tmp_path):
    log = str(tmp_path / "log")

    def leave_and_sleep(path):
        import time

        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"{bad_tasks.leave_a_child(kind)[1]}\n")
        time.sleep(60)

    error = limits.raised(delayed(leave_and_sleep)(log), task_timeout=0.5)
    assert type(error) is errors.TimeLimitError
    (child,) = map(int, bad_tasks.noted(log))
    until(lambda: processes.is_alive(child), lambda alive: not alive, seconds=3)


def test_t19_a_task_may_use_processes_of_its_own(oracle):
    assert oracle.call(delayed(bad_tasks.use_a_pool)() for _ in range(4)) == [[1, 2, 3]] * 4
    assert noted() == {}


def test_t20_a_task_that_forks_without_end_is_stopped(limits, by_groups, tmp_path):
    log = str(tmp_path / "log")
    # Without a group that ends at once, it is a race, which others slow down.
    with limits.within(2 if by_groups() else 5):
        error = limits.raised(delayed(bad_tasks.fork_without_end)(log), process_limit=64)
    assert type(error) is errors.ProcessLimitError, error
    assert error.limit == 64
    assert error.peak >= 64
    children = [int(pid) for pid in bad_tasks.noted(log)]
    assert children
    until(
        lambda: [pid for pid in children if processes.is_alive(pid)],
        lambda alive: not alive,
        seconds=3 if by_groups() else 15,
        what="everything that was forked to be gone",
    )


def test_t21_files_left_open_cost_a_worker_now_and_then_and_no_task(lone):
    pids = lone.call(delayed(bad_tasks.leak_files)(10) for _ in range(50))
    assert len(pids) == 50
    counts = [pids.count(pid) for pid in dict.fromkeys(pids)]
    assert 2 <= len(counts) <= 10, counts
    assert max(counts) <= 20, counts


def test_t22_the_zombies_of_a_task_are_gone_after_it(lone):
    pids = lone.call([delayed(bad_tasks.leave_zombies)(200)])
    until(
        lambda: [zombie for pid in pids for zombie in processes.zombies_of(pid)],
        lambda zombies: not zombies,
    )


@pytest.fixture(scope="module")
def with_scratch(agent, witness):
    """Have the agent open the folder of all scratch directories, which it keeps open."""
    Oracle(agent, witness).call([delayed(tasks.pid)()], scratch_limit="16MiB")


def test_t23_temporary_files_go_with_their_worker(with_scratch, oracle, tmp_path):
    """A scratch directory is a worker's, not a task's. Links in it are not followed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folders = oracle.call(
        [delayed(bad_tasks.fill_scratch)(MEGABYTE, str(precious)) for _ in range(1)],
        scratch_limit="16MiB",
    )
    (folder,) = map(Path, folders)
    assert folder.is_dir()
    assert f"clutch-{oracle.agent.pid}-" in str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    oracle.leave()
    until(folder.exists, lambda there: not there)
    assert (precious / "file").exists()


def test_t23_too_much_in_the_scratch_directory_ends_its_task(with_scratch, oracle, tmp_path):
    task = delayed(bad_tasks.fill_scratch_and_stay)(64 * MEGABYTE, str(tmp_path))
    error = oracle.raised(task, scratch_limit="16MiB")
    assert type(error) is errors.ScratchLimitError
    assert error.limit == 16 * MEGABYTE
    assert error.peak > error.limit


def test_t18_a_program_of_a_task_does_not_hold_its_slot(oracle):
    """One that keeps the worker's streams open, for example."""

    def start_a_program():
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

    with oracle.within(1):
        pids = oracle.call(delayed(start_a_program)() for _ in range(2))
    until(lambda: [pid for pid in pids if processes.is_alive(pid)], lambda alive: not alive)
    assert os.getpid() not in pids
