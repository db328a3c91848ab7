"""What was put at an agent can be put at the next one, as it was."""

from __future__ import annotations

from typing import Any

import pytest

from joblib_clutch import kept as kept_module
from joblib_clutch.blobs import Access
from joblib_clutch.exceptions import AgentUnavailableError, CallCancelledError
from joblib_clutch.kept import KeptBlobs
from joblib_clutch.lost import SessionLostError


class FakeSession:
    """Has blobs, and the memory of those that nobody writes to, until it is lost."""

    def __init__(self, *, shares_memory: bool = True, first_name: int = 1) -> None:
        self.blobs = self
        self.content: dict[int, bytes] = {}
        self.writable: set[int] = set()
        self.lost = False
        self.answer = True
        self._next = first_name
        self._shares_memory = shares_memory

    def put(self, buffer: Any, *, writable: bool = False) -> tuple[int, Any]:
        self._check()
        name, self._next = self._next, self._next + 1
        self.content[name] = bytes(buffer)
        if writable:
            self.writable.add(name)
        shared = self._shares_memory and not writable
        return name, memoryview(self.content[name]) if shared else None

    def release(self, names: list[int]) -> None:
        for name in names:
            del self.content[name]

    def sees(self, path: str, device: int, inode: int, size: int) -> bool:
        self._check()
        return self.answer

    def lost_error(self) -> AgentUnavailableError:
        return AgentUnavailableError("lost")

    def _check(self) -> None:
        if self.lost:
            raise SessionLostError


def kept_at(session: FakeSession, *, keep: bool = True, private: bool = True) -> KeptBlobs:
    return KeptBlobs(session, keep=keep, private=private)  # type: ignore[arg-type]


def moved(kept: KeptBlobs, first: FakeSession) -> FakeSession:
    first.lost = True
    second = FakeSession(first_name=100)
    kept.follow(second)  # type: ignore[arg-type]
    return second


def name(kept: KeptBlobs, session: FakeSession, blob_id: int) -> int:
    ((name, access),) = kept.uses(session, [(blob_id, Access.READ)])  # type: ignore[arg-type]
    assert access is Access.READ
    return name


@pytest.mark.parametrize("shares_memory", [True, False])
def test_what_was_put_is_put_again_once_and_as_it_was(shares_memory: bool) -> None:
    first = FakeSession(shares_memory=shares_memory)
    kept = kept_at(first)
    buffer = bytearray(b"content")
    blob_id = kept.put(buffer)
    assert name(kept, first, blob_id) == 1
    buffer[:] = b"changed"
    second = moved(kept, first)
    assert name(kept, second, blob_id) == name(kept, second, blob_id) == 100
    assert second.content == {100: b"content"}
    third = moved(kept, second)
    assert third.content[name(kept, third, blob_id)] == b"content"
    kept.release([blob_id])
    assert not third.content


def test_what_comes_while_the_agent_is_lost_reaches_the_next() -> None:
    first = FakeSession()
    kept = kept_at(first)
    first.lost = True
    buffer = bytearray(b"content")
    blob_id = kept.put(buffer)
    writable = kept.put(b"to be written to", writable=True)
    buffer[:] = b"changed"
    with pytest.raises(SessionLostError):
        name(kept, first, blob_id)
    second = moved(kept, first)
    assert second.content[name(kept, second, blob_id)] == b"content"
    assert name(kept, second, writable) in second.writable


def test_what_is_released_meanwhile_is_not_put() -> None:
    first = FakeSession()
    kept = kept_at(first)
    blob_id = kept.put(b"content")
    kept.release([blob_id])
    second = moved(kept, first)
    with pytest.raises(CallCancelledError):
        name(kept, second, blob_id)
    assert not second.content


def test_what_workers_wrote_to_is_not_put_again() -> None:
    first = FakeSession()
    kept = kept_at(first)
    blob_id = kept.put(b"content", writable=True)
    second = moved(kept, first)
    with pytest.raises(AgentUnavailableError, match=r"write to a large argument \(mmap_mode\)"):
        name(kept, second, blob_id)
    # Nor what reached the second agent only.
    blob_id = kept.put(b"content", writable=True)
    third = moved(kept, second)
    with pytest.raises(AgentUnavailableError):
        name(kept, third, blob_id)


def test_copies_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "_MOST_COPIED_BYTES", 10)
    first = FakeSession(shares_memory=False)
    kept = kept_at(first)
    small, too_much = kept.put(bytes(6)), kept.put(bytes(5))
    kept.release([small])
    copied = kept.put(bytes(10))
    first.lost = True
    # One more, however large, since it has nowhere else to be; and then no other.
    last = kept.put(bytes(100))
    with pytest.raises(AgentUnavailableError, match="lost"):
        kept.put(b"0")
    second = moved(kept, first)
    for blob_id in (copied, last):
        name(kept, second, blob_id)
    with pytest.raises(AgentUnavailableError, match="no copy of it was kept"):
        name(kept, second, too_much)
    # The memory of the second agent took the place of the copies.
    second.lost = True
    assert kept.put(bytes(10))


def test_nothing_is_kept_when_nothing_is_sent_again() -> None:
    first = FakeSession()
    kept = kept_at(first, keep=False)
    blob_id = kept.put(b"content")
    assert name(kept, first, blob_id) == 1
    first.lost = True
    with pytest.raises(AgentUnavailableError, match="lost"):
        kept.put(b"content")
    with pytest.raises(AgentUnavailableError, match="lost"):
        kept.sees("/file", 1, 2, 3)


def test_files_are_seen_as_before_while_the_agent_is_lost() -> None:
    """A copy must not stand for a file to which workers are meant to write."""
    first = FakeSession()
    kept = kept_at(first, private=False)
    first.answer = False
    assert not kept.sees("/net/file", 7, 2, 3)
    first.answer = True
    assert kept.sees("/file", 1, 2, 3)
    first.lost = True
    assert kept.sees("/another", 1, 3, 3)
    assert not kept.sees("/net/another", 7, 3, 3)
    with pytest.raises(AgentUnavailableError, match="lost"):
        kept.sees("/unknown", 9, 2, 3)
    # Our own agent is on this machine, and so is its successor.
    own = kept_at(first)
    assert own.sees("/unknown", 9, 2, 3)
