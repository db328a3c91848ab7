"""Runs the rounds: all backends in turn, so that a slow moment of the machine hits all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends import BY_NAME as BACKENDS
from fleet import Fleet
from model import Mode
from processes import ProcessFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import Figures, Scenario
    from results import Results


def run_all(results: Results, rounds: int, tell: Callable[[str], None]) -> None:
    """Run every scenario for so many rounds, and note what was measured or failed."""
    with Fleet(quick=results.quick) as fleet:
        for scenario in results.scenarios:
            tell(f"{scenario.name}:")
            names = [*scenario.references, *results.backends]
            for number in range(-_warm_up_rounds(scenario, quick=results.quick), rounds):
                _one_round(fleet, scenario, names, results, counts=number >= 0)
                # Whoever comes first finds the machine as others left it.
                peers = names[len(scenario.references) :]
                names = [*scenario.references, *peers[1:], peers[0]]
                tell(".")
            tell("\n")


def _warm_up_rounds(scenario: Scenario, *, quick: bool) -> int:
    # Where every round has a new driver and a new service, none warms the next.
    return 1 if scenario.mode in {Mode.WARM, Mode.SERVED} and not quick else 0


def _one_round(
    fleet: Fleet, scenario: Scenario, names: list[str], results: Results, *, counts: bool
) -> None:
    references: dict[str, Figures] = {}
    for name in names:
        key = (scenario.name, name)
        figures = None if key in results.failures else _measure(fleet, scenario, name, results)
        if figures is not None and name in scenario.references:
            references[name] = figures
        elif figures is not None and scenario.derive is not None:
            figures |= scenario.derive(figures, references)
        if counts:
            results.rounds.setdefault(key, []).append(figures)


def _measure(fleet: Fleet, scenario: Scenario, name: str, results: Results) -> Figures | None:
    try:
        return fleet.measure(scenario, BACKENDS[name])
    except ProcessFailedError as error:
        # It is not tried again in this scenario: it may have taken minutes to fail.
        results.failures[scenario.name, name] = str(error)
        return None
