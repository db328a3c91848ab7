"""Where the time of a call went.

Instants are on CLOCK_MONOTONIC of the agent's machine, which its workers
share; they cannot be compared with the driver's clocks. Durations can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from joblib_clutch import remarks

if TYPE_CHECKING:
    from joblib_clutch import _native

_MAX_PRINTED_ROWS = 50


@dataclass(frozen=True)
class Row:
    """One batch. Durations of phases it did not reach are 0.

    Attributes
    ----------
    batch : int
        Number of the batch in its session.
    tasks : int
        Tasks in the batch.
    pid : int
        Worker process; 0 when it never reached one.
    host : str
        The agent's machine.
    queued_at_seconds : float
        When the agent had the whole batch, on its monotonic clock.
    queued_seconds : float
        Waited for a worker.
    transfer_seconds : float
        Went from the agent to the worker, and its results back.
    unpickled_seconds : float
        Was unpickled by the worker.
    ran_seconds : tuple of float
        Each task ran, up to and with the one that failed.
    pickled_seconds : float
        Its results were pickled.
    cpu_user_seconds, cpu_system_seconds : float
        CPU time of the worker.
    peak_memory_bytes : int
        Highest resident memory that the worker ever had.
    outcome : str
        ``"OK"`` or the kind of failure.
    attempts : int
        Attempts at it, this one included; 0 when it never reached a worker.
    retried : tuple of str
        The kinds of failure of the attempts before this one.
    notes : tuple of (str, int)
        What else happened, by name, and how often; ``"CPU_THROTTLED"`` in
        milliseconds.
    agent : str
        The agent's address.
    number : int
        Number of the batch in its call.
    copy : bool
        Whether another agent had the batch at the same time, and before this one.
    """

    batch: int
    tasks: int
    pid: int
    host: str
    queued_at_seconds: float
    queued_seconds: float
    transfer_seconds: float
    unpickled_seconds: float
    ran_seconds: tuple[float, ...]
    pickled_seconds: float
    cpu_user_seconds: float
    cpu_system_seconds: float
    peak_memory_bytes: int
    outcome: str
    attempts: int
    retried: tuple[str, ...]
    notes: tuple[tuple[str, int], ...]
    agent: str
    number: int
    copy: bool


class Report:
    """The batches of one call, as they end. Safe to use from any thread.

    Parameters
    ----------
    call : _native.Call or None
        The call, which keeps the timings; None: it never began.
    """

    def __init__(self, call: _native.Call | None = None) -> None:
        self._call = call

    @property
    def rows(self) -> list[Row]:
        """The rows so far, in the order in which batches ended; 100,000 at most."""
        return self._rows_and_dropped()[0]

    def _rows_and_dropped(self) -> tuple[list[Row], int]:
        if self._call is None:
            return [], 0
        told, dropped = self._call.rows()
        return [Row(*row) for row in told], dropped

    def summary(self) -> dict[str, float]:
        """Add the rows up.

        Returns
        -------
        dict
            Totals; names ending in ``_seconds`` and ``_bytes`` say their unit.
        """
        rows, dropped = self._rows_and_dropped()
        # A batch has a row for each agent that told its end: one that drained, and
        # one that had a copy, too.
        tasks = {row.number: row.tasks for row in rows}
        ended_well = {row.number for row in rows if row.outcome == "OK"}
        return {
            "batches": len(tasks) + dropped,
            "batches_without_row": dropped,
            "batches_failed": len(tasks) - len(ended_well),
            "batches_retried": sum(bool(row.retried) for row in rows),
            "retries": sum(len(row.retried) for row in rows),
            "tasks": sum(tasks.values()),
            "copies": sum(row.copy for row in rows),
            "agents": len({row.agent for row in rows}),
            "workers": len({(row.agent, row.pid) for row in rows if row.pid}),
            "queued_seconds": sum(row.queued_seconds for row in rows),
            "transfer_seconds": sum(row.transfer_seconds for row in rows),
            "unpickled_seconds": sum(row.unpickled_seconds for row in rows),
            "ran_seconds": sum(sum(row.ran_seconds) for row in rows),
            "pickled_seconds": sum(row.pickled_seconds for row in rows),
            "cpu_user_seconds": sum(row.cpu_user_seconds for row in rows),
            "cpu_system_seconds": sum(row.cpu_system_seconds for row in rows),
            "peak_memory_bytes": max((r.peak_memory_bytes for r in rows), default=0),
        }

    def __str__(self) -> str:
        """Draw a table, durations in milliseconds, and the totals."""
        rows = self.rows
        tries = any(row.retried for row in rows)
        names = _agent_names(rows)
        width = max(map(len, names.values()), default=0)
        lines = [
            f"{'agent':>{width}} "
            * bool(names)
            + f"{'batch':>7} {'tasks':>6} {'worker':>8} {'queued':>9} {'transfer':>9}"
            f" {'unpickle':>9} {'run':>10} {'pickle':>9} {'MiB':>6}"
            f"{'  attempts' if tries else ''}  outcome"
        ]
        lines += [
            (f"{names[row.agent]:>{width}} " if names else "") + _line(row, tries=tries)
            for row in rows[:_MAX_PRINTED_ROWS]
        ]
        if len(rows) > _MAX_PRINTED_ROWS:
            lines.append(f"    ... {len(rows) - _MAX_PRINTED_ROWS} more batches")
        total = self.summary()
        lines.append(
            f"{total['tasks']} tasks in {total['batches']} batches on"
            f" {total['workers']} workers"
            + (f" of {total['agents']} agents" if names else "")
            + f", {total['batches_failed']} failed"
            + (f", {total['copies']} of them copies" if total["copies"] else "")
            + (f", {total['batches_retried']} run again" if tries else "")
            + f"; ran {total['ran_seconds']:.3f} s, waited {total['queued_seconds']:.3f} s"
            " (columns in ms)"
        )
        return "\n".join(lines + remarks.lines(self))

    def remarks(self) -> tuple[list[tuple[str, int]], list[tuple[str, int, int]]]:
        """Add up what was unusual, over all batches, those without a row included.

        Returns
        -------
        retried : list of (str, int)
            Kinds of failure after which batches were run again, and how many.
        notes : list of (str, int, int)
            Kinds of notes, the sums of their counts, and how many batches have them.
        """
        return ([], []) if self._call is None else self._call.remarks()


def _agent_names(rows: list[Row]) -> dict[str, str]:
    """Name agents for a table, when there are several: by host, unless they share one."""
    hosts = {row.agent: row.host for row in rows}
    if len(hosts) <= 1:
        return {}
    shared = len(set(hosts.values())) < len(hosts)
    return {agent: agent if shared else host for agent, host in hosts.items()}


def _line(row: Row, *, tries: bool) -> str:
    def ms(seconds: float) -> str:
        return f"{seconds * 1e3:.2f}"

    return (
        f"{row.batch:>7} {row.tasks:>6} {row.pid:>8} {ms(row.queued_seconds):>9}"
        f" {ms(row.transfer_seconds):>9} {ms(row.unpickled_seconds):>9}"
        f" {ms(sum(row.ran_seconds)):>10} {ms(row.pickled_seconds):>9}"
        f" {row.peak_memory_bytes >> 20:>6}"
        + (f" {row.attempts:>9}" if tries else "")
        + f"  {row.outcome}"
        + (f" after {', '.join(row.retried)}" if row.retried else "")
    )


class _Latest:
    """Holds the report of the call that finished last."""

    def __init__(self) -> None:
        self.report: Report | None = None


_latest = _Latest()


def publish(report: Report) -> None:
    """Make a report the one that `last_report` returns.

    Parameters
    ----------
    report : Report
        Report of a call that has just finished.
    """
    _latest.report = report


def last_report() -> Report | None:
    """Report on the call of this process that finished last.

    Returns
    -------
    Report or None
        None when no call has finished yet.
    """
    return _latest.report
