"""Agents that are there, and those that are looked for."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from joblib import Parallel, delayed

from joblib_clutch import access
from joblib_clutch import roster as roster_module
from joblib_clutch import spread as spread_module
from joblib_clutch.copies import SpreadBlobs
from joblib_clutch.exceptions import (
    AccessDeniedError,
    AgentDrainingError,
    AgentUnavailableError,
    CallCancelledError,
    ClutchWarning,
)
from joblib_clutch.late import LateBatches
from joblib_clutch.payload import Access, Payload
from joblib_clutch.roster import Roster
from joblib_clutch.settings import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fake_agent import FakeAgent


class Connection:
    """Gives sessions, or fails, as it is told."""

    def __init__(self) -> None:
        self.there = True
        self.tried = 0
        self.gate = threading.Event()
        self.gate.set()

    def session(self) -> Any:
        self.tried += 1
        assert self.gate.wait(10)
        if not self.there:
            raise AgentUnavailableError("nobody listens")
        return Session()


class Session:
    alive = attached = True


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Connection]]:
    made = {"a": Connection(), "b": Connection()}
    monkeypatch.setattr(roster_module, "connection_for", lambda agent, _: made[agent.addresses[0]])
    monkeypatch.setattr(roster_module, "_FIRST_PAUSE_SECONDS", 0.01)
    yield made
    for connection in made.values():
        connection.gate.set()


def test_an_agent_that_is_not_there_is_told_once_and_found_later(
    connections: dict[str, Connection],
) -> None:
    roster = Roster(None, Lease())
    connections["b"].there = False
    with pytest.warns(ClutchWarning, match="the agent at b is not there.*nobody listens"):
        assert len(roster.open(["a", "b"])) == 1
    # The test settings make a second warning an error.
    assert len(roster.open(["a", "b"])) == 1
    connections["b"].there = True
    deadline = time.monotonic() + 10
    while len(roster.look(["a", "b"])) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    tried = connections["a"].tried
    roster.look(["a", "b"])
    assert connections["a"].tried == tried == 1


def test_one_that_does_not_answer_holds_nobody_up_for_long(
    connections: dict[str, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster_module, "_PATIENCE_SECONDS", 0.05)
    connections["b"].gate.clear()
    with pytest.warns(ClutchWarning, match="it has not answered yet"):
        assert len(Roster(None, Lease()).open(["a", "b"])) == 1


def test_a_session_that_is_lost_is_looked_for_again(connections: dict[str, Connection]) -> None:
    roster = Roster(None, Lease())
    (session,) = roster.open(["a"])
    session.alive = False  # type: ignore[misc]
    (another,) = roster.open(["a"])
    assert another is not session
    assert connections["a"].tried == 2


def test_without_any_agent_the_error_says_why(connections: dict[str, Connection]) -> None:
    connections["a"].there = connections["b"].there = False
    with pytest.raises(AgentUnavailableError, match=r"none of 2 agents .* nobody listens"):
        Roster(None, Lease()).open(["a", "b"])
    with pytest.raises(AgentUnavailableError, match=r"^nobody listens"):
        Roster(None, Lease()).open(["a"])
    with pytest.raises(AgentUnavailableError, match="empty"):
        Roster(None, Lease()).open([])


def test_credentials_that_do_not_do_are_told_rather_than_that_somebody_is_away(
    connections: dict[str, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    connections["a"].there = False
    refused = access.denied("a wrong token", "name the right file")

    def refuse() -> None:
        raise refused

    monkeypatch.setattr(connections["b"], "session", refuse)
    with pytest.raises(AccessDeniedError, match=r"none of 2 agents .* a wrong token"):
        Roster(None, Lease()).open(["a", "b"])


def test_a_list_is_read_as_it_is_now() -> None:
    addresses = ["unix:/a"]
    agents = access.parse(addresses)
    assert agents is not None
    assert agents.several
    addresses += ["unix:/b", "unix:/a", "no address"]
    assert agents.now() == ("unix:/a", "unix:/b")
    addresses.clear()
    assert agents.now() == ()
    one = access.parse("unix:/a")
    assert one is not None
    assert not one.several


class Blobs:
    """A session of an agent on this machine, or elsewhere."""

    def __init__(self, *, shares_memory: bool, address: str = "") -> None:
        self.blobs = self.native = self
        self.shares_memory = shares_memory
        self.address = address
        self.content: dict[int, bytes] = {}
        self.sources: Sequence[str] = ()

    def put(
        self, content: Any, *, digest: bytes | None = None, sources: Sequence[str] = ()
    ) -> tuple[int, Any]:
        assert (digest is None) == self.shares_memory
        self.sources = sources
        name = 100 + len(self.content)
        self.content[name] = bytes(content)
        return name, memoryview(self.content[name]) if self.shares_memory else None

    def release(self, names: list[int]) -> None:
        for name in names:
            del self.content[name]


def test_what_was_put_gets_to_each_agent_once_and_as_it_was() -> None:
    near, far = Blobs(shares_memory=True), Blobs(shares_memory=False, address="far:1")
    blobs = SpreadBlobs()
    blobs.sessions = lambda: [far, near]  # type: ignore[return-value,list-item]
    held: list[Any] = []
    blobs.held = lambda session, ids: held.append((session, ids))
    buffer = bytearray(b"before")
    blob = blobs.put(buffer)
    assert held == [(near, [blob])]
    assert not far.content
    buffer[:] = b"after!"
    payload = Payload(b"", [(blob, Access.READ)])
    assert blobs.needs(payload) == [(blob, 6)]
    assert blobs.missing(near, payload) == 0  # type: ignore[arg-type]
    assert blobs.missing(far, payload) == 6  # type: ignore[arg-type]
    for _ in range(2):
        assert blobs.uses(far, payload.buffers) == [(100, Access.READ)]  # type: ignore[arg-type]
    assert far.content == near.content == {100: b"before"}
    assert not far.sources, "those who share memory with us give it to nobody"
    farther = Blobs(shares_memory=False)
    blobs.uses(farther, payload.buffers)  # type: ignore[arg-type]
    assert farther.sources == ["far:1"]
    blobs.forget(far)  # type: ignore[arg-type]
    assert blobs.missing(far, payload) == 6  # type: ignore[arg-type]
    blobs.release([blob])
    assert not near.content
    with pytest.raises(CallCancelledError):
        blobs.uses(near, payload.buffers)  # type: ignore[arg-type]


def test_who_waits_for_arguments_holds_up_nobody_else() -> None:
    late = LateBatches()
    gate, done = threading.Event(), threading.Semaphore(0)
    sent: list[tuple[int, int]] = []

    def send(member: Any, token: Any) -> None:
        if member.number == 0:
            assert gate.wait(10)
        sent.append((member.number, token))
        done.release()

    slow, quick = Numbered(0), Numbered(1)
    for token in range(3):
        late.put(slow, token, send)  # type: ignore[arg-type]
    late.put(quick, 9, send)  # type: ignore[arg-type]
    assert done.acquire(timeout=10)
    assert sent == [(1, 9)]
    gate.set()
    for _ in range(3):
        assert done.acquire(timeout=10)
    assert sent[1:] == [(0, 0), (0, 1), (0, 2)]


class Numbered:
    def __init__(self, number: int) -> None:
        self.number = number


def test_a_call_on_a_list_of_one_agent_works(start_agent: Callable[..., FakeAgent]) -> None:
    agent = start_agent()
    values = Parallel(n_jobs=-1, backend="clutch", agents=[agent.address])(
        delayed(abs)(-number) for number in range(20)
    )
    assert values == list(range(20))


def drain(conversation: Any, _submit: Any) -> None:
    from clutch_wire.clutch.v1 import executor_pb2 as wire

    frame = wire.AgentFrame(capacity=wire.Capacity(slots=0))
    conversation.outgoing.put([frame])


def test_an_agent_without_slots_gets_no_more_batches(
    start_agent: Callable[..., FakeAgent],
) -> None:
    first, second = start_agent(), start_agent()
    first.on_batch = drain
    parallel = Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=[first.address])
    assert parallel([delayed(abs)(-1)]) == [1]
    agents = [first.address, second.address]
    parallel = Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=agents)
    before = len(first.sent("submit_batch"))
    assert parallel(delayed(abs)(-n) for n in range(20)) == list(range(20))
    assert len(first.sent("submit_batch")) == before


def test_a_call_does_not_wait_for_ever_for_agents_that_drain(
    start_agent: Callable[..., FakeAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread_module, "_SEARCH_SECONDS", 0.1)
    agent = start_agent()
    agent.on_batch = drain
    parallel = Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=[agent.address])
    assert parallel([delayed(abs)(-1)]) == [1]
    with pytest.raises(AgentDrainingError, match="all agents were asked to stop"):
        parallel(delayed(abs)(-n) for n in range(20))
