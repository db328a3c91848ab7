"""A search whose tasks may use so much memory and no more, and what to do when one does."""

import numpy as np
from joblib import Parallel, delayed, parallel_config

import joblib_clutch
from joblib_clutch.exceptions import MemoryLimitError


def spread(columns):
    """Stand for a task whose memory depends on what it is given: 8 MB for each column."""
    samples = np.random.default_rng(0).normal(size=(1_000_000, columns))
    return columns, round(float(samples.std()), 3)


def search(**options):
    """Run all tasks under the options."""
    with parallel_config("clutch", **options):
        return Parallel(batch_size=1)(delayed(spread)(columns) for columns in (1, 2, 4, 60))


try:
    print(search(n_jobs=4, memory_limit="400MB"))
except MemoryLimitError as error:
    # The task was killed at its limit; no other task and no other program was short of memory.
    print(error)
    print(f"{error.peak / 1e6:.0f} MB of {error.limit / 1e6:.0f} MB, fault: {error.fault}")
    # Fewer tasks at once, with more memory for each.
    print(search(n_jobs=2, memory_limit="1.5GB"))

for row in joblib_clutch.last_report().rows:
    print(f"process {row.pid} had {row.peak_memory_bytes / 1e6:.0f} MB at most: {row.outcome}")
