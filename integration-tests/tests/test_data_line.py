"""Blobs on their way to an agent: descriptors on the data line, bytes on the stream."""

import os

import pytest
from clutch_wire.clutch.v1 import executor_pb2 as wire
from support.agents import Agent, blobs_in_use
from support.conversations import READ, Conversation, DataLine, blobs, joined
from support.waiting import until

PAGE = 4096
# BLAKE3 of b"abc".
ABC_DIGEST = bytes.fromhex("6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85")


def code_of(blob_id, digest):
    """Describe workers that have code."""
    archive = wire.CodeArchive(blob_id=blob_id, digest=digest)
    return wire.DefineProfile(profile_id=9, code=[archive])


@pytest.fixture(scope="module")
def agent():
    """Return an agent that only this module uses, so that its books are ours."""
    with Agent("--slots", "1") as agent:
        yield agent


# Allocating, filling and committing.


def test_what_is_filled_and_committed_cannot_change_any_more(agent, line):
    descriptor = line.allocate(1, 10)
    assert os.fstat(descriptor).st_size == 10
    assert agent.status().blobs.memory_bytes == PAGE
    os.pwrite(descriptor, b"0123456789", 0)
    line.commit(1)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 5)
    os.close(descriptor)


def test_a_writable_blob_can_be_written_but_not_cut(line):
    descriptor = line.allocate(1, 10, writable=True)
    line.commit(1)
    assert os.pwrite(descriptor, b"x", 0) == 1
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 5)
    os.close(descriptor)


def test_what_cannot_be_is_refused_and_the_line_goes_on(line):
    def allocate(blob_id, size=1):
        return {"allocate": blobs.AllocateBlob(blob_id=blob_id, bytes=size)}

    line.put(1, b"x")
    assert "blob 1 is used twice" in line.refusal(**allocate(1))
    assert "it is empty" in line.refusal(**allocate(2, 0))
    assert "numbers from 2^63 on are the agent's" in line.refusal(**allocate(1 << 63))
    assert "it is not being filled" in line.refusal(commit=blobs.CommitBlob(blob_id=1))
    assert "it is not being filled" in line.refusal(commit=blobs.CommitBlob(blob_id=9))
    assert "no result blob 7" in line.refusal(fetch=blobs.FetchBlob(blob_id=7))
    line.put(2, b"y")


def test_a_blob_that_is_released_gives_its_memory_back(agent, conversation, line):
    line.put(1, b"x" * 5 * PAGE)
    assert agent.status().blobs.memory_bytes == 5 * PAGE
    conversation.say(release_blobs=blobs.ReleaseBlobs(blob_ids=[1]))
    until(agent.status, lambda status: status.blobs.memory_bytes == 0)
    line.put(1 << 40, b"x")


def test_blobs_go_to_disk_over_the_budget_and_nowhere_over_both(tmp_path):
    options = ("--blob-memory-bytes", str(2 * PAGE), "--spill-bytes", str(PAGE))
    with (
        Agent("--slots", "1", "--spill-directory", str(tmp_path), *options) as agent,
        Conversation(agent.address) as conversation,
        joined(conversation) as line,
    ):
        line.put(1, b"x" * 2 * PAGE)
        line.put(2, b"y")
        books = agent.status().blobs
        assert (books.count, books.memory_bytes, books.spilled_bytes) == (2, 2 * PAGE, PAGE)
        assert (books.memory_limit_bytes, books.spill_limit_bytes) == (2 * PAGE, PAGE)
        assert list(tmp_path.iterdir()) == [], "no file has a name"
        response, _ = line.ask(allocate=blobs.AllocateBlob(blob_id=3, bytes=7))
        kind = blobs.DESCRIPTOR.pool.FindEnumTypeByName("clutch.v1.FailureKind")
        assert response.refused.kind == kind.values_by_name["FAILURE_KIND_QUOTA_EXCEEDED"].number
        for named in ("7 bytes", "`blob-memory-bytes`", "`spill-bytes`", "8192", "4096"):
            assert named in response.refused.message


# Joining and leaving.


def test_a_line_for_no_session_is_refused_and_closed(agent):
    with DataLine(agent.address) as line:
        assert "no such session" in line.refusal(join=blobs.JoinSession(session_id="x"))
        assert line.closed()


def test_a_line_ends_with_its_session_and_so_do_its_blobs(agent):
    with Conversation(agent.address) as conversation:
        line = joined(conversation)
        line.put(1, b"x")
        descriptor = line.allocate(2, 1)
    with line:
        assert line.closed()
    os.close(descriptor)
    until(agent.status, lambda status: blobs_in_use(status) == 0)


def test_blobs_survive_the_end_of_the_line_that_brought_them(agent, conversation):
    with joined(conversation) as line:
        line.put(1, b"x")
    with joined(conversation) as line:
        assert "used twice" in line.refusal(allocate=blobs.AllocateBlob(blob_id=1, bytes=1))


def test_a_session_has_only_so_many_lines(conversation):
    lines = [joined(conversation) for _ in range(4)]
    with DataLine(conversation.address) as line:
        refusal = line.refusal(join=blobs.JoinSession(session_id=conversation.id))
        assert "4 data lines already" in refusal
    for line in lines:
        line.socket.close()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\x03\0\0\0???", b"\0\0\0\0"])
def test_a_line_that_talks_nonsense_is_closed_and_its_session_lives(conversation, line, nonsense):
    line.socket.sendall(nonsense)
    assert line.closed()
    joined(conversation).socket.close()


