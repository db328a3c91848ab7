"""Limits on their way to the agent, and what CPUs of a task mean for the others."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import joblib
import pytest
from joblib import Parallel, delayed, parallel_config

from joblib_clutch.profile import WorkerLimits, worker_profile
from joblib_clutch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_agent import FakeAgent

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run(agent: FakeAgent, n_jobs: int = 2, **options: Any) -> tuple[Any, Any]:
    with parallel_config("clutch", agents=agent.address, **options):
        Parallel(n_jobs=n_jobs)(delayed(abs)(i) for i in range(2))
    return agent.sent("define_profile")[-1], agent.sent("open_call")[-1]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)


def test_limits_travel_with_the_profile_and_the_call(agent: FakeAgent) -> None:
    profile, call = run(
        agent,
        memory_limit="1.5G",
        soft_memory=True,
        cpus_per_task=0.5,
        process_limit=64,
        open_files_limit=100,
        scratch_limit="10MB",
        task_timeout=1.5,
        task_cpu_timeout=2.5,
        retries=0,
    )
    limits = profile.limits
    assert (limits.memory_bytes, limits.soft_memory) == (3 << 29, True)
    assert (limits.cpus, limits.processes, limits.open_files) == (0.5, 64, 100)
    assert limits.scratch_bytes == 10_000_000
    assert (call.task_timeout_seconds, call.task_cpu_seconds) == (1.5, 2.5)
    assert call.HasField("retries")
    assert call.retries == 0


def test_who_asks_for_no_limits_sends_none(agent: FakeAgent) -> None:
    profile, call = run(agent)
    assert not profile.HasField("limits")
    assert not call.HasField("retries")
    assert (call.task_timeout_seconds, call.task_cpu_seconds) == (0, 0)


@pytest.mark.skipif(
    "backend_kwargs" not in inspect.signature(Parallel).parameters, reason="joblib before 1.5"
)
def test_parallel_takes_limits_too(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address, memory_limit="1GB"):
        Parallel(n_jobs=2, memory_limit="2GB", retries=3)(delayed(abs)(i) for i in range(2))
    assert agent.sent("define_profile")[0].limits.memory_bytes == 2_000_000_000
    assert agent.sent("open_call")[0].retries == 3


def test_equal_limits_share_workers_and_other_limits_do_not(agent: FakeAgent) -> None:
    for limit in ("1G", 1 << 30, "1GiB", "2G"):
        run(agent, memory_limit=limit)
    first, second, third, fourth = (call.profile_id for call in agent.sent("open_call"))
    assert first == second == third != fourth


@pytest.mark.parametrize(
    ("slots", "cpus", "n_jobs", "at_once"),
    [
        (8, 2, -1, 4),
        (8, 1.5, -1, 4),
        (7, 3, -1, 2),
        (8, 2, -2, 3),
        (8, 100, -1, 1),
        (2, 2, -1, 1),
        # A number of tasks is what it says.
        (8, 4, 6, 6),
    ],
)
def test_tasks_that_want_more_cpus_are_fewer(
    start_agent: Callable[..., FakeAgent], slots: int, cpus: float, n_jobs: int, at_once: int
) -> None:
    agent = start_agent(slots=slots)
    profile, call = run(agent, n_jobs, cpus_per_task=cpus)
    assert call.max_running == at_once
    with parallel_config("clutch", agents=agent.address, cpus_per_task=cpus):
        # With 1, joblib would run them in the driver.
        assert joblib.effective_n_jobs(n_jobs) == profile.workers == max(at_once, 2)


@pytest.mark.parametrize("cpus", [0.5, 1, None])
def test_tasks_of_one_cpu_take_every_slot_there_will_be(
    agent: FakeAgent, cpus: float | None
) -> None:
    profile, call = run(agent, -1, cpus_per_task=cpus)
    assert (call.max_running, profile.workers) == (0, 0)


@pytest.mark.parametrize(
    ("said", "inner", "threads"),
    [
        (None, None, "3"),
        ("2", None, "2"),
        ("8", None, "3"),
        ("0", None, "3"),
        ("4,2", None, "4,2"),
        (None, 1, "1"),
        ("2", 5, "5"),
    ],
)
def test_threads_are_as_many_as_cpus(
    monkeypatch: pytest.MonkeyPatch, said: str | None, inner: int | None, threads: str
) -> None:
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    profile = worker_profile(Settings(cpus_per_task=2.5), inner, 0)
    assert profile.limits == WorkerLimits(cpus=2.5)
    variables = dict(profile.variables)
    assert variables["OMP_NUM_THREADS"] == threads
    assert variables["MKL_NUM_THREADS"] == str(inner or 3)
    assert variables["LOKY_MAX_CPU_COUNT"] == "3"


def test_without_cpus_the_agent_divides_its_cores() -> None:
    variables = dict(worker_profile(Settings(), None, 0).variables)
    assert variables.keys().isdisjoint({*THREADS, "LOKY_MAX_CPU_COUNT"})
