"""Evidence of failures, and how people read it."""

from __future__ import annotations

from typing import NamedTuple

_BYTES = frozenset({"MEMORY_LIMIT", "MEMORY_PRESSURE", "SCRATCH_LIMIT"})
_SECONDS = frozenset({"TIME_LIMIT", "CPU_TIME_LIMIT"})
_MEGA = 1_000_000


class Attempt(NamedTuple):
    """An attempt at a batch that failed and was followed by another one.

    Attributes
    ----------
    kind : str
        How it failed, for example ``"WORKER_KILLED"``.
    message : str
        What happened.
    pid : int or None
        Its worker; None when it never reached one.
    ended_at_seconds : float
        When it failed, on the monotonic clock of the agent's machine.
    """

    kind: str
    message: str
    pid: int | None
    ended_at_seconds: float

    def __str__(self) -> str:
        """Tell kind and reason in one line."""
        return f"{self.kind}: {self.message}"


def breach(kind: str, limit: int, peak: int) -> tuple[float, float]:
    """Give a limit and its peak the units of `ClutchError`.

    Parameters
    ----------
    kind : str
        The kind of failure.
    limit, peak : int
        As the contract has them: bytes, nanoseconds or a number, by the kind.

    Returns
    -------
    tuple of float
        Both, in bytes, seconds or as they are.
    """
    return (limit / 1e9, peak / 1e9) if kind in _SECONDS else (limit, peak)


def measured(kind: str, limit: float, peak: float) -> str:
    """Write a limit and its peak for people.

    Parameters
    ----------
    kind : str
        The kind of failure, which says the unit.
    limit, peak : float
        The values.

    Returns
    -------
    str
        For example ``"512.0 MiB, peak: 513.2 MiB"``; in powers of ten where the limit is a round
        number of them.
    """
    decimal = limit % _MEGA == 0
    return f"{_quantity(kind, limit, decimal)}, peak: {_quantity(kind, peak, decimal)}"


def used(wall_seconds: float | None, cpu_seconds: float | None) -> str:
    """Write what a task used for people.

    Parameters
    ----------
    wall_seconds, cpu_seconds : float or None
        Times; None or 0: not known.

    Returns
    -------
    str
        For example ``"1.52 s wall, 1.49 s CPU"``; empty when nothing is worth telling.
    """
    times = ((wall_seconds, "wall"), (cpu_seconds, "CPU"))
    told = [(f"{seconds:.2f} s", name) for seconds, name in times if seconds]
    return ", ".join(f"{time} {name}" for time, name in told if time != "0.00 s")


def _quantity(kind: str, value: float, decimal: bool) -> str:
    if kind in _SECONDS:
        return f"{value:.2f} s"
    if kind in _BYTES:
        return (
            _size(value, 1000, "kB MB GB TB") if decimal else _size(value, 1024, "KiB MiB GiB TiB")
        )
    return f"{value:g} processes" if kind == "PROCESS_LIMIT" else f"{value:g}"


def _size(size: float, base: int, units: str) -> str:
    if size < base:
        return f"{size:.0f} bytes"
    for unit in units.split():
        size /= base
        # What would be rounded to a whole one of the next unit is one of those.
        if round(size, 1) < base:
            return f"{size:.1f} {unit}"
    return f"{size:.1f} {units.rsplit(maxsplit=1)[-1]}"