def test_a_greeting_that_comes_in_pieces_is_understood(conversation):
    with DataLine(conversation.address, greeting=b"CLU") as line:
        line.socket.sendall(b"TCHD1")
        line.join(conversation.id)


# Files.


def test_a_file_is_the_same_when_path_device_inode_and_size_agree(line, tmp_path):
    path = tmp_path / "array.npy"
    path.write_bytes(b"12345")
    stat = path.stat()
    file = {
        "path": str(path),
        "device": stat.st_dev,
        "inode": stat.st_ino,
        "bytes": stat.st_size,
    }

    def same(**other):
        response, _ = line.ask(same_file=blobs.SameFile(**{**file, **other}))
        return response.file_is_same.same

    assert same()
    others = [{"path": str(tmp_path)}, {"device": 1}, {"inode": 2}, {"bytes": 4}, {"path": "x"}]
    assert [same(**other) for other in others] == [False] * len(others)


# Uploads over the stream.


def test_content_is_sent_once_and_found_by_its_digest_by_another_session(agent, conversation):
    assert conversation.offer(1, 3, ABC_DIGEST).HasField("missing")
    conversation.send(1, b"a")
    conversation.send(1, b"bc")
    assert conversation.hear("blob_state").HasField("present")
    with Conversation(agent.address) as other:
        assert other.offer(7, 3, ABC_DIGEST).HasField("present")
    conversation.say(release_blobs=blobs.ReleaseBlobs(blob_ids=[1]))
    until(agent.status, lambda status: status.blobs.cached == 1)
    assert conversation.offer(2, 3, ABC_DIGEST).HasField("present")


def test_content_that_is_not_what_its_digest_says_is_refused(conversation):
    digest = bytes(32)
    assert conversation.offer(1, 3, digest).HasField("missing")
    conversation.send(1, b"abc")
    refused = conversation.hear("blob_state").refused
    assert ABC_DIGEST.hex() in refused.message
    conversation.submit(1, b"?", buffers=[blobs.BlobUse(blob_id=1, access=READ)])
    assert ABC_DIGEST.hex() in conversation.hear("batch_ended").failure.message


def test_an_upload_needs_no_digest_and_may_be_long(agent, conversation):
    part = bytes(1 << 20)
    assert conversation.offer(1, 8 * len(part)).HasField("missing")
    for _ in range(8):
        conversation.send(1, part)
    assert conversation.hear("blob_state").HasField("present")
    assert agent.status().blobs.memory_bytes >= 8 << 20


def test_an_offer_that_does_not_fit_is_refused_with_the_bounds():
    with (
        Agent("--slots", "1", "--blob-memory-bytes", "0", "--spill-bytes", "0") as agent,
        Conversation(agent.address) as conversation,
    ):
        refused = conversation.offer(1, 5).refused
        assert "5 bytes does not fit" in refused.message
        conversation.submit(1, b"?", buffers=[blobs.BlobUse(blob_id=1, access=READ)])
        assert conversation.hear("batch_ended").failure.message == refused.message


@pytest.mark.parametrize(
    ("say", "rule"),
    [
        (lambda c: c.send(1, b"x"), "blob 1 is not known"),
        (lambda c: (c.offer(1, 1), c.send(1, b"xy")), "blob 1: it is longer than announced"),
        (
            lambda c: (c.offer(1, 1), c.send(1, b"x"), c.send(1, b"x")),
            "blob 1: it expects no bytes",
        ),
        (
            lambda c: (c.offer(1, 1), c.offer(1, 1)),
            "blob 1 is used twice",
        ),
        (
            lambda c: c.say(release_blobs=blobs.ReleaseBlobs(blob_ids=[1])),
            "blob 1 is not known",
        ),
        (
            lambda c: c.submit(1, b"?", buffers=[blobs.BlobUse(blob_id=1, access=READ)]),
            "blob 1 is not known",
        ),
        (
            lambda c: (
                c.offer(1, 1),
                c.submit(1, b"?", shared=[blobs.SharedObject(pickle_blob_id=1)]),
            ),
            "blob 1: it is not complete",
        ),
        (
            lambda c: (
                c.offer(1, 1),
                c.send(1, b"x"),
                c.submit(
                    1,
                    b"?",
                    buffers=[blobs.BlobUse(blob_id=1, access=blobs.BLOB_ACCESS_WRITE)],
                ),
            ),
            "blob 1: it may not be written to",
        ),
        (
            lambda c: c.say(offer_blob=blobs.OfferBlob(blob_id=1, bytes=1, digest=b"short")),
            "field `digest` has 5 bytes",
        ),
        (
            lambda c: c.say(define_profile=code_of(1, b"d" * 32)),
            "blob 1 is not known",
        ),
        (
            lambda c: (c.offer(1, 1), c.say(define_profile=code_of(1, b"d" * 32))),
            "blob 1: it is not complete",
        ),
        (
            lambda c: c.say(define_profile=code_of(1, b"../evil")),
            "field `digest` has 7 bytes",
        ),
    ],
)
def test_a_driver_that_breaks_a_rule_about_blobs_is_told_which(agent, say, rule):
    with Conversation(agent.address) as conversation:
        try:
            say(conversation)
        except AssertionError as error:
            assert rule in str(error)
        else:
            assert rule in conversation.ending()
    until(agent.status, lambda status: not status.sessions and not blobs_in_use(status))
