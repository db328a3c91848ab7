"""One large array for many tasks: sent once for the call, mapped by every worker."""

import numpy as np
from joblib import Parallel, delayed, parallel_config

import joblib_clutch


def resampled_median(samples, seed):
    """Draw a tenth of the samples; take the median of each column."""
    chosen = np.random.default_rng(seed).integers(len(samples), size=len(samples) // 10)
    return type(samples).__name__, np.median(samples[chosen], axis=0)


# 80 MB, which is more than `max_nbytes`. By default workers may read it, not write to it.
samples = np.random.default_rng(0).normal(loc=[1, 2, 3, 4], size=(2_500_000, 4))

with parallel_config("clutch", n_jobs=2, mmap_mode="r"):
    results = Parallel(batch_size=2)(delayed(resampled_median)(samples, seed) for seed in range(24))

kinds, medians = zip(*results, strict=True)
print(f"tasks were given: {', '.join(set(kinds))}; medians: {np.mean(medians, axis=0).round(2)}")

# The columns `transfer` and `unpickle` are small: a batch has a reference to the array only.
print(joblib_clutch.last_report())
summary = joblib_clutch.last_report().summary()
handed_over = summary["transfer_seconds"] + summary["unpickled_seconds"]
print(f"{samples.nbytes >> 20} MiB, {handed_over / summary['batches']:.4f} s to hand over a batch")
