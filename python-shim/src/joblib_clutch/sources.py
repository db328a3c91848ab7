"""Where the addresses of agents come from, while a call runs too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Source(Protocol):
    """Knows the addresses of agents."""

    def now(self) -> list[str]:
        """Return the addresses as they are now, each once.

        Raises
        ------
        ClutchError
            They cannot be had; the next time they may be.
        """


class ListSource:
    """A list of the user's, which may grow and shrink.

    Parameters
    ----------
    addresses : sequence of str
        The list itself, not a copy.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    def now(self) -> list[str]:
        """Return the addresses as they are now, each once."""
        return list(dict.fromkeys(tuple(self._addresses)))


def source_of(agents: object) -> Source | None:
    """Give the source of addresses that an ``agents`` option stands for.

    Parameters
    ----------
    agents : str, list, tuple or None
        The option.

    Returns
    -------
    Source or None
        None: one agent, once and for all.
    """
    return ListSource(agents) if isinstance(agents, (list, tuple)) else None
