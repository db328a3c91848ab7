"""Fixtures: agents that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import Agent
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
def gate(tmp_path: Path) -> str:
    """Return the path of a file for which tasks wait; see `tasks.wait_for`."""
    return str(tmp_path / "gate")
