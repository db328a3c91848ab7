"""Results as they come, and no more work than is needed."""

import random
import time

from joblib import Parallel, delayed, parallel_config

import joblib_clutch


def simulate(seed):
    """Take a while that nobody can foresee."""
    rolls = random.Random(seed)
    time.sleep(rolls.uniform(0.01, 0.1))
    return seed, rolls.gauss(mu=0, sigma=1)


with parallel_config("clutch", n_jobs=-1):
    results = Parallel(return_as="generator_unordered", batch_size=1)(
        delayed(simulate)(seed) for seed in range(1000)
    )
    for count, (seed, value) in enumerate(results, start=1):
        print(f"{count}: seed {seed} gave {value:+.2f}")
        if value > 1:
            break
    # Closing the generator cancels what still runs and what still waits.
    results.close()

print(joblib_clutch.last_report().summary()["tasks"], "of 1000 tasks reported back")
