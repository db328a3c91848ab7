"""What is measured: each scenario runs a joblib call and returns one figure."""

import resource
import time

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

N_JOBS = 2


def _elapsed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _driver_cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _tiny(count, **options):
    Parallel(n_jobs=N_JOBS, **options)(delayed(abs)(i) for i in range(count))


def tiny_one_by_one():
    """Tasks that do nothing, one in a batch: tasks per second."""
    count = 4_000
    return count / _elapsed(lambda: _tiny(count, batch_size=1))


def tiny_auto():
    """Tasks that do nothing, batched by joblib: tasks per second."""
    count = 200_000
    return count / _elapsed(lambda: _tiny(count))


def driver_cpu():
    """Driver's own CPU for a batch of one task: microseconds."""
    count = 4_000
    before = _driver_cpu()
    _tiny(count, batch_size=1)
    return (_driver_cpu() - before) / count * 1e6


def small_call():
    """A call with two tasks while nothing else runs: milliseconds, median of 20."""
    with Parallel(n_jobs=N_JOBS) as parallel:
        times = [_elapsed(lambda: parallel(delayed(abs)(i) for i in range(2))) for _ in range(20)]
    return float(np.median(times)) * 1e3


def arrays():
    """Eight results of 16 MB: gigabytes per second."""
    size = 16_000_000
    tasks = [delayed(np.ones)(size // 8) for _ in range(8)]
    return size * len(tasks) / 1e9 / _elapsed(lambda: Parallel(n_jobs=N_JOBS)(tasks))


def grid_search():
    """A grid search of support vector machines on the digits: seconds."""
    images, digits = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [1.0, 10.0], "gamma": [1e-3, 1e-2]}, cv=3, n_jobs=N_JOBS)
    return _elapsed(lambda: search.fit(images, digits))


# Scenario, and whether more is better.
SCENARIOS = {
    tiny_one_by_one: True,
    tiny_auto: True,
    driver_cpu: False,
    small_call: False,
    arrays: True,
    grid_search: False,
}
