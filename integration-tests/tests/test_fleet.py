"""One call on several agents."""

import contextlib
import multiprocessing
import signal
import threading
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed
from support.agents import Agent, some_address
from support.waiting import Stopwatch, until

import joblib_clutch
from joblib_clutch import exceptions

RETURN_AS = ["list", "generator", "generator_unordered"]
AGENTS = 3
SLOTS = 2


@contextlib.contextmanager
def within(seconds):
    """Fail when what is inside takes longer."""
    with Stopwatch() as watch:
        yield
    assert watch.seconds < seconds


@contextlib.contextmanager
def when(log, lines, act):
    """Do something once tasks have noted so many lines."""

    def run():
        until(lambda: log.exists() and log.read_text().count("\n"), lambda n: n >= lines)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


@pytest.fixture(scope="module")
def fleet():
    """Return the addresses of some agents that no test may break."""
    agents = [Agent("--slots", str(SLOTS)) for _ in range(AGENTS)]
    try:
        for agent in agents:
            agent.__enter__()
        yield [agent.address for agent in agents]
    finally:
        for agent in agents:
            agent.__exit__(None, None, None)


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_all_agents_run_a_call_and_its_results_are_right(fleet, return_as):
    calls = (delayed(tasks.after)(0.02, number) for number in range(60))
    parallel = Parallel(
        n_jobs=-1, batch_size=1, backend="clutch", agents=fleet, return_as=return_as
    )
    assert sorted(parallel(calls)) == list(range(60))
    report = joblib_clutch.last_report()
    used = Counter(row.agent for row in report.rows)
    assert set(used) == set(fleet)
    # The work is divided evenly.
    assert min(used.values()) >= 60 / AGENTS / 2
    assert report.summary()["agents"] == AGENTS
    assert f"of {AGENTS} agents, 0 failed" in str(report)


def test_the_slots_of_all_agents_add_up(fleet):
    assert joblib_clutch.ClutchBackend(agents=fleet).effective_n_jobs(-1) == AGENTS * SLOTS
    assert joblib_clutch.ClutchBackend(agents=fleet).effective_n_jobs(-2) == AGENTS * SLOTS - 1
    backend = joblib_clutch.ClutchBackend(agents=fleet, cpus_per_task=2)
    assert backend.effective_n_jobs(-1) == AGENTS


def test_tasks_wait_for_each_other_on_all_slots(fleet, tmp_path):
    """All slots run at once: each task waits until all have begun."""
    places = [delayed(tasks.meet)(str(tmp_path), AGENTS * SLOTS) for _ in range(AGENTS * SLOTS)]
    pids = Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet)(places)
    assert len(set(pids)) == AGENTS * SLOTS


def test_n_jobs_bounds_what_runs_on_all_agents_together(fleet, tmp_path):
    calls = [delayed(tasks.most_at_once)(str(tmp_path), 0.05) for _ in range(20)]
    seen = Parallel(n_jobs=3, batch_size=1, backend="clutch", agents=fleet)(calls)
    assert max(seen) == 3


def test_an_error_names_its_host_and_ends_the_call(fleet):
    calls = [delayed(tasks.double)(1), delayed(tasks.first)(())]
    with pytest.raises(IndexError) as caught:
        Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet)(calls * 20)
    assert "first" in str(caught.value.__cause__)


def test_a_time_limit_and_a_timeout_hold_on_each_agent(fleet):
    calls = [delayed(time.sleep)(60) for _ in range(2 * AGENTS * SLOTS)]
    with pytest.raises(exceptions.TimeLimitError):
        Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet, task_timeout=0.3)(calls)
    with pytest.raises(multiprocessing.TimeoutError), within(10):
        Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet, timeout=0.3)(calls)


def test_a_call_that_is_given_up_leaves_all_agents_idle(fleet):
    calls = (delayed(time.sleep)(60 * (number > 0)) for number in range(50))
    parallel = Parallel(
        n_jobs=-1, batch_size=1, backend="clutch", agents=fleet, return_as="generator"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = parallel(calls)
        next(results)
        results.close()
    again = Parallel(n_jobs=-1, backend="clutch", agents=fleet)
    with within(20):
        assert again(delayed(tasks.double)(n) for n in range(20)) == [2 * n for n in range(20)]


def test_calls_inside_tasks_work(fleet):
    inner = [delayed(tasks.nested_sum)(4) for _ in range(12)]
    assert Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet)(inner) == [6] * 12


