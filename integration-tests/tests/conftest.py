"""Fixtures: agents that tests share."""

import multiprocessing
from collections.abc import Iterator

import pytest
from support.agents import Agent


@pytest.fixture(scope="session")
def shared_agent() -> Iterator[Agent]:
    """Return an agent with two slots that any test may use and none may break."""
    with Agent("--slots", "2") as agent:
        yield agent


@pytest.fixture
def gate(tmp_path):
    """Return the path of a file for which tasks wait; see `tasks.wait_for`."""
    return str(tmp_path / "gate")


@pytest.fixture(autouse=True)
def _no_process_is_left_by_the_test() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []
