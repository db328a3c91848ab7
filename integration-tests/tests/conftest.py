"""Fixtures: agents that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import Agent, blobs_in_use
from support.conversations import Conversation, DataLine, joined
from support.waiting import until
from support.ways import WAYS, Way, open_way


@pytest.fixture(scope="session")
def shared_agent() -> Iterator[Agent]:
    """Return an agent with two slots that any test may use and none may break."""
    with Agent("--slots", "2") as agent:
        yield agent


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, big_agent: Agent) -> Iterator[Way]:
    """Return a way to the agent of a module with the fixture `big_agent`."""
    yield from open_way(big_agent, request.param)


@pytest.fixture
def conversation(agent: Agent) -> Iterator[Conversation]:
    """Return a session by hand on the module's own `agent`, which keeps nothing of it."""
    with Conversation(agent.address) as conversation:
        yield conversation
    until(agent.status, lambda status: not status.sessions and not blobs_in_use(status))


@pytest.fixture
def line(conversation: Conversation) -> Iterator[DataLine]:
    """Return a data line of the session."""
    with joined(conversation) as line:
        yield line


@pytest.fixture
def gate(tmp_path: Path) -> str:
    """Return the path of a file for which tasks wait; see `tasks.wait_for`."""
    return str(tmp_path / "gate")
