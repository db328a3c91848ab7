"""A memory limit holds every time, whoever holds the memory, and costs nobody else anything."""

import bad_memory
import pytest
from joblib import delayed
from support.mechanisms import MECHANISMS, agent_by
from support.oracle import Oracle
from support.rounds import rounds
from support.witness import Witness

from joblib_clutch import exceptions

LIMIT = 512_000_000
TOUCHED = 2_000_000_000


@pytest.fixture(scope="module", params=MECHANISMS)
def agent(request):
    with agent_by(request.param) as agent:
        yield agent


@pytest.fixture(scope="module")
def witness(agent):
    with Witness(agent) as witness:
        yield witness


def told(oracle, function):
    """Run a task over its limit between others; return what was said of it."""
    error = oracle.raised(delayed(function)(TOUCHED), memory_limit="512MB")
    assert isinstance(error, exceptions.MemoryLimitError), error
    assert error.limit == LIMIT
    assert error.peak > 0.9 * LIMIT, error
    return error.kind


def test_a_task_over_its_memory_limit_is_told_so_every_time(agent, witness):
    with Oracle(agent, witness) as oracle:
        kinds = [told(oracle, bad_memory.touch) for _ in rounds(5, 100)]
    assert set(kinds) == {"MEMORY_LIMIT"}


def test_memory_of_a_tasks_children_counts_every_time(agent, witness):
    with Oracle(agent, witness) as oracle:
        kinds = [told(oracle, bad_memory.touch_in_a_child) for _ in rounds(5, 100)]
    assert set(kinds) == {"MEMORY_LIMIT"}


def test_memory_of_many_children_counts_together(agent, witness):
    with Oracle(agent, witness) as oracle:
        kinds = [told(oracle, bad_memory.touch_in_children) for _ in rounds(1, 10)]
    assert set(kinds) == {"MEMORY_LIMIT"}
