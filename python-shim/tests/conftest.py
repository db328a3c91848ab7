"""Fixtures: an agent in this process, and clean connections after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fake_agent import FakeAgent

from joblib_clutch import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start_agent() -> Iterator[Callable[..., FakeAgent]]:
    agents: list[FakeAgent] = []

    def start(**options: Any) -> FakeAgent:
        agents.append(FakeAgent(**options))
        return agents[-1]

    yield start
    connections.close_all()
    for agent in agents:
        agent.stop()


@pytest.fixture
def agent(start_agent: Callable[..., FakeAgent]) -> FakeAgent:
    return start_agent()
