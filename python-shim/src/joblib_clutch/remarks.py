"""What was unusual in a call that may have gone well."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING

from joblib_clutch.exceptions import ClutchWarning

if TYPE_CHECKING:
    from joblib_clutch.report import Report

# Notes that somebody has to do something about: what happened, and what to do.
# The others are only in the report.
_WARNINGS = {
    "THREADS_LEFT": (
        "threads still ran after the tasks that had started them",
        "Their workers were replaced; join threads before the task returns.",
    ),
    "FILES_LEFT": (
        "files were still open after the tasks that had opened them",
        "Their workers were replaced; close files before the task returns.",
    ),
    "CHILDREN_OUT_OF_MEMORY": (
        "processes that tasks had started were killed by the kernel, because memory ran short",
        "See what they left undone; run fewer tasks at once, or set memory_limit.",
    ),
    "STATE_CHANGED": (
        "tasks changed resource limits, or other state that cannot be restored",
        "Their workers were replaced; change such state in a process of the task's own.",
    ),
}


def lines(report: Report) -> list[str]:
    """Write the notes of a call for people.

    Parameters
    ----------
    report : Report
        The call's report.

    Returns
    -------
    list of str
        One line for each kind of note.
    """
    unit = {"CPU_THROTTLED": " ms"}
    return [
        f"{kind}: {count}{unit.get(kind, '')} in {_batches(batches)}"
        for kind, count, batches in report.remarks()[1]
    ]


def warn_of(report: Report) -> None:
    """Warn of what the user should know, once for each kind.

    Parameters
    ----------
    report : Report
        Report of a call that has ended.

    Warns
    -----
    ClutchWarning
        Batches were run again, or tasks left something behind.
    """
    retried, notes = report.remarks()
    for kind, batches in retried:
        _warn(
            f"{_batches(batches)} had to be run again after {kind};"
            " joblib_clutch.last_report() says which"
        )
    for kind, count, batches in notes:
        if kind in _WARNINGS:
            what, remedy = _WARNINGS[kind]
            _warn(f"{what}: {count}, in {_batches(batches)} ({kind}). {remedy}")


def _warn(text: str) -> None:
    # Shown with the line that called joblib: neither joblib's nor ours says
    # anything to the user.
    level, frame = 1, inspect.currentframe()
    while frame is not None and _package(frame.f_globals) in {"joblib", "joblib_clutch"}:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, ClutchWarning, stacklevel=level)


def _package(variables: dict[str, object]) -> str:
    return str(variables.get("__name__")).partition(".")[0]


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"
