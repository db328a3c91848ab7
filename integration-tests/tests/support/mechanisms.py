"""Agents that hold limits one way or the other."""

import contextlib
from collections.abc import Iterator

import pytest

from support import groups
from support.agents import Agent

# As the machine lets them, or by looking only.
MECHANISMS = {"groups": (), "sampling": ("--cgroups", "false")}

SLOTS = ("--slots", "4", "--max-slots", "8")


@contextlib.contextmanager
def agent_by(mechanism: str, *flags: str) -> Iterator[Agent]:
    """Start an agent that holds limits one way; skip the test where that cannot be."""
    with Agent(*SLOTS, *MECHANISMS[mechanism], *flags) as agent:
        held = groups.memory_mechanism(agent.status())
        if mechanism == "groups" and held == "SAMPLING":
            pytest.skip("there are no control groups that this user may use here")
        yield agent
