"""A grid search and a cross validation on Clutch, compared with joblib's own loky.

Run it with ``make demo``. It fails when the scores differ, or when a task did not
run in a worker of the agent.
"""

import os
import sys
import time
import warnings

import joblib
import numpy as np
import psutil
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

import joblib_clutch

GRID = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [1e-4, 1e-3, 1e-2]}


def grid_search():
    images, digits = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), GRID, cv=3)
    search.fit(images, digits)
    return search.cv_results_["mean_test_score"], search.best_params_


def cross_validation():
    flowers, species = load_iris(return_X_y=True)
    return cross_val_score(SVC(), flowers, species, cv=5)


def timed(backend, work):
    """Run the work on a backend; return its result and the seconds it took."""
    with joblib.parallel_config(backend=backend, n_jobs=-1):
        start = time.perf_counter()
        result = work()
        return result, time.perf_counter() - start


def title(text):
    print(f"\n{text}\n{'-' * len(text)}")


def agent_above(pid):
    """Return the process of the agent that a worker descends from, or None."""
    try:
        ancestors = psutil.Process(pid).parents()
    except psutil.NoSuchProcess:
        return None
    # The zygote between them is the same program: the agent is the outermost.
    return next((p for p in reversed(ancestors) if p.name() == "clutch"), None)


def show_workers(report):
    """Print where the tasks ran; return whether all of it is under one agent."""
    tasks = {}
    for row in report.rows:
        tasks[row.pid] = tasks.get(row.pid, 0) + row.tasks
    print(f"this script:  process {os.getpid()}")
    agents = set()
    for pid, count in sorted(tasks.items()):
        agent = agent_above(pid)
        agents.add(agent)
        parent = f"under agent {agent.pid} ({agent.exe()})" if agent else "of no agent that lives"
        print(f"worker {pid}: {count:3} tasks, {parent}")
    return os.getpid() not in tasks and len(agents) == 1 and None not in agents


def compare(name, on_clutch, on_loky, clutch_seconds, loky_seconds):
    """Print whether the scores are the same; return it."""
    same = bool(np.array_equal(on_clutch, on_loky))
    verdict = "the same scores" if same else "DIFFERENT SCORES"
    print(f"{name:17} {clutch_seconds:6.2f} s on clutch, {loky_seconds:6.2f} s on loky, {verdict}")
    return same


def main():
    # A score that cannot be computed is a failure here, not a footnote.
    warnings.simplefilter("error", category=RuntimeWarning)
    fits = 3 * len(GRID["C"]) * len(GRID["gamma"])
    title(f"GridSearchCV(SVC) on the digits: {fits} fits on {joblib.cpu_count()} cores")
    (scores, best), search_seconds = timed("clutch", grid_search)
    report = joblib_clutch.last_report()
    print(f"best: {best}, accuracy {scores.max():.4f}")

    title("Where the fits ran")
    in_workers = show_workers(report)

    title("Where the time went (durations in milliseconds)")
    print(report)

    title("cross_val_score(SVC) on the irises")
    accuracies, validation_seconds = timed("clutch", cross_validation)
    print("accuracy of each fold:", " ".join(f"{accuracy:.4f}" for accuracy in accuracies))

    title("The same on loky")
    (loky_scores, _), loky_search_seconds = timed("loky", grid_search)
    loky_accuracies, loky_validation_seconds = timed("loky", cross_validation)
    same = [
        compare("GridSearchCV", scores, loky_scores, search_seconds, loky_search_seconds),
        compare(
            "cross_val_score",
            accuracies,
            loky_accuracies,
            validation_seconds,
            loky_validation_seconds,
        ),
    ]
    print("The first run on each backend includes the start of its workers.")

    if not in_workers:
        print("\nFAILED: some tasks did not run in a worker of the agent", file=sys.stderr)
    if not all(same):
        print("\nFAILED: scores differ between the backends", file=sys.stderr)
    return 0 if in_workers and all(same) else 1


if __name__ == "__main__":
    raise SystemExit(main())
