"""The two ways of large things between a driver and an agent, as fixtures."""

from collections.abc import Iterator
from typing import Any

from joblib import Parallel

from joblib_clutch.connections import session_for
from joblib_clutch.settings import Settings
from support.agents import Agent, forget
from support.proxies import Proxy
from support.waiting import until

WAYS = ["shared memory", "network"]


class Way:
    """A way to an agent.

    Parameters
    ----------
    agent : Agent
        The agent.
    address : str
        Where the driver finds it.
    shares_memory : bool
        Whether descriptors reach the agent.
    """

    def __init__(self, agent: Agent, address: str, *, shares_memory: bool) -> None:
        self.agent = agent
        self.address = address
        self.shares_memory = shares_memory

    def parallel(self, **options: Any) -> Parallel:
        """Make a ``Parallel`` of two jobs, one task for each batch."""
        # These tests count blobs, and code is kept in some.
        options = {"n_jobs": 2, "batch_size": 1, "ship_code": False, **options}
        return Parallel(backend="clutch", agents=self.address, **options)

    def used_blobs(self) -> int:
        """Return how many blobs somebody uses; others are kept for whoever names their content."""
        books = self.agent.status().blobs
        return int(books.count - books.cached)


def open_way(agent: Agent, kind: str) -> Iterator[Way]:
    """Go to an agent, one way or the other; afterwards nothing of it must be in use."""
    with Proxy(agent.address) as proxy:
        shares = kind == WAYS[0]
        way = Way(agent, agent.address if shares else proxy.address, shares_memory=shares)
        try:
            session = session_for(Settings(agents=way.address))
            assert session.native.shares_memory == shares
            yield way
            until(way.used_blobs, lambda used: used == 0, what="blobs to be given back")
        finally:
            forget(way.address)
