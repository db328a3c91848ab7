"""Drivers and agents of different versions: they talk, or say why not (rows V01 to V04)."""

import queue

import numpy as np
import pytest
import tasks
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib import Parallel, delayed
from support.agents import blobs_in_use, forget
from support.between import UNKNOWN_FIELD, AgentOfLastMinor, AgentOfNextMinor
from support.channels import open_channel
from support.conversations import Conversation, open_request
from support.pickles import plain_batch
from support.waiting import until

BIG = 300_000
MANY = 2_000


def mean(array, number):
    return float(array.mean()) + number


def grow(number):
    return np.full(BIG, number)


@pytest.fixture(params=[AgentOfLastMinor, AgentOfNextMinor], ids=["1.0", "1.99"])
def other_agent(request, shared_agent):
    with request.param(shared_agent.address) as between:
        yield between
        forget(between.address)


def test_v03_this_driver_works_with_agents_of_other_minors(other_agent):
    run = Parallel(2, backend="clutch", agents=other_agent.address, batch_size=1, max_nbytes=1000)
    assert run(delayed(tasks.double)(i) for i in range(MANY)) == [2 * i for i in range(MANY)]
    array = np.ones(BIG)
    assert run(delayed(mean)(array, i) for i in range(8)) == [1.0 + i for i in range(8)]
    assert [int(big.sum()) for big in run(delayed(grow)(i) for i in range(4))] == [
        BIG * i for i in range(4)
    ]
    with pytest.raises(ZeroDivisionError):
        run(delayed(divmod)(1, i) for i in range(4))
    assert not getattr(other_agent, "strange", [])


def test_v03_a_driver_of_the_last_minor_gets_every_outcome_and_leaves_nothing(shared_agent):
    # What other tests left open is none of this one's.
    forget(shared_agent.address)
    # More outcomes than an agent would keep for a driver that has to acknowledge them.
    with Conversation(shared_agent.address) as driver:
        for number in range(1, MANY + 1):
            driver.submit(number, plain_batch(pow, number, 2))
        ended = [driver.hear("batch_ended") for _ in range(MANY)]
    assert {outcome.batch_id for outcome in ended} == set(range(1, MANY + 1))
    assert all(outcome.HasField("value") for outcome in ended)
    until(shared_agent.status, lambda status: not status.sessions and not blobs_in_use(status))


def test_v03_an_agent_ignores_what_only_later_drivers_say(shared_agent):
    request = open_request("from the future")
    request.protocol.minor = 99
    request.MergeFromString(UNKNOWN_FIELD)
    with open_channel(shared_agent.address) as channel:
        stub = ExecutorStub(channel)
        session = stub.OpenSession(request, timeout=60).opened
        payload = plain_batch(pow, 21, 2)
        said = [
            wire.ClientFrame(define_profile=wire.DefineProfile(profile_id=1)),
            wire.ClientFrame(open_call=wire.OpenCall(call_id=1, profile_id=1, nesting_level=1)),
            wire.ClientFrame(
                submit_batch=wire.SubmitBatch(
                    batch_id=1, call_id=1, tasks=1, payload=payload, payload_bytes=len(payload)
                )
            ),
        ]
        for frame in said:
            getattr(frame, frame.WhichOneof("body")).MergeFromString(UNKNOWN_FIELD)
        envelope = wire.ClientEnvelope(session_id=session.session_id, frames=said)
        envelope.MergeFromString(UNKNOWN_FIELD)
        words: queue.SimpleQueue[wire.ClientEnvelope | None] = queue.SimpleQueue()
        words.put(envelope)
        stream = stub.Attach(iter(words.get, None), timeout=60)
        heard = (frame for envelope in stream for frame in envelope.frames)
        outcome = next(frame.batch_ended for frame in heard if frame.HasField("batch_ended"))
        words.put(None)
        assert not list(heard)
    assert outcome.HasField("value"), outcome
