"""Blobs in workers: mapped for arguments, made for results, forgotten in time."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from support import processes
from support.agents import Agent, blobs_in_use
from support.conversations import Conversation, blobs, joined
from support.pickles import Reference, batch, plain_batch, with_references
from support.waiting import until

ARRAY = np.arange(1 << 17, dtype=np.float64)
SHAPE = ARRAY.shape
FIRST_RESULT = 1 << 63


@pytest.fixture(scope="module")
def agent():
    """Return an agent that only this module uses, so that its books are ours."""
    with Agent("--slots", "2", warm=("numpy", "cloudpickle", "joblib")) as agent:
        yield agent


def use(blob_id, access=blobs.BLOB_ACCESS_READ):
    return blobs.BlobUse(blob_id=blob_id, access=access)


def array(index=0, dtype="<f8", shape=SHAPE):
    return Reference("array", index, dtype, shape, "C")


def value(conversation):
    """Wait for an outcome that is a value, with its payload's parts."""
    ended = conversation.hear("batch_ended")
    assert ended.HasField("value"), ended.failure
    payload = ended.value.payload
    while len(payload) < ended.value.payload_bytes:
        payload += conversation.hear("payload_part").data
    return ended.value, payload


def result(conversation):
    """Wait for a result that is all in the payload."""
    sent, payload = value(conversation)
    assert not sent.buffer_bytes
    (only,) = pickle.loads(payload)
    return only


def release(conversation, *blob_ids):
    conversation.say(release_blobs=blobs.ReleaseBlobs(blob_ids=blob_ids))


# Arguments.


def test_an_array_is_mapped_by_every_batch_that_uses_it(agent, conversation, line):
    line.put(1, ARRAY.tobytes())
    for number in range(1, 9):
        conversation.submit(number, batch(np.sum, array(), arrays=1), buffers=[use(1)])
    sums = [result(conversation) for _ in range(8)]
    assert sums == [ARRAY.sum()] * 8
    assert agent.status().blobs.memory_bytes == ARRAY.nbytes


def test_what_is_released_is_forgotten_by_idle_workers(agent, conversation, line):
    def maps():
        return [
            text.count("memfd:clutch-blob")
            for text in (Path(f"/proc/{pid}/maps").read_text() for pid in agent.workers())
        ]

    line.put(1, ARRAY.tobytes())
    for number in (1, 2):
        conversation.submit(number, batch(np.sum, array(), arrays=1), buffers=[use(1)])
    for _ in range(2):
        result(conversation)
    assert any(maps())
    release(conversation, 1)
    until(agent.status, lambda status: status.blobs.memory_bytes == 0)
    until(maps, lambda counts: counts and not any(counts))


def test_a_batch_keeps_what_was_released_before_it_ran(conversation, line, gate):
    def waits_and_sums(gate, array):
        import time
        from pathlib import Path

        while not Path(gate).exists():
            time.sleep(0.01)
        return array.sum()

    line.put(1, ARRAY.tobytes())
    for number in range(1, 6):
        payload = batch(waits_and_sums, gate, array(), arrays=1)
        conversation.submit(number, payload, buffers=[use(1)])
    release(conversation, 1)
    Path(gate).touch()
    assert [result(conversation) for _ in range(5)] == [ARRAY.sum()] * 5


def test_workers_write_where_they_may_and_nowhere_else(conversation, line):
    def write(array):
        array[0] += 1
        return float(array[0])

    content = np.zeros(1 << 10)
    line.put(1, content.tobytes())
    line.put(2, content.tobytes(), writable=True)
    reference = Reference("array", 0, "<f8", content.shape, "C")
    payload = batch(write, reference, arrays=1)
    conversation.submit(1, payload, buffers=[use(1)])
    failure = conversation.hear("batch_ended").failure
    assert failure.exception.type_name == "ValueError"
    conversation.submit(2, payload, buffers=[use(1, blobs.BLOB_ACCESS_COPY)])
    assert result(conversation) == 1
    conversation.submit(3, payload, buffers=[use(1, blobs.BLOB_ACCESS_COPY)])
    assert result(conversation) == 1
    for number, expected in ((4, 1), (5, 2), (6, 3)):
        conversation.submit(number, payload, buffers=[use(2, blobs.BLOB_ACCESS_WRITE)])
        assert result(conversation) == expected


def test_a_batch_may_use_more_blobs_than_one_message_carries(conversation, line):
    count = 150
    for blob_id in range(count):
        line.put(blob_id, np.full(64, blob_id, dtype="<f8").tobytes())
    references = [array(index, shape=(64,)) for index in range(count)]
    payload = batch(np.sum, references, arrays=count)
    conversation.submit(1, payload, buffers=[use(blob_id) for blob_id in range(count)])
    assert result(conversation) == 64 * sum(range(count))


def test_a_shared_object_is_unpickled_afresh_for_each_batch(conversation, line):
    def add(list_with_array, item):
        list_with_array.append(item)
        return len(list_with_array), float(list_with_array[0][1])

    pickled = with_references([array()], arrays=1)
    line.put(1, pickled)
    line.put(2, ARRAY.tobytes())
    shared = [blobs.SharedObject(pickle_blob_id=1, buffers=[use(2)])]
    for number in (1, 2):
        payload = batch(add, Reference("shared", 0), number)
        conversation.submit(number, payload, shared=shared)
        assert result(conversation) == (2, 1.0)


