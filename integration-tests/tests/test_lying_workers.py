"""A worker runs anybody's code: what it hands over is looked at before it is believed."""

import os

import cloudpickle
import pytest
from support import lies
from support.agents import Agent
from support.conversations import Conversation, blobs, joined
from support.pickles import plain_batch
from support.waiting import until

cloudpickle.register_pickle_by_value(lies)


@pytest.fixture(scope="module")
def agent():
    """Return an agent that only this module uses, so that its books are ours."""
    with Agent("--slots", "1") as agent:
        yield agent


@pytest.fixture
def conversation(agent):
    """Return a session with a data line."""
    with Conversation(agent.address) as conversation, joined(conversation):
        yield conversation
    until(agent.status, lambda status: not status.sessions)


@pytest.mark.parametrize(
    "make", [lies.nothing, lies.too_many, lies.too_short, lies.unsealed, lies.pipe]
)
def test_a_worker_that_lies_about_its_result_is_killed(agent, conversation, make):
    conversation.submit(1, plain_batch(lies.answer, make))
    failure = conversation.hear("batch_ended").failure
    assert "line" in failure.message, failure
    conversation.submit(2, plain_batch(len, "x"))
    assert conversation.hear("batch_ended").HasField("value")
    assert agent.status().blobs.count == 0


def test_the_same_without_the_lie_is_believed(agent, conversation):
    conversation.submit(1, plain_batch(lies.answer, lies.whole))
    value = conversation.hear("batch_ended").value
    assert list(value.buffer_bytes) == [lies.BYTES]
    assert agent.status().blobs.count == 1
    with joined(conversation) as line:
        response, (descriptor,) = line.ask(fetch=blobs.FetchBlob(blob_id=value.blob_id))
    assert response.HasField("descriptor")
    assert os.fstat(descriptor).st_size == lies.BYTES
    os.close(descriptor)
    assert agent.status().blobs.count == 0
