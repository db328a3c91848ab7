"""Big arguments and big results: how often bytes are copied, and where they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from measure import MemoryWatch, seconds_of
from model import N_JOBS, Figures, Mode, Row, Scenario, Sizes
from workload import filled, sum_of_part

ARGUMENT_BYTES = 800_000_000
RESULT_BYTES = 32_000_000
_ITEM_BYTES = 8


def shared_argument(tasks: int) -> Figures:
    """Give all tasks the same big array."""
    calls = _calls_with(_big_array(), tasks)
    return {"seconds": seconds_of(lambda: Parallel(n_jobs=N_JOBS)(calls))}


def memory(tasks: int) -> Figures:
    """Do the same, and watch the memory instead of the clock."""
    calls = _calls_with(_big_array(), tasks)
    with MemoryWatch() as watch:
        results = Parallel(n_jobs=N_JOBS)(calls)
    workers = sorted({pid for pid, _ in results})
    return {
        "growth": watch.growth_bytes / 1e6,
        "worker": watch.anonymous_bytes(workers) / 1e6,
    }


def results(tasks: int) -> Figures:
    """Have each task return a big array."""
    calls = [delayed(filled)(RESULT_BYTES // _ITEM_BYTES, float(i)) for i in range(tasks)]
    elapsed = seconds_of(lambda: Parallel(n_jobs=N_JOBS)(calls))
    return {"rate": RESULT_BYTES * tasks / elapsed / 1e9}


def _big_array() -> Any:
    # Written, so that it is real memory; zeros would be one page.
    return np.full(ARGUMENT_BYTES // _ITEM_BYTES, 1.5)


def _calls_with(array: Any, tasks: int) -> list[Any]:
    return [delayed(sum_of_part)(array, part, tasks) for part in range(tasks)]


_ARGUMENT_SIZES = Sizes(fast=32, slow=32, crawling=4, quick=4)

SCENARIOS = (
    Scenario(
        "shared",
        mode=Mode.FRESH,
        run=shared_argument,
        sizes=_ARGUMENT_SIZES,
        cap_seconds=120,
        rows=(
            Row(
                "seconds",
                "800 MB as the argument of 32 tasks",
                "s",
                limit="shared_copy_of_800_mb",
                depends_on_size=True,
            ),
        ),
    ),
    Scenario(
        "memory",
        mode=Mode.FRESH,
        run=memory,
        sizes=_ARGUMENT_SIZES,
        cap_seconds=120,
        rows=(
            Row(
                "growth",
                "... memory beyond the driver's own",
                "MB",
                limit="argument_mb",
                depends_on_size=True,
            ),
            Row("worker", "... anonymous memory of a worker", "MB", depends_on_size=True),
        ),
    ),
    Scenario(
        "results",
        run=results,
        sizes=Sizes(fast=32, slow=32, crawling=4, quick=4),
        rows=(Row("rate", "32 results of 32 MB", "GB/s", True, limit="memcpy"),),
    ),
)
