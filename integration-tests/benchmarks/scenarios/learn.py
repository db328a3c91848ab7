"""Real work of scikit-learn, beside the same work in one process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from measure import tree_cpu_seconds
from model import N_JOBS, Figures, Row, Scenario, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Folds, trees and repeats of a full round; a smoke test has fewer.
_SIZES = Sizes(fast=10, slow=10, crawling=10, quick=2)


def grid_search(folds: int) -> Figures:
    """Search a grid of support vector machines on the digits."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    images, digits = load_digits(return_X_y=True)
    grid = {"C": [0.1, 1.0, 10.0], "gamma": [1e-4, 1e-3, 1e-2]}
    return _measured(lambda: GridSearchCV(SVC(), grid, cv=folds).fit(images, digits))


def forest(tens_of_trees: int) -> Figures:
    """Grow a random forest."""
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    points, classes = make_classification(
        n_samples=6_000, n_features=40, n_informative=15, random_state=0
    )
    trees = RandomForestClassifier(n_estimators=10 * tens_of_trees, random_state=0)
    return _measured(lambda: trees.fit(points, classes))


def importance(repeats: int) -> Figures:
    """Shuffle each feature of a fitted forest many times."""
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.inspection import permutation_importance

    points, classes = make_classification(n_samples=2_000, n_features=20, random_state=0)
    # Fitted in one process: only what follows is measured.
    model = RandomForestClassifier(n_estimators=50, n_jobs=1, random_state=0)
    model.fit(points, classes)
    return _measured(
        lambda: permutation_importance(model, points, classes, n_repeats=repeats, random_state=0)
    )


def _measured(work: Callable[[], object]) -> Figures:
    cpu, begin = tree_cpu_seconds(os.getpid()), time.perf_counter()
    work()
    elapsed = time.perf_counter() - begin
    half_cpu = (tree_cpu_seconds(os.getpid()) - cpu) / N_JOBS
    return {"seconds": elapsed, "half_cpu": half_cpu}


def _overhead(figures: Figures, references: Mapping[str, Figures]) -> Figures:
    serial = references.get("serial")
    if serial is None:
        return {}
    return {"overhead": (figures["seconds"] / serial["half_cpu"] - 1) * 100}


def _scenario(name: str, title: str, run: Callable[[int], Figures]) -> Scenario:
    return Scenario(
        name,
        run=run,
        sizes=_SIZES,
        references=("serial",),
        derive=_overhead,
        cap_seconds=180,
        rows=(
            Row("seconds", title, "s", limit="serial.half_cpu"),
            Row("overhead", "... above half of the serial CPU time", "%"),
        ),
    )


SCENARIOS = (
    _scenario("grid", "scikit-learn: grid search", grid_search),
    _scenario("forest", "scikit-learn: random forest", forest),
    _scenario("importance", "scikit-learn: permutation importance", importance),
)
