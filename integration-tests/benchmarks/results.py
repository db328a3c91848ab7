"""The figures of a run: medians, spreads and ratios."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backends import BY_NAME as BACKENDS
from measure import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model import Figures, Row, Scenario


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and what they lie between."""

    median: float
    least: float
    most: float

    @classmethod
    def over(cls, values: Sequence[float]) -> Spread:
        """Return that of some values."""
        return cls(median(values), min(values), max(values))


@dataclass
class Results:
    """Everything that a run measured.

    Attributes
    ----------
    about : dict
        The machine, the versions and the date.
    scenarios : tuple of Scenario
        What was run.
    backends : list of str
        On what, references not counted.
    quick : bool
        Whether it was a smoke test.
    limits : dict
        Physical limits by name.
    notes : list of str
        What the reader should know.
    rounds : dict
        For each scenario and backend, by name, the figures of each round. A
        round in which the backend failed is None.
    failures : dict
        For each scenario and backend, by name, why it failed.
    """

    about: dict[str, Any]
    scenarios: tuple[Scenario, ...]
    backends: list[str]
    quick: bool
    limits: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rounds: dict[tuple[str, str], list[Figures | None]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, Row, Scenario]]:
        """Return each row with its key and scenario."""
        return [(s.key(row), row, s) for s in self.scenarios for row in s.rows]

    def row(self, key: str) -> Row | None:
        """Return a row by its key; None when it is not part of this run."""
        return next((row for found, row, _ in self.rows() if found == key), None)

    def values(self, key: str, backend: str) -> list[float | None]:
        """Return a backend's figure in each round."""
        scenario, _, figure = key.rpartition(".")
        rounds = self.rounds.get((scenario, backend), [])
        return [None if figures is None else figures.get(figure) for figures in rounds]

    def spread(self, key: str, backend: str) -> Spread | None:
        """Return a backend's figures of all rounds; None when there are none."""
        values = [value for value in self.values(key, backend) if value is not None]
        return Spread.over(values) if values else None

    def ratio(self, key: str, *, than: str) -> Spread | None:
        """Return how many times better Clutch is than another; above 1 is better.

        Rounds are compared with each other, since what slows one backend down
        slows down its neighbours in time. None when there is nothing to compare.
        """
        row = self.row(key)
        pairs = zip(self.values(key, "clutch"), self.values(key, than), strict=False)
        both = [(ours, theirs) for ours, theirs in pairs if ours and theirs]
        # Differences around zero have no ratio.
        if row is None or not both or row.unit == "%":
            return None
        if row.more_is_better:
            return Spread.over([ours / theirs for ours, theirs in both])
        return Spread.over([theirs / ours for ours, theirs in both])

    def limit(self, key: str) -> float | None:
        """Return what nothing can beat, in the row's unit; None when not known."""
        row = self.row(key)
        if row is None or row.limit is None:
            return None
        backend, dot, figure = row.limit.partition(".")
        if not dot:
            return self.limits.get(row.limit)
        spread = self.spread(f"{key.rpartition('.')[0]}.{figure}", backend)
        return spread.median if spread else None

    def size_note(self, row: Row, scenario: Scenario, backend: str) -> str:
        """Say when a figure is of fewer tasks than the row promises; else empty."""
        size = scenario.sizes.of(BACKENDS[backend].pace, quick=self.quick)
        full = scenario.sizes.fast
        return f" ({size} of {full} tasks)" if row.depends_on_size and size != full else ""

    def as_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON can hold."""
        return {
            "about": self.about,
            "quick": self.quick,
            "limits": self.limits,
            "notes": self.notes,
            "scenarios": {
                scenario.name: {
                    "rows": {row.figure: [row.title, row.unit] for row in scenario.rows},
                    "rounds": {
                        backend: rounds
                        for (name, backend), rounds in self.rounds.items()
                        if name == scenario.name
                    },
                    "failures": {
                        backend: reason
                        for (name, backend), reason in self.failures.items()
                        if name == scenario.name
                    },
                }
                for scenario in self.scenarios
            },
        }
