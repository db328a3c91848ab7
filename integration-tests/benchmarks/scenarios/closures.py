"""Functions that carry data: what cannot be shared must at least be fast."""

from __future__ import annotations

import os

from joblib import Parallel, delayed
from measure import seconds_of
from model import N_JOBS, Figures, Row, Scenario, Sizes
from workload import closure_over


def _distinct(captured_bytes: int, tasks: int) -> Figures:
    """Run a closure of its own for each task."""
    calls = [delayed(closure_over(os.urandom(captured_bytes)))() for _ in range(tasks)]
    return _rate(captured_bytes, calls)


def _same(captured_bytes: int, tasks: int) -> Figures:
    """Run the same closure in all tasks."""
    closure = closure_over(os.urandom(captured_bytes))
    return _rate(captured_bytes, [delayed(closure)() for _ in range(tasks)])


def _rate(captured_bytes: int, calls: list[tuple[object, tuple[()], dict[str, object]]]) -> Figures:
    elapsed = seconds_of(lambda: Parallel(n_jobs=N_JOBS)(calls))
    return {"rate": captured_bytes * len(calls) / elapsed / 1e6}


def _scenario(name: str, captured_bytes: int, title: str, sizes: Sizes) -> tuple[Scenario, ...]:
    def row(which: str) -> tuple[Row, ...]:
        return (Row("rate", f"closures over {title}, {which}", "MB/s", True, limit="floor.rate"),)

    return (
        Scenario(
            f"closures-{name}",
            run=lambda tasks: _distinct(captured_bytes, tasks),
            sizes=sizes,
            references=("floor",),
            rows=row("one for each task"),
        ),
        Scenario(
            f"closure-{name}",
            run=lambda tasks: _same(captured_bytes, tasks),
            sizes=sizes,
            references=("floor",),
            rows=row("the same for all"),
        ),
    )


SCENARIOS = (
    *_scenario("1k", 1_000, "1 KB", Sizes(fast=20_000, slow=500, crawling=20, quick=100)),
    *_scenario("100k", 100_000, "100 KB", Sizes(fast=2_000, slow=200, crawling=10, quick=20)),
    *_scenario("1m", 1_000_000, "1 MB", Sizes(fast=400, slow=60, crawling=8, quick=8)),
)
