"""Several drivers on one agent: who gets how much of it."""

import threading
import time

import pytest
import tasks
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib import Parallel, delayed, parallel_config
from support.agents import Agent
from support.channels import open_channel
from support.conversations import open_request
from support.drivers import Driver
from support.waiting import until

from joblib_clutch.exceptions import QuotaExceededError
from joblib_clutch.session import Session
from joblib_clutch.settings import Lease

TASK_SECONDS = 0.1

# Wants every slot, for longer than any test takes.
HUNGRY = """
import tasks
address, weight = sys.argv[1], float(sys.argv[2])
with parallel_config("clutch", agents=address, weight=weight):
    work = Parallel(n_jobs=-1, batch_size=1, pre_dispatch="all", return_as="generator_unordered")
    for done in work(delayed(tasks.after)(0.1, i) for i in range(10_000)):
        say(done=done)
"""


def hungry(agent, weight=1.0):
    return Driver(HUNGRY, agent.address, str(weight), PYTHONPATH=tasks.__file__.rsplit("/", 1)[0])


def running(agent):
    """Return what each session runs, by its weight."""
    return {session.weight: session.running for session in agent.status().sessions}


def most_waiting(agent):
    """Return how many batches wait of the session of which most do."""
    return max(session.waiting for session in agent.status().sessions)


def test_a_modest_client_waits_for_no_more_than_two_tasks_of_a_hungry_one():
    with Agent("--slots", "2") as agent, hungry(agent) as other:
        other.fact("done")
        assert most_waiting(agent) > 9_000
        with parallel_config("clutch", agents=agent.address):
            # Starting its worker is no part of the wait.
            Parallel(n_jobs=2)([delayed(tasks.after)(0, 0)])
            waits = []
            for number in range(20):
                began = time.monotonic()
                Parallel(n_jobs=2)([delayed(tasks.after)(TASK_SECONDS, number)])
                waits.append(time.monotonic() - began - TASK_SECONDS)
        # All but the longest one: the 95th percentile.
        assert sorted(waits)[-2] <= 2 * TASK_SECONDS, sorted(waits)
        assert most_waiting(agent) > 1_000, "it was not hungry all the time"


def test_slots_go_by_weight_and_none_idles():
    with Agent("--slots", "4") as agent, hungry(agent, 3) as heavy, hungry(agent, 1) as light:
        heavy.fact("done")
        light.fact("done")
        # Between two batches of a session it runs one fewer for a moment.
        seen = until(lambda: running(agent), lambda seen: sum(seen.values()) == 4)
        until(lambda: running(agent), lambda seen: seen == {3.0: 3, 1.0: 1})
        shares = [running(agent) for _ in range(200)]
        most = max(shares, key=shares.count)
        assert most == {3.0: 3, 1.0: 1}, seen
        light.process.kill()
        until(lambda: running(agent), lambda seen: seen == {3.0: 4})


def overlapping(spans):
    """Return how many of these were at once, at most."""
    return max(sum(1 for b, e in spans if b <= begin < e) for begin, _ in spans)


def spans_of_two_calls(address, **options):
    """Run two calls at once; return when their tasks began and ended."""
    spans = []

    def call():
        with parallel_config("clutch", agents=address, **options):
            spans.extend(Parallel(n_jobs=4)(delayed(tasks.span)(0.05) for _ in range(8)))

    calls = [threading.Thread(target=call) for _ in range(2)]
    for thread in calls:
        thread.start()
    for thread in calls:
        thread.join()
    assert len(spans) == 16
    return spans


def test_a_session_runs_no_more_at_once_than_it_asked_for_over_all_its_calls():
    with Agent("--slots", "4") as agent:
        assert overlapping(spans_of_two_calls(agent.address)) > 2
        assert overlapping(spans_of_two_calls(agent.address, max_slots=2)) == 2
        assert overlapping(spans_of_two_calls(agent.address, max_slots=1)) == 1


def test_an_agent_bounds_each_session_whatever_it_asks_for():
    with Agent("--slots", "4", "--max-session-slots", "1") as agent:
        session = Session(agent.address, Lease(), dict)
        assert session.slots == 1
        session.close()
        assert overlapping(spans_of_two_calls(agent.address)) == 1
        assert overlapping(spans_of_two_calls(agent.address, max_slots=3)) == 1


@pytest.mark.parametrize(
    ("weight", "why"),
    [
        (-1.0, "`weight` cannot be -1: a weight is a number from 0.01 to 100"),
        (float("nan"), "`weight` cannot be NaN: a weight is a number from 0.01 to 100"),
        (float("inf"), "`weight` cannot be inf: a weight is a number from 0.01 to 100"),
        (9.0, "`weight` cannot be 9: the agent's setting `max-session-weight` is 8"),
    ],
)
def test_an_absurd_weight_opens_no_session(weight, why):
    with Agent("--max-session-weight", "8") as agent, open_channel(agent.address) as channel:
        request = open_request("absurd")
        request.weight = weight
        refusal = ExecutorStub(channel).OpenSession(request, timeout=60).refusal
        assert refusal.message == why
        with (
            parallel_config("clutch", agents=agent.address, weight=9),
            pytest.raises(QuotaExceededError, match="max-session-weight"),
        ):
            Parallel(n_jobs=2)([delayed(tasks.double)(1)])


def test_calls_with_other_shares_are_other_sessions():
    with Agent() as agent:
        for weight in (1, 1, 2.5):
            with parallel_config("clutch", agents=agent.address, weight=weight):
                Parallel(n_jobs=2)([delayed(tasks.double)(1)])
        assert sorted(running(agent)) == [1.0, 2.5]
        assert len(agent.status().sessions) == 2
