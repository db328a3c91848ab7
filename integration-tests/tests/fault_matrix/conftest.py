"""Fixtures of the fault matrix."""

from collections.abc import Callable, Iterator

import pytest
from support import groups
from support.agents import Agent
from support.mechanisms import MECHANISMS, agent_by
from support.oracle import Oracle
from support.witness import Witness


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """Return an agent that only this module uses."""
    with Agent("--slots", "4", "--max-slots", "8") as agent:
        yield agent


@pytest.fixture(scope="module")
def witness(agent: Agent) -> Iterator[Witness]:
    """Return another session of the agent, which goes on beside every fault."""
    with Witness(agent) as witness:
        yield witness


@pytest.fixture
def oracle(agent: Agent, witness: Witness) -> Iterator[Oracle]:
    """Return what watches the test's fault, from its beginning to its end."""
    with Oracle(agent, witness) as oracle:
        yield oracle


@pytest.fixture(scope="module", params=MECHANISMS)
def limiting_agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """Return an agent for each way of holding limits."""
    with agent_by(request.param) as agent:
        yield agent


@pytest.fixture(scope="module")
def limiting_witness(limiting_agent: Agent) -> Iterator[Witness]:
    """Return another session of it."""
    with Witness(limiting_agent) as witness:
        yield witness


@pytest.fixture
def limits(limiting_agent: Agent, limiting_witness: Witness) -> Iterator[Oracle]:
    """Return what watches the test's fault on an agent of either kind."""
    with Oracle(limiting_agent, limiting_witness) as oracle:
        yield oracle


@pytest.fixture
def by_groups(limits: Oracle) -> Callable[[], bool]:
    """Return whether the kernel holds the limits."""
    held = groups.memory_mechanism(limits.agent.status())
    return lambda: held != "SAMPLING"
