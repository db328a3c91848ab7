"""Agents that get content from each other while it arrives."""

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from support.agents import Agent, forget
from support.clients import open_session
from support.conversations import READ, Conversation, blobs
from support.peers import Neighbour, Reading
from support.pickles import Reference, batch, plain_batch
from support.proxies import Proxy
from support.waiting import until

from joblib_clutch import _native
from joblib_clutch.broadcast import plan

ARRAY = np.random.default_rng(5).random(1 << 18)
CONTENT = ARRAY.tobytes()
SIZE = len(CONTENT)
HALF = SIZE // 2
DIGEST = _native.digest(CONTENT)
PART = 128 << 10
COUNT = 4
WARM = ("numpy", "cloudpickle", "joblib")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def agents():
    """Return agents that only this module uses."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Agent("--slots", "1", "--blob-keep-seconds", "0.2", warm=WARM))
            for _ in range(COUNT)
        ]


@pytest.fixture
def talks(agents):
    """Return a conversation with each agent; none keeps anything of it."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Conversation(agent.address)) for agent in agents]
    for agent in agents:
        until(agent.status, lambda status: not status.sessions and status.blobs.count == 0)


def offer(talk, *sources, digest=DIGEST):
    """Offer the content, and wait for no answer."""
    number = next(_numbers)
    body = blobs.OfferBlob(blob_id=number, bytes=SIZE, digest=digest, sources=sources)
    talk.say(offer_blob=body)
    return number


def told(talk):
    """Wait for the agent's word on an offer."""
    return talk.hear("blob_state").WhichOneof("state")


def send(talk, number, begin=0, end=SIZE):
    for offset in range(begin, end, PART):
        talk.send(number, CONTENT[offset : min(offset + PART, end)])


def total(talk, number):
    """Have a worker add the numbers of the content up."""
    reference = Reference("array", 0, "<f8", ARRAY.shape, "C")
    used = [blobs.BlobUse(blob_id=number, access=READ)]
    talk.submit(next(_numbers), batch(np.sum, reference, arrays=1), buffers=used)
    ended = talk.hear("batch_ended")
    assert ended.HasField("value"), ended.failure
    return ended.value.payload


def release(talk, number):
    talk.say(release_blobs=blobs.ReleaseBlobs(blob_ids=[number]))


# The chain.


def test_content_flows_through_a_chain_while_it_arrives(agents, talks):
    addresses = [agent.address for agent in agents]
    # All are told at once, the last one first: who asks too early waits.
    numbers = [0] * COUNT
    for index in reversed(range(COUNT)):
        numbers[index] = offer(talks[index], *reversed(addresses[:index]))
    assert told(talks[0]) == "missing"
    send(talks[0], numbers[0], end=HALF)
    with Reading(addresses[-1], DIGEST, SIZE) as last:
        assert last.read(HALF) == CONTENT[:HALF], "and the rest was not sent"
        send(talks[0], numbers[0], begin=HALF)
        assert last.rest() == CONTENT[HALF:]
    assert [told(talk) for talk in talks] == ["present"] * COUNT
    sums = {total(*used) for used in zip(talks, numbers, strict=True)}
    assert len(sums) == 1


def test_a_driver_sends_one_copy_for_all(agents):
    with contextlib.ExitStack() as stack:
        ways = [stack.enter_context(Proxy(agent.address)) for agent in agents]
        sessions = [open_session(way.address) for way in ways]
        before = sum(way.sent for way in ways)
        chain = plan([], [], [agent.address for agent in agents])

        def put(session, sources):
            return session.put(CONTENT, False, DIGEST, sources)

        with ThreadPoolExecutor(COUNT) as threads:
            names = threads.map(put, sessions, [sources for _, sources in chain])
            names = [name for name, _ in names]
        assert SIZE < sum(way.sent for way in ways) - before < 1.1 * SIZE
        for session, name in zip(sessions, names, strict=True):
            session.release([name])
        (name, _), *_ = [session.put(CONTENT, False, DIGEST) for session in sessions]
        assert sum(way.sent for way in ways) - before < 1.1 * SIZE, "they have it"
        assert name not in names
        for session in sessions:
            session.close()
    for agent in agents:
        until(agent.status, lambda status: status.blobs.count == 0)


