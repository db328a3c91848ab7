"""Agents come, go and are slow while one call runs on several."""

import signal
import warnings
from collections import Counter

import pytest
import tasks
from joblib import Parallel, delayed
from support.agents import Agent, some_address
from support.fleets import agents_of, when, within
from support.waiting import until

import joblib_clutch
from joblib_clutch import exceptions

RETURN_AS = ["list", "generator", "generator_unordered"]


@pytest.fixture
def fleet():
    """Return the addresses of two agents."""
    with agents_of(2) as fleet:
        yield [agent.address for agent in fleet]


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
    with pytest.raises(exceptions.AgentUnavailableError, match="none of 2 agents can be used"):
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
