"""A driver that does not keep to the conversation costs itself, and nobody else."""

import threading

import tasks
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib import Parallel, delayed
from support.agents import Agent
from support.channels import open_channel
from support.conversations import open_request
from support.waiting import until

BATCHES_IN_ENVELOPE = 2_000
ENVELOPES = 200


def submit(batch_id):
    batch = wire.SubmitBatch(batch_id=batch_id, call_id=1, tasks=1, payload=b"?", payload_bytes=1)
    return wire.ClientFrame(submit_batch=batch)


def conversation(session_id, leave):
    """Submit without end what the session may not hold, and then stay."""
    begin = [
        wire.ClientFrame(define_profile=wire.DefineProfile(profile_id=1)),
        wire.ClientFrame(open_call=wire.OpenCall(call_id=1, profile_id=1, nesting_level=1)),
    ]
    yield wire.ClientEnvelope(session_id=session_id, frames=begin)
    for envelope in range(ENVELOPES):
        first = envelope * BATCHES_IN_ENVELOPE + 1
        yield wire.ClientEnvelope(
            frames=[submit(n) for n in range(first, first + BATCHES_IN_ENVELOPE)]
        )
    leave.wait()


def test_a_driver_that_takes_no_outcomes_loses_its_session_and_no_slot():
    leave = threading.Event()
    with (
        Agent("--slots", "1", "--max-open-batches", "4") as agent,
        open_channel(agent.address) as channel,
    ):
        stub = ExecutorStub(channel)
        session_id = stub.OpenSession(open_request("rude"), timeout=60).opened.session_id
        stream = stub.Attach(conversation(session_id, leave))
        try:
            until(agent.stderr, lambda text: "does not take its outcomes" in text)
            until(agent.status, lambda status: not status.sessions)
            run = Parallel(n_jobs=2, backend="clutch", agents=agent.address, batch_size=1)
            assert run(delayed(tasks.double)(i) for i in range(4)) == [0, 2, 4, 6]
        finally:
            leave.set()
            stream.cancel()
