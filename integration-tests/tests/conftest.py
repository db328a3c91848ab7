"""Fixtures: agents that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import Agent


@pytest.fixture(scope="session")
def shared_agent() -> Iterator[Agent]:
    """Return an agent with two slots that any test may use and none may break."""
    with Agent("--slots", "2") as agent:
        yield agent


@pytest.fixture
def gate(tmp_path: Path) -> str:
    """Return the path of a file for which tasks wait; see `tasks.wait_for`."""
    return str(tmp_path / "gate")