def test_a_source_that_is_killed_halfway_is_replaced_by_the_next(agents, talks):
    whole = offer(talks[1])
    assert told(talks[1]) == "missing"
    with Agent("--slots", "1") as victim, Conversation(victim.address) as talk:
        number = offer(talk)
        assert told(talk) == "missing"
        send(talk, number, end=HALF)
        followers = [
            # The next one has it by then; nobody else.
            (talks[2], offer(talks[2], victim.address, agents[1].address), "present"),
            (talks[3], offer(talks[3], victim.address), "missing"),
        ]
        for agent in agents[2:]:
            with Reading(agent.address, DIGEST, SIZE) as reading:
                assert reading.read(HALF) == CONTENT[:HALF]
        send(talks[1], whole)
        assert told(talks[1]) == "present"
        victim.process.kill()
        assert [told(talk) for talk, _, _ in followers] == [state for *_, state in followers]
    send(*followers[1][:2])
    assert told(talks[3]) == "present"
    assert len({total(talk, number) for talk, number, _ in followers}) == 1


def test_the_fetch_goes_on_without_the_driver_that_asked_first(agents, talks):
    with Neighbour(CONTENT[:HALF], stays=True) as neighbour:
        with Conversation(agents[0].address) as first:
            offer(first, neighbour.address)
            until(lambda: len(neighbour.asked), lambda asked: asked == 1)
            second = offer(talks[0], neighbour.address)
            other = offer(talks[0], neighbour.address)
            # An answer to another thing: by now the agent has heard of both.
            talks[0].submit(next(_numbers), plain_batch(sum, [1]))
            assert talks[0].hear("batch_ended").HasField("value")
        with Reading(agents[0].address, DIGEST, SIZE) as reading:
            assert reading.read(HALF) == CONTENT[:HALF]
            release(talks[0], other)
            assert len(neighbour.asked) == 1
            assert not neighbour.left.is_set()
            # With the last interest it is given up, and whoever follows is told.
            release(talks[0], second)
            assert neighbour.left.wait(10)
            code, why = reading.refusal()
    assert code.name == "ABORTED" and "stopped coming" in why


def test_an_offer_that_takes_its_time_holds_up_nothing(agents, talks):
    with Neighbour(stays=True) as neighbour:
        number = offer(talks[0], neighbour.address)
        until(lambda: neighbour.asked)
        for _ in range(3):
            talks[0].submit(next(_numbers), plain_batch(sum, [1, 2]))
            assert talks[0].hear("batch_ended").HasField("value")
        here = offer(talks[0], digest=b"")
        assert told(talks[0]) == "missing"
        release(talks[0], here)
        release(talks[0], number)
        assert neighbour.left.wait(10)


# Lies and nonsense: S10, S11, S12.

LIES = {
    "other bytes": [CONTENT[:HALF], bytes(HALF)],
    "more bytes": [CONTENT, b"x"],
    "one part that is too long": [CONTENT + b"x"],
    "fewer bytes": [CONTENT[:HALF]],
    "nothing": [],
}


@pytest.mark.parametrize("lie", LIES)
def test_s11_content_of_a_peer_that_lies_is_never_present(lie, agents, talks):
    fits = lie == "more bytes"
    with Neighbour(*LIES[lie]) as liar:
        number = offer(talks[0], liar.address)
        # What is behind the end is not looked at.
        assert told(talks[0]) == ("present" if fits else "missing")
        assert len(liar.asked) == 1
    release(talks[0], number)
    until(agents[0].status, lambda status: status.blobs.count == 0)
    # An honest one after it is believed.
    send(talks[1], whole := offer(talks[1]))
    assert [told(talks[1]), told(talks[1])] == ["missing", "present"]
    with Neighbour(*LIES[lie]) as liar:
        number = offer(talks[0], liar.address, agents[1].address)
        assert told(talks[0]) == "present"
        assert liar.asked[0].offset == 0
    assert total(talks[0], number) == total(talks[1], whole)


def test_s11_an_upload_that_is_something_else_reaches_no_follower(agents, talks):
    number = offer(talks[0])
    assert told(talks[0]) == "missing"
    follower = offer(talks[1], agents[0].address)
    with Reading(agents[1].address, DIGEST, SIZE) as reading:
        talks[0].send(number, bytes(PART))
        assert reading.read(PART) == bytes(PART), "nobody can know yet"
        for offset in range(PART, SIZE, PART):
            talks[0].send(number, bytes(PART) if offset else b"")
        assert told(talks[0]) == "refused"
        assert told(talks[1]) == "missing"
        assert reading.refusal()[0].name == "ABORTED"
    for talk, blob_id in ((talks[0], number), (talks[1], follower)):
        release(talk, blob_id)
    for agent in agents[:2]:
        until(agent.status, lambda status: status.blobs.count == 0)


def test_s10_names_that_are_no_digests_are_refused_before_anything(agents):
    for name in (b"../../etc/passwd", b"/etc/passwd\0", DIGEST[:31], DIGEST + b"x", b""):
        with Reading(agents[0].address, name, SIZE) as reading:
            code, why = reading.refusal()
        assert code.name == "INVALID_ARGUMENT" and "`digest`" in why
        if name:
            with Conversation(agents[0].address) as talk:
                offer(talk, digest=name)
                assert "`digest`" in talk.ending()
    until(agents[0].status, lambda status: not status.sessions and status.blobs.count == 0)


