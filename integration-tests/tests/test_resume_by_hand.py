"""What a driver may say when it comes back, and what it may not."""

import itertools
import queue

import grpc
import pytest
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from support.agents import Agent
from support.channels import open_channel
from support.conversations import open_request
from support.waiting import until

SILENCE = 30
_SECONDS = 20


@pytest.fixture(scope="module")
def agent():
    """Return an agent that only this module uses."""
    with Agent("--slots", "2", "--silence-seconds", str(SILENCE)) as agent:
        yield agent


class Stream:
    """One stream of a session, on a connection of its own."""

    def __init__(self, agent, session_id, received=None, **first):
        self.channel = open_channel(agent.address)
        self._said = queue.SimpleQueue()
        first = wire.ClientEnvelope(session_id=session_id, **first)
        if received is not None:
            first.resume.received = received
        self._said.put(first)
        self.heard = ExecutorStub(self.channel).Attach(iter(self._said.get, None), timeout=_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._said.put(None)
        self.channel.close()

    def say(self, *frames, acknowledged=0):
        self._said.put(wire.ClientEnvelope(frames=frames, acknowledged=acknowledged))

    def end(self):
        """End the session in order."""
        self._said.put(None)
        assert list(self.heard) == []

    def refusal(self):
        with pytest.raises(grpc.RpcError) as caught:
            for _ in self.heard:
                pass
        return caught.value.code(), caught.value.details()


def opened(agent, silence=SILENCE):
    with open_channel(agent.address) as channel:
        request = open_request("by hand")
        request.silence_seconds = silence
        return ExecutorStub(channel).OpenSession(request, timeout=60).opened


_PROFILE = wire.ClientFrame(define_profile=wire.DefineProfile(profile_id=1))
_CALL = wire.ClientFrame(open_call=wire.OpenCall(call_id=1, profile_id=1, nesting_level=1))


def batch(number):
    """Make a batch of a call that was never opened: it ends with CANCELLED."""
    submit = wire.SubmitBatch(batch_id=number, call_id=99, tasks=1, payload=b"x", payload_bytes=1)
    return wire.ClientFrame(submit_batch=submit)


def test_an_agent_grants_no_more_silence_than_it_was_told(agent):
    for asked, granted in [(3, 3), (1000, SILENCE), (0, 0), (-1, 0)]:
        answer = opened(agent, asked)
        assert answer.silence_seconds == granted
        with Stream(agent, answer.session_id) as stream:
            stream.end()


def test_frames_are_acknowledged_and_nothing_is_without_silence(agent):
    with Stream(agent, opened(agent).session_id) as stream:
        stream.say(_PROFILE, _CALL)
        assert next(stream.heard).acknowledged == 2
        stream.end()
    with Stream(agent, opened(agent, 0).session_id) as stream:
        stream.say(_PROFILE, batch(1))
        assert next(stream.heard).acknowledged == 0
        stream.end()


def test_whoever_resumes_takes_over_and_gets_what_it_lacks(agent):
    session_id = opened(agent).session_id
    with Stream(agent, session_id) as first:
        first.say(_PROFILE, *map(batch, range(1, 4)))
        frames = itertools.chain.from_iterable(envelope.frames for envelope in first.heard)
        assert [next(frames).batch_ended.batch_id for _ in range(3)] == [1, 2, 3]
        # The agent believes that it is there.
        with Stream(agent, session_id, received=1) as second:
            envelope = next(second.heard)
            assert envelope.resumed.received == 4
            assert [frame.batch_ended.batch_id for frame in envelope.frames] == [2, 3]
            second.say(batch(4), acknowledged=3)
            (frame,) = next(second.heard).frames
            assert frame.batch_ended.batch_id == 4
            # The first is heard no more; its end is not the session's.
            first.say(batch(9))
            first._said.put(None)
            assert list(first.heard) == []
            second.say(batch(5))
            (frame,) = next(second.heard).frames
            assert frame.batch_ended.batch_id == 5
            second.say(acknowledged=5)
            second.end()
    until(lambda: not agent.status().sessions)


def test_the_first_word_may_have_been_lost(agent):
    with Stream(agent, opened(agent).session_id, received=0) as stream:
        envelope = next(stream.heard)
        assert envelope.HasField("resumed") and envelope.resumed.received == 0
        stream.end()


@pytest.mark.parametrize(
    ("received", "complaint"),
    [
        (9, "9 frames are said to have been taken, and only 4 were sent"),
        (1, "1 frames are said to have been taken, after 2 were acknowledged"),
    ],
)
def test_numbers_that_cannot_be_end_the_session(agent, received, complaint):
    session_id = opened(agent).session_id
    with Stream(agent, session_id) as first:
        first.say(batch(1), batch(2), batch(3))
        frames = itertools.chain.from_iterable(envelope.frames for envelope in first.heard)
        assert [next(frames).batch_ended.batch_id for _ in range(3)] == [1, 2, 3]
        first.say(batch(4), acknowledged=2)
        # Now the agent knows.
        assert next(frames).batch_ended.batch_id == 4
        with Stream(agent, session_id, received=received) as stream:
            assert stream.refusal() == (grpc.StatusCode.INVALID_ARGUMENT, complaint)
    until(lambda: not agent.status().sessions)
    with Stream(agent, session_id, received=3) as stream:
        assert stream.refusal() == (grpc.StatusCode.NOT_FOUND, "there is no such session")


def test_a_session_without_silence_and_one_that_is_not_there_cannot_be_resumed(agent):
    session_id = opened(agent, 0).session_id
    with Stream(agent, session_id) as first:
        first.say(batch(1))
        next(first.heard)
        with Stream(agent, session_id, received=0) as stream:
            code, _ = stream.refusal()
            assert code == grpc.StatusCode.ALREADY_EXISTS
        first.end()
    for name in (session_id, "nobody"):
        with Stream(agent, name, received=0) as stream:
            assert stream.refusal() == (grpc.StatusCode.NOT_FOUND, "there is no such session")


def test_who_resumes_says_nothing_before_the_answer(agent):
    session_id = opened(agent).session_id
    with Stream(agent, session_id, received=0, frames=[_PROFILE]) as stream:
        code, details = stream.refusal()
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "resume" in details


def test_an_agent_that_ends_waits_until_its_last_words_are_acknowledged():
    with Agent("--slots", "1") as agent:
        with Stream(agent, opened(agent).session_id) as stream:
            stream.say(batch(1))
            (frame,) = next(stream.heard).frames
            assert frame.batch_ended.batch_id == 1
            agent.signal()
            (frame,) = next(stream.heard).frames
            assert frame.capacity.slots == 0
            # Nobody said yet that they have arrived.
            until(lambda: agent.status().draining)
            assert agent.process.poll() is None
            stream.say(acknowledged=2)
            list(stream.heard)
        assert agent.exit_code() == 0