def test_large_arguments_get_to_every_agent_as_they_were(fleet):
    array = np.arange(2_000_000, dtype=np.float64)
    # Each task waits a little, so that all agents are needed.
    calls = (delayed(tasks.sum_after)(array, 0.05, number) for number in range(36))
    parallel = Parallel(
        n_jobs=-1, batch_size=1, backend="clutch", agents=fleet, return_as="generator"
    )
    expected = float(array.sum())
    results = parallel(calls)
    assert [value - number for number, value in enumerate(results)] == [expected] * 36
    assert joblib_clutch.last_report().summary()["agents"] == AGENTS


def test_nobody_writes_to_what_agents_have_in_common(fleet):
    array = np.zeros(1_000_000)
    with pytest.raises(exceptions.QuotaExceededError, match="several agents"):
        Parallel(n_jobs=-1, backend="clutch", agents=fleet, mmap_mode="r+")(
            delayed(tasks.sum_after)(array, 0, 0) for _ in range(4)
        )


def test_what_tasks_print_on_all_agents_comes_before_their_results(fleet, capfd):
    calls = [delayed(print)(f"task {number}") for number in range(30)]
    Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet)(calls)
    printed = capfd.readouterr().out.split("\n")
    assert sorted(printed) == sorted(["", *(f"task {number}" for number in range(30))])


def test_threads_do_not_grow_with_agents(fleet):
    Parallel(n_jobs=-1, backend="clutch", agents=fleet)(delayed(tasks.double)(1) for _ in range(9))
    names = Counter(thread.name for thread in threading.enumerate())
    assert names["clutch-output"] == 1


# --- agents come and go ---------------------------------------------------------


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_what_a_killed_agent_had_runs_on_the_others(return_as, tmp_path):
    with Agent("--slots", "2") as first, Agent("--slots", "2") as second:
        agents = [first.address, second.address]
        log = tmp_path / "log"
        calls = (delayed(tasks.note_and_wait)(str(log), number, 0.05) for number in range(60))
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, return_as=return_as
        )
        with warnings.catch_warnings(record=True) as caught, within(30):
            warnings.simplefilter("always")
            with when(log, 20, first.process.kill):
                assert sorted(parallel(calls)) == list(range(60))
        told = [str(one.message) for one in caught if "was lost" in str(one.message)]
        assert len(told) == 1
        assert first.address in told[0]
        rows = joblib_clutch.last_report().rows
        assert {row.agent for row in rows if row.retried} == {second.address}
        # At most what it ran, and what had been sent ahead, ran again.
        begun = Counter(log.read_text().split())
        assert sum(begun.values()) - 60 <= sum(bool(row.retried) for row in rows) <= 4
        assert len(begun) == 60


def test_without_retries_the_loss_of_one_agent_fails_the_call(tmp_path):
    with Agent("--slots", "2") as first, Agent("--slots", "2") as second:
        log = tmp_path / "log"
        calls = (delayed(tasks.note_and_wait)(str(log), number, 0.05) for number in range(60))
        agents = [first.address, second.address]
        with (
            when(log, 20, first.process.kill),
            pytest.raises(exceptions.AgentUnavailableError, match=first.address),
        ):
            Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=agents, retries=0)(calls)


def test_a_call_whose_agents_are_all_lost_says_so(tmp_path):
    with Agent("--slots", "1") as first, Agent("--slots", "1") as second:
        log = tmp_path / "log"

        def kill():
            first.process.kill()
            second.process.kill()

        calls = (delayed(tasks.note_and_wait)(str(log), number, 0.1) for number in range(60))
        agents = [first.address, second.address]
        with (
            when(log, 4, kill),
            pytest.warns(exceptions.ClutchWarning),
            pytest.raises(exceptions.AgentUnavailableError, match="none took its place"),
            within(30),
        ):
            Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=agents)(calls)


