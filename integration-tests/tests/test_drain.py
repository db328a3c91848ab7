"""An agent that is asked to drain: it takes nothing new, and loses nothing."""

import os
import signal
import time
from pathlib import Path

import pytest
import tasks
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import failure_pb2
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib import Parallel, delayed
from support.agents import Agent
from support.channels import open_channel
from support.conversations import Conversation, open_request
from support.drivers import Driver
from support.pickles import plain_batch
from support.waiting import Stopwatch, until

from joblib_clutch import exceptions

DRAINING = failure_pb2.FAILURE_KIND_AGENT_DRAINING
# Shorter than what runs: a drain by request knows no deadline.
HURRY = ("--slots", "1", "--drain-seconds", "0.2")


def submit_waiting(driver, gate, count):
    """Submit batches that wait at the gate, numbered from 1."""

    def wait():
        while not Path(gate).exists():
            time.sleep(0.01)

    # A function of a function travels by value: these workers have no modules of ours.
    for number in range(1, count + 1):
        driver.submit(number, plain_batch(wait))


def test_what_runs_finishes_and_what_waits_is_given_back(gate):
    with Agent(*HURRY) as agent, Conversation(agent.address) as driver:
        submit_waiting(driver, gate, 3)
        until(agent.busy)
        assert agent.drain() == 3
        assert driver.hear("capacity").slots == 0
        given_back = [driver.hear("batch_ended") for _ in range(2)]
        assert [ended.batch_id for ended in given_back] == [2, 3]
        assert {ended.failure.kind for ended in given_back} == {DRAINING}
        assert agent.status().draining
        # Once more says the same, and what comes now is given back too.
        assert agent.drain() == 1
        driver.submit(4, plain_batch(os.getpid))
        late = driver.hear("batch_ended")
        assert (late.batch_id, late.failure.kind) == (4, DRAINING)
        # Longer than the deadline of an agent that is told to stop.
        with pytest.raises(AssertionError):
            until(lambda: agent.process.poll() is not None, seconds=1)
        tasks.open_gate(gate)
        ended = driver.hear("batch_ended")
        assert ended.batch_id == 1 and ended.HasField("value")
        assert agent.exit_code() == 0


def test_no_new_session_is_opened_and_one_that_was_opened_is_told(gate):
    with Agent(*HURRY) as agent, Conversation(agent.address) as driver:
        with open_channel(agent.address) as channel:
            stub = ExecutorStub(channel)
            opened = stub.OpenSession(open_request("early"), timeout=60).opened
            submit_waiting(driver, gate, 1)
            until(agent.busy)
            agent.drain()
            refusal = stub.OpenSession(open_request("late"), timeout=60).refusal
            assert refusal.kind == DRAINING
            envelope = wire.ClientEnvelope(session_id=opened.session_id)
            told = next(stub.Attach(iter([envelope, wire.ClientEnvelope()]), timeout=10))
            assert told.frames[0].capacity == wire.Capacity(slots=0)
        tasks.open_gate(gate)
        assert agent.exit_code() == 0


def test_an_idle_agent_ends_at_once_although_drivers_are_there():
    with Agent() as agent, Conversation(agent.address) as driver, Stopwatch() as watch:
        assert agent.drain() == 0
        assert driver.hear("capacity").slots == 0
        assert agent.exit_code() == 0
        assert watch.seconds < 5


def test_a_signal_sets_the_deadline_after_all(gate):
    with Agent(*HURRY) as agent, Conversation(agent.address) as driver:
        submit_waiting(driver, gate, 1)
        until(agent.busy)
        agent.drain()
        agent.signal(signal.SIGTERM)
        assert driver.hear("batch_ended").failure.kind == DRAINING
        assert agent.exit_code() == 75


def test_an_agent_that_is_told_to_stop_says_so_to_its_drivers(gate):
    with Agent("--slots", "1") as agent, Conversation(agent.address) as driver:
        submit_waiting(driver, gate, 2)
        until(agent.busy)
        agent.signal(signal.SIGTERM)
        assert driver.hear("capacity").slots == 0
        assert driver.hear("batch_ended").failure.kind == DRAINING
        tasks.open_gate(gate)
        assert driver.hear("batch_ended").HasField("value")
        assert agent.exit_code() == 0


@pytest.mark.parametrize("kind", ["array", "bytes"])
def test_a_driver_that_is_slow_gets_everything_all_the_same(kind):
    """Results that lie in the agent, and results that fill the line, are not lost."""
    script = """
    import numpy, tasks
    call = Parallel(2, backend="clutch", agents=sys.argv[1], batch_size=1, pre_dispatch="all",
                    return_as="generator")
    results = call(delayed(tasks.big_result)(sys.argv[2], 8 << 20, i) for i in range(4))
    say(going=True)
    say(sums=[tasks.sum_of(result) for result in results])
    """
    folder = os.path.dirname(tasks.__file__)  # noqa: PTH120 - as short as it gets
    with (
        Agent("--slots", "2") as agent,
        Driver(script, agent.address, kind, PYTHONPATH=folder) as slow,
    ):
        slow.fact("going")
        until(agent.busy)
        slow.process.send_signal(signal.SIGSTOP)
        # Nothing waits to be given back: all that was taken is to be delivered.
        until(
            agent.status,
            lambda s: not s.sessions[0].waiting and not s.sessions[0].running,
        )
        agent.drain()
        with pytest.raises(AssertionError):
            until(lambda: agent.process.poll() is not None, seconds=2)
        slow.process.send_signal(signal.SIGCONT)
        assert slow.finish()["sums"] == [(8 << 20) * i for i in range(4)]
        assert agent.exit_code() == 0


def test_users_of_the_shim_are_told_what_happened(gate):
    with Agent("--slots", "1") as agent:
        run = Parallel(2, backend="clutch", agents=agent.address, return_as="generator")
        results = run(delayed(tasks.wait_for)(gate, i) for i in range(2))
        until(agent.busy)
        agent.drain()
        tasks.open_gate(gate)
        with pytest.raises(exceptions.AgentDrainingError, match="asked to stop"):
            list(results)
        assert agent.exit_code() == 0
