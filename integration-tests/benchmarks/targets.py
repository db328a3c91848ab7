"""What Clutch promises, as data, and whether a run kept it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results import Results


@dataclass(frozen=True)
class TimesBetter:
    """Clutch is at least so many times better than a peer."""

    times: float
    than: str = "loky"

    def __str__(self) -> str:
        """Return it in words."""
        return f"≥ {self.times:.3g}x {self.than}"

    def met(self, key: str, results: Results) -> bool | None:
        """Tell whether it was reached; None when it was not measured."""
        ratio = results.ratio(key, than=self.than)
        return None if ratio is None else ratio.median >= self.times


@dataclass(frozen=True)
class AtMost:
    """Clutch's figure is at most this, in the row's unit."""

    value: float

    def __str__(self) -> str:
        """Return it in words."""
        return f"≤ {self.value:g}"

    def met(self, key: str, results: Results) -> bool | None:
        """Tell whether it was kept; None when it was not measured."""
        spread = results.spread(key, "clutch")
        return None if spread is None else spread.median <= self.value


Target = TimesBetter | AtMost

ALL: dict[str, tuple[Target, ...]] = {
    "tiny.rate": (TimesBetter(3),),
    "tiny.driver_cpu": (AtMost(70),),
    "tiny.tree_cpu": (AtMost(130),),
    "tiny.agent_cpu": (AtMost(40),),
    "auto.rate": (TimesBetter(1),),
    "idle.p50": (AtMost(0.6), TimesBetter(15)),
    "cold.total": (TimesBetter(1),),
    "cold.second_call": (TimesBetter(1),),
    "served.beyond_imports": (TimesBetter(1 / 0.25),),
    "shared.seconds": (TimesBetter(1 / 0.6),),
    # One copy of 800 MB, and a tenth for what the processes themselves take.
    "memory.growth": (AtMost(880),),
    "memory.worker": (AtMost(20),),
    "results.rate": (TimesBetter(4), TimesBetter(1, than="ray")),
    "closures-1k.rate": (TimesBetter(1.5),),
    "closures-100k.rate": (TimesBetter(1.5),),
    "closures-1m.rate": (TimesBetter(1.5),),
    "grid.seconds": (TimesBetter(1),),
    "grid.overhead": (AtMost(5),),
    "forest.seconds": (TimesBetter(1),),
    "forest.overhead": (AtMost(5),),
    "importance.seconds": (TimesBetter(1),),
    "importance.overhead": (AtMost(5),),
}


def verdict(key: str, results: Results) -> str:
    """Say of a row whether its targets are met; empty when it has none."""
    judged = [target.met(key, results) for target in ALL.get(key, ())]
    measured = [met for met in judged if met is not None]
    if not judged:
        return ""
    if not measured:
        return "not measured"
    return "met" if all(measured) else "not met"