def test_an_agent_that_is_back_takes_part_again(tmp_path):
    with Agent("--slots", "2") as first, Agent("--slots", "2") as second:
        agents = [first.address, second.address]
        log = tmp_path / "log"
        back = []

        def restart():
            first.process.kill()
            first.process.wait()
            back.append(Agent("--slots", "2", address=first.address).__enter__())

        calls = (
            delayed(tasks.note_until)(str(log), number, str(tmp_path / "gate"))
            for number in range(400)
        )
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, return_as="generator"
        )
        try:
            with pytest.warns(exceptions.ClutchWarning), when(log, 20, restart):
                results = parallel(calls)
                done = [next(results) for _ in range(30)]
                # It runs batches in the same call, under its address.
                until(lambda: back and back[0].workers(), bool, seconds=20)
                (tmp_path / "gate").touch()
                assert done + list(results) == list(range(400))
        finally:
            for agent in back:
                agent.__exit__(None, None, None)


def test_an_agent_that_drains_finishes_and_the_rest_runs_elsewhere(tmp_path):
    with Agent("--slots", "2") as first, Agent("--slots", "2") as second:
        agents = [first.address, second.address]
        log = tmp_path / "log"
        calls = (delayed(tasks.note_and_wait)(str(log), number, 0.2) for number in range(24))
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, pre_dispatch="all"
        )
        with when(log, 6, lambda: first.signal(signal.SIGTERM)), warnings.catch_warnings():
            warnings.simplefilter("error")
            assert parallel(calls) == list(range(24))
        assert first.exit_code() == 0
        # Nothing ran twice, and nothing counts as an attempt.
        assert Counter(log.read_text().split()) == Counter(map(str, range(24)))
        rows = joblib_clutch.last_report().rows
        assert {row.attempts for row in rows if row.outcome == "OK"} == {1}
        assert joblib_clutch.last_report().summary()["batches_failed"] == 0


def test_an_agent_that_is_added_while_a_call_runs_is_used(tmp_path):
    with Agent("--slots", "2") as first, Agent("--slots", "2") as second:
        agents = [first.address]
        log = tmp_path / "log"
        calls = (
            delayed(tasks.note_until)(str(log), number, str(tmp_path / "gate"))
            for number in range(2000)
        )
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, return_as="generator"
        )
        results = parallel(calls)
        done = [next(results)]
        agents.append(second.address)
        done += [next(results) for _ in range(10)]
        until(second.workers, bool, seconds=20)
        (tmp_path / "gate").touch()
        assert done + list(results) == list(range(2000))
        used = Counter(row.agent for row in joblib_clutch.last_report().rows)
        assert set(used) == {first.address, second.address}


def test_agents_that_are_not_there_are_skipped_with_a_warning(fleet):
    agents = [some_address(), fleet[0]]
    with pytest.warns(exceptions.ClutchWarning, match=f"{agents[0]} is not there"):
        values = Parallel(n_jobs=-1, backend="clutch", agents=agents)(
            delayed(tasks.double)(n) for n in range(9)
        )
    assert values == [2 * n for n in range(9)]
    nobody = [some_address(), some_address()]
    with pytest.raises(exceptions.AgentUnavailableError, match="none of 2 agents is there"):
        Parallel(n_jobs=-1, backend="clutch", agents=nobody)([delayed(tasks.double)(1)])


def test_an_idle_agent_runs_a_copy_of_a_straggler(tmp_path):
    with Agent("--slots", "1") as first, Agent("--slots", "1") as second:
        agents = [first.address, second.address]
        # Whoever comes first to the folder stays there for a minute.
        calls = [delayed(tasks.after)(0.05, number) for number in range(8)]
        calls.append(delayed(tasks.slow_the_first_time)(str(tmp_path / "mark"), 60))
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, speculative=True
        )
        with within(20):
            assert parallel(calls) == [*range(8), "again"]
        summary = joblib_clutch.last_report().summary()
        assert (summary["copies"], summary["tasks"]) == (1, 9)
        # Nothing is left of the first one.
        until(lambda: first.busy() + second.busy(), lambda busy: not busy)


def test_no_copies_are_run_unasked_or_without_retries(fleet, tmp_path):
    for options in ({}, {"speculative": True, "retries": 0}):
        mark = str(tmp_path / f"mark{len(options)}")
        calls = [delayed(tasks.after)(0.01, number) for number in range(8)]
        calls.append(delayed(tasks.slow_the_first_time)(mark, 2))
        values = Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=fleet, **options)(calls)
        assert values[-1] == "first"
