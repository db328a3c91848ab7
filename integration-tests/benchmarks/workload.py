"""The tasks. Light to import: every worker of every backend imports it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def nothing(value: int) -> int:
    """Do nothing: all that is measured is the way here and back."""
    return value


def import_ensemble() -> int:
    """Do what the first task of many a script does."""
    import sklearn.ensemble  # noqa: F401

    return os.getpid()


def sum_of_part(array: Any, part: int, parts: int) -> tuple[int, float]:
    """Sum one of equal parts of an array, as work that is divided by rows does.

    Returns
    -------
    tuple
        The process that ran it, and the sum.
    """
    length = len(array) // parts
    return os.getpid(), float(array[part * length : (part + 1) * length].sum())


def filled(count: int, value: float) -> Any:
    """Return a new array."""
    import numpy as np

    return np.full(count, value)


def closure_over(data: bytes) -> Callable[[], int]:
    """Return a function that has the data with it wherever it goes."""

    def length() -> int:
        return len(data)

    return length


def nested(tasks: int, n_jobs: int) -> int:
    """Run a call inside a task; return how many results it had."""
    from joblib import Parallel, delayed

    return len(Parallel(n_jobs=n_jobs)(delayed(nothing)(i) for i in range(tasks)))