def test_a_worker_that_dies_takes_no_blob_with_it(agent, conversation, line):
    def die(array):
        import os

        os._exit(3)

    line.put(1, ARRAY.tobytes())
    conversation.submit(1, batch(die, array(), arrays=1), buffers=[use(1)])
    assert conversation.hear("batch_ended").failure.exit_code == 3
    conversation.submit(2, batch(np.sum, array(), arrays=1), buffers=[use(1)])
    assert result(conversation) == ARRAY.sum()
    release(conversation, 1)
    until(agent.status, lambda status: blobs_in_use(status) == 0)


def test_an_uploaded_array_is_as_good(conversation):
    assert conversation.offer(1, ARRAY.nbytes).HasField("missing")
    content = ARRAY.tobytes()
    for begin in range(0, len(content), 1 << 18):
        conversation.send(1, content[begin : begin + (1 << 18)])
    assert conversation.hear("blob_state").HasField("present")
    conversation.submit(1, batch(np.sum, array(), arrays=1), buffers=[use(1)])
    assert result(conversation) == ARRAY.sum()


# Results.


def fetched(line, sent):
    """Fetch the buffers of a result by the data line."""
    response, descriptors = line.ask(fetch=blobs.FetchBlob(blob_id=sent.blob_id))
    assert response.HasField("descriptor"), response
    (descriptor,) = descriptors
    buffers, offset = [], 0
    for size in sent.buffer_bytes:
        offset = -(-offset // 64) * 64
        buffers.append(bytearray(os.pread(descriptor, size, offset)))
        offset += size
    os.close(descriptor)
    return buffers


def test_the_buffers_of_a_result_are_fetched_once_by_the_data_line(agent, conversation, line):
    conversation.submit(1, plain_batch(np.ones, 1 << 17))
    sent, payload = value(conversation)
    assert sent.blob_id >= FIRST_RESULT
    assert list(sent.buffer_bytes) == [8 << 17]
    assert agent.status().blobs.memory_bytes == 8 << 17
    (ones,) = pickle.loads(payload, buffers=fetched(line, sent))
    assert ones.sum() == 1 << 17
    assert agent.status().blobs.memory_bytes == 0
    again = line.refusal(fetch=blobs.FetchBlob(blob_id=sent.blob_id))
    assert "fetched before" in again


def test_a_result_that_is_not_wanted_is_released(agent, conversation, line):
    conversation.submit(1, plain_batch(np.ones, 1 << 17))
    sent, _ = value(conversation)
    release(conversation, sent.blob_id)
    until(agent.status, lambda status: status.blobs.memory_bytes == 0)
    release(conversation, sent.blob_id)
    conversation.submit(2, plain_batch(len, "x"))
    assert result(conversation) == 1


def test_without_a_data_line_the_buffers_follow_the_pickle(agent, conversation):
    def make():
        import numpy

        return numpy.ones(1 << 18), numpy.arange(1 << 15, dtype="<i8")

    conversation.submit(1, plain_batch(make))
    sent, payload = value(conversation)
    assert sent.blob_id == 0
    assert list(sent.buffer_bytes) == [8 << 18, 8 << 15]
    view = memoryview(payload)
    end = len(payload)
    buffers = []
    for size in reversed(sent.buffer_bytes):
        buffers.insert(0, bytearray(view[end - size : end]))
        end -= size
    ((ones, numbers),) = pickle.loads(view[:end], buffers=buffers)
    assert (ones.sum(), numbers[-1]) == (1 << 18, (1 << 15) - 1)
    until(agent.status, lambda status: status.blobs.memory_bytes == 0)


def test_results_go_to_disk_when_memory_is_used_up(tmp_path):
    options = ("--blob-memory-bytes", str(1 << 20), "--spill-directory", str(tmp_path))
    with (
        Agent("--slots", "1", *options, warm=("numpy",)) as agent,
        Conversation(agent.address) as conversation,
        joined(conversation) as line,
    ):
        conversation.submit(1, plain_batch(np.ones, 1 << 17))
        in_memory, _ = value(conversation)
        conversation.submit(2, plain_batch(np.ones, 1 << 17))
        on_disk, payload = value(conversation)
        books = agent.status().blobs
        assert (books.memory_bytes, books.spilled_bytes) == (1 << 20, 1 << 20)
        assert list(tmp_path.iterdir()) == [], "no file has a name"
        (ones,) = pickle.loads(payload, buffers=fetched(line, on_disk))
        assert ones.sum() == 1 << 17
        fetched(line, in_memory)
        until(agent.status, lambda status: status.blobs.count == 0)


def test_a_result_over_every_bound_is_refused_with_the_bounds():
    options = ("--blob-memory-bytes", "4096", "--spill-bytes", "0")
    with (
        Agent("--slots", "1", *options, warm=("numpy",)) as agent,
        Conversation(agent.address) as conversation,
        joined(conversation),
    ):
        conversation.submit(1, plain_batch(np.ones, 1 << 17))
        failure = conversation.hear("batch_ended").failure
        assert "`blob-memory-bytes`" in failure.message, failure
        conversation.submit(2, plain_batch(len, "x"))
        assert result(conversation) == 1, "the worker lives on"


def test_thousands_of_blobs_leave_no_descriptor_and_no_memory(agent, conversation, line):
    def round_trips(first, count):
        for number in range(first, first + count):
            line.put(number, ARRAY[:64].tobytes())
            payload = batch(np.ones, 1 << 15)
            conversation.submit(number, payload, buffers=[use(number)])
            sent, _ = value(conversation)
            fetched(line, sent)
            release(conversation, number)
        until(agent.status, lambda status: status.blobs.count == 0)

    def descriptors():
        return len(processes.descriptors_of(agent.pid))

    round_trips(1, 10)
    before = descriptors()
    round_trips(100, 1000)
    until(descriptors, lambda count: count <= before)
