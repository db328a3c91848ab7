"""Which agent gets a content from which: decisions, no deeds.

The agents that want a content form a chain. The first gets it from this process, each
other one from the agent before it, while it arrives there. So the content crosses this
process's link once, and each agent's link once each way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

A = TypeVar("A", bound="Hashable")

# Sources that one agent is told. Where all of these fail, it gets the content from this
# process.
_MOST_SOURCES = 4


class Chain(Generic[A]):
    """The chain of one content. Not safe to use from several threads at once.

    An agent is named by whatever its owner likes, for example its session. It is in the
    chain from the moment in which it is told of the content, since others can get it
    there from then on: those that ask too early wait a moment.
    """

    def __init__(self) -> None:
        # In the order in which they came.
        self._receiving: dict[A, None] = {}
        self._have: dict[A, None] = {}

    @property
    def members(self) -> list[A]:
        """Those that have the content or are receiving it, in the order of the chain."""
        return [*self._have, *self._receiving]

    def begin(self, agent: A) -> list[A]:
        """Tell whom an agent should ask, and take it into the chain.

        Parameters
        ----------
        agent : A
            Who is about to be offered the content.

        Returns
        -------
        list of A
            Sources, the best first; empty: it gets the content from this process.
        """
        sources = self.sources(agent)
        self._have.pop(agent, None)
        self._receiving[agent] = None
        return sources

    def sources(self, agent: A) -> list[A]:
        """Tell whom an agent should ask, with the chain as it is.

        First the one before it: nobody else asks that one first. Then those before
        that, the nearest first: what they have got is ahead of what the agent has. The
        last one that it is told is the head of the chain, which got the content from
        this process and so depends on nobody.

        Parameters
        ----------
        agent : A
            Who asks.

        Returns
        -------
        list of A
            Sources, the best first.
        """
        others = [member for member in self.members if member != agent]
        nearest = others[::-1]
        if len(nearest) > _MOST_SOURCES:
            nearest = [*nearest[: _MOST_SOURCES - 1], others[0]]
        return nearest

    def have(self, agent: A) -> None:
        """Note that an agent has all of the content.

        Parameters
        ----------
        agent : A
            Who has it.
        """
        self._receiving.pop(agent, None)
        # Those that follow it ask nobody any more; it may head another chain.
        self._have[agent] = None

    def leave(self, agent: A) -> None:
        """Note that an agent is lost, refused the content or has let go of it.

        Parameters
        ----------
        agent : A
            Who is no source any more.
        """
        self._receiving.pop(agent, None)
        self._have.pop(agent, None)


def plan(have: Sequence[A], receiving: Sequence[A], need: Sequence[A]) -> list[tuple[A, list[A]]]:
    """Tell each agent that needs a content whom to ask.

    Parameters
    ----------
    have : sequence of A
        Agents that have all of it.
    receiving : sequence of A
        Agents that are receiving it, in the order in which they began.
    need : sequence of A
        Agents that need it, each once, in the order in which they are told.

    Returns
    -------
    list of (A, list of A)
        Each of the last with its sources, the best first. One without sources, which is
        the first of a new chain and no other, gets the content from this process.
    """
    chain: Chain[A] = Chain()
    for agent in have:
        chain.have(agent)
    for agent in receiving:
        chain.begin(agent)
    return [(agent, chain.begin(agent)) for agent in need]
