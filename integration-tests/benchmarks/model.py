"""What a benchmark is made of: scenarios, their sizes, and the rows that they fill."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Workers of every backend, in every scenario.
N_JOBS = 2

Figures = dict[str, float]


class Pace(enum.Enum):
    """How much work a backend can be given in one round."""

    FAST = "fast"
    SLOW = "slow"
    CRAWLING = "crawling"


class Mode(enum.Enum):
    """In which process a round runs."""

    # The backend's long-lived driver, after a small call.
    WARM = "warm"
    # A driver of its own, after a small call: nothing is left from rounds before.
    FRESH = "fresh"
    # A driver of its own whose start is part of what is measured.
    COLD = "cold"
    # The same, with the backend's service running before.
    SERVED = "served"


@dataclass(frozen=True)
class Sizes:
    """How many tasks a round has, by the pace of its backend."""

    fast: int
    slow: int
    crawling: int
    quick: int

    def of(self, pace: Pace, *, quick: bool) -> int:
        """Return the number of tasks; a smoke test never has more than `quick`."""
        size = {Pace.FAST: self.fast, Pace.SLOW: self.slow, Pace.CRAWLING: self.crawling}[pace]
        return min(size, self.quick) if quick else size


@dataclass(frozen=True)
class Row:
    """One figure of a scenario.

    Attributes
    ----------
    figure : str
        Its name among the scenario's figures.
    title : str
        What it is, in words.
    unit : str
        Its unit.
    more_is_better : bool
        Which way is up.
    limit : str or None
        What nothing on this machine can beat: the name of a physical limit, or
        ``backend.figure`` of a reference backend in the same scenario.
    depends_on_size : bool
        Whether figures of rounds of different sizes cannot be compared.
    """

    figure: str
    title: str
    unit: str
    more_is_better: bool = False
    limit: str | None = None
    depends_on_size: bool = False


@dataclass(frozen=True)
class Scenario:
    """A piece of work that is measured on every backend.

    Attributes
    ----------
    name : str
        How it is asked for.
    rows : tuple of Row
        What is reported.
    mode : Mode
        In which process it runs.
    run : callable or None
        Given the number of tasks, does the work inside a driver and returns its
        figures. None for cold starts, where the process itself is the work.
    sizes : Sizes
        How many tasks.
    references : tuple of str
        Backends that are no peers and run for comparison.
    derive : callable or None
        Given the figures of a backend and those of the references, by name, of
        the same round, returns further figures.
    cap_seconds : float
        What a round may take; a backend that takes longer has failed.
    """

    name: str
    rows: tuple[Row, ...]
    mode: Mode = Mode.WARM
    run: Callable[[int], Figures] | None = None
    sizes: Sizes = Sizes(1, 1, 1, 1)
    references: tuple[str, ...] = ()
    derive: Callable[[Figures, Mapping[str, Figures]], Figures] | None = None
    cap_seconds: float = 60

    def key(self, row: Row) -> str:
        """Return the row's name in reports and targets."""
        return f"{self.name}.{row.figure}"
