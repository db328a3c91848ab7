"""Calls that are short: how long the way there and back is."""

from __future__ import annotations

from joblib import Parallel, delayed
from measure import percentile, seconds_of
from model import N_JOBS, Figures, Row, Scenario, Sizes
from workload import nested, nothing

OUTER_TASKS = 4
INNER_TASKS = 50


def idle(calls: int) -> Figures:
    """Call with one task again and again, while nothing else runs."""
    with Parallel(n_jobs=N_JOBS) as parallel:
        parallel([delayed(nothing)(0)])
        times = [seconds_of(lambda: parallel([delayed(nothing)(0)])) for _ in range(calls)]
    return {"p50": percentile(times, 50) * 1e3, "p99": percentile(times, 99) * 1e3}


def calls_in_tasks(_: int) -> Figures:
    """Run tasks that call joblib themselves."""
    tasks = [delayed(nested)(INNER_TASKS, N_JOBS) for _ in range(OUTER_TASKS)]
    return {"seconds": seconds_of(lambda: Parallel(n_jobs=N_JOBS)(tasks))}


SCENARIOS = (
    Scenario(
        "idle",
        run=idle,
        sizes=Sizes(fast=200, slow=50, crawling=10, quick=20),
        references=("floor-blocking",),
        rows=(
            Row("p50", "call of one task while idle, median", "ms", limit="floor-blocking.p50"),
            Row("p99", "... 99th percentile", "ms", limit="floor-blocking.p99"),
        ),
    ),
    Scenario(
        "nested",
        run=calls_in_tasks,
        rows=(Row("seconds", f"nested calls, {OUTER_TASKS} tasks of {INNER_TASKS}", "s"),),
    ),
)
