"""One call on several agents."""

import os
import signal
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
