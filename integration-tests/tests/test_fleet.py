"""One call on several agents."""

import contextlib
import gc
import multiprocessing
import threading
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed
from support.agents import forget
from support.fleets import agents_of, within
from support.proxies import Proxy
from support.waiting import until

import joblib_clutch
from joblib_clutch import exceptions
from joblib_clutch.spread import Spread

RETURN_AS = ["list", "generator", "generator_unordered"]
AGENTS = 3
SLOTS = 2


@pytest.fixture(scope="module")
def fleet():
    """Return the addresses of some agents that no test may break."""
    with agents_of(AGENTS) as fleet:
        yield [agent.address for agent in fleet]


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


@pytest.mark.parametrize("far", [1, AGENTS])
def test_large_arguments_get_to_agents_elsewhere(fleet, far):
    array = np.arange(2_000_000, dtype=np.float64)
    expected = float(array.sum())
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(address)) for address in fleet[:far]]
        agents = [proxy.address for proxy in proxies] + fleet[far:]
        calls = (delayed(tasks.sum_after)(array, 0.05, number) for number in range(36))
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, return_as="generator"
        )
        values = list(parallel(calls))
        for proxy in proxies:
            forget(proxy.address)
    assert [value - number for number, value in enumerate(values)] == [expected] * 36
    assert {row.agent for row in joblib_clutch.last_report().rows} == set(agents)


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


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_a_call_leaves_nothing_to_the_collector(fleet, return_as):
    array = np.arange(300_000.0)
    gc.collect()
    gc.disable()
    try:
        calls = (delayed(tasks.sum_after)(array, 0, number) for number in range(30))
        list(Parallel(n_jobs=-1, backend="clutch", agents=fleet, return_as=return_as)(calls))
        del calls
        # The thread that looks after agents may have it in its hands for a moment.
        until(lambda: [o for o in gc.get_objects() if isinstance(o, Spread)], lambda some: not some)
    finally:
        gc.enable()


def test_many_agents_cost_no_threads_and_lose_nothing():
    with agents_of(8) as many:
        agents = [agent.address for agent in many]
        calls = (delayed(tasks.after)(0.02, number) for number in range(400))
        parallel = Parallel(
            n_jobs=-1, batch_size=1, backend="clutch", agents=agents, return_as="generator"
        )
        assert list(parallel(calls)) == list(range(400))
        summary = joblib_clutch.last_report().summary()
        assert (summary["agents"], summary["workers"], summary["tasks"]) == (8, 16, 400)
        names = Counter(thread.name for thread in threading.enumerate())
        assert names["clutch-output"] == 1
        assert names["clutch-callbacks"] <= 4