def test_places_and_lengths_that_make_no_sense_are_refused(agents, talks):
    number = offer(talks[0])
    assert told(talks[0]) == "missing"
    for size, offset, code in (
        (0, 0, "INVALID_ARGUMENT"),
        (SIZE, SIZE + 1, "INVALID_ARGUMENT"),
        (SIZE - 1, 0, "INVALID_ARGUMENT"),
    ):
        with Reading(agents[0].address, DIGEST, size, offset) as reading:
            assert reading.refusal()[0].name == code
    with Reading(agents[0].address, bytes(32), SIZE) as reading:
        assert reading.refusal()[0].name == "NOT_FOUND"
    release(talks[0], number)
    with Conversation(agents[0].address) as talk:
        offer(talk, *(["unix:/x"] * 65))
        assert "`sources`" in talk.ending()


def test_addresses_that_lead_nowhere_cost_nothing_but_themselves(agents, talks):
    send(talks[1], offer(talks[1]))
    assert [told(talks[1]), told(talks[1])] == ["missing", "present"]
    nowhere = ["", "x", "unix:", "unix:/nobody/listens", "unix-abstract:clutch-nobody", "a:1\0"]
    offer(talks[0], *nowhere, agents[1].address)
    assert told(talks[0]) == "present"


def test_s12_what_changed_on_the_disk_is_given_to_nobody(tmp_path, agents, talks):
    spill = ("--blob-memory-bytes", "4096", "--spill-directory", str(tmp_path))
    with Agent("--slots", "1", *spill) as agent, Conversation(agent.address) as talk:
        send(talk, number := offer(talk))
        assert [told(talk), told(talk)] == ["missing", "present"]
        with Reading(agent.address, DIGEST, SIZE) as reading:
            assert reading.rest() == CONTENT
        if not corrupt(agent.pid, tmp_path):
            pytest.skip("only root opens a file that its owner may only read")
        follower = offer(talks[0], agent.address)
        assert told(talks[0]) == "missing"
        release(talks[0], follower)
        with Reading(agent.address, DIGEST, SIZE) as reading:
            assert reading.refusal()[0].name == "NOT_FOUND"
        release(talk, number)
        # Offered again, it is looked at again.
        send(talk, number := offer(talk))
        assert [told(talk), told(talk)] == ["missing", "present"]
        assert corrupt(agent.pid, tmp_path)
        offer(talk)
        assert told(talk) == "missing"


def corrupt(pid, folder):
    """Flip a byte of the one file that a process has below a folder; false: not allowed."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # Others of its files come and go.
        with contextlib.suppress(FileNotFoundError):
            if str(link.readlink()).startswith(str(folder)):
                found.append(link)
    (file,) = found
    try:
        with file.open("r+b") as opened:
            opened.seek(HALF)
            byte = opened.read(1)
            opened.seek(HALF)
            opened.write(bytes([byte[0] ^ 1]))
    except PermissionError:
        return False
    return True


# Bounds.


def test_only_so_many_are_given_content_at_once(agents, talks):
    number = offer(talks[0])
    assert told(talks[0]) == "missing"
    send(talks[0], number, end=PART)
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            reading = stack.enter_context(Reading(agents[0].address, DIGEST, SIZE))
            assert reading.read(PART) == CONTENT[:PART]
        with Reading(agents[0].address, DIGEST, SIZE) as one_more:
            code, why = one_more.refusal()
    assert code.name == "RESOURCE_EXHAUSTED" and "64" in why
    release(talks[0], number)


def test_content_that_nobody_uses_goes_in_time(agents, talks):
    send(talks[0], number := offer(talks[0]))
    assert [told(talks[0]), told(talks[0])] == ["missing", "present"]
    release(talks[0], number)
    until(agents[0].status, lambda status: status.blobs.count == 0)


def test_a_call_passes_the_upload_of_another(agents):
    content = np.zeros(48 << 20, np.uint8)
    with Proxy(agents[0].address, bytes_per_second=16 << 20) as way:
        with ThreadPoolExecutor(1) as thread:
            run = Parallel(n_jobs=2, backend="clutch", agents=way.address)
            large = thread.submit(run, [delayed(len)(content)])
            until(lambda: way.sent, lambda sent: sent > 2 << 20)
            run = Parallel(n_jobs=2, backend="clutch", agents=way.address)
            assert run(delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
            assert way.sent < content.nbytes, "the upload was over before"
            assert large.result() == [content.nbytes]
        forget(way.address)
