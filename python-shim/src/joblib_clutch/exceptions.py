"""What can go wrong, as exceptions.

Every class derives from `ClutchError` and, where Python has a name for the
same thing, from that too, so ``except TimeoutError`` works as people expect.
The evidence travels as attributes; those that do not apply are None or empty.
"""

from __future__ import annotations

import pickle
import signal as signals
from typing import TYPE_CHECKING

from joblib_clutch.evidence import Attempt, measured, used

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from joblib.externals.loky.process_executor import TerminatedWorkerError
except ImportError:  # joblib without multiprocessing
    TerminatedWorkerError = RuntimeError


class ClutchError(Exception):
    """Base of everything that Clutch raises on its own account.

    Parameters
    ----------
    message : str
        What happened, in one sentence.
    **evidence
        Any of the attributes below.

    Attributes
    ----------
    kind : str
        Member of the closed list of failures, for example ``"TIME_LIMIT"``.
    fault : str
        ``"TASK"``, ``"DRIVER"``, ``"AGENT"``, ``"NOBODY"`` or empty.
    advice : str
        What to do about it.
    task_index : int or None
        Index of the task in its batch.
    function : str or None
        ``repr`` of the task's function.
    host, pid : str or None, int or None
        Where it happened.
    signal, exit_code : int or None
        What ended the process.
    stderr_tail : str
        Last text that the process wrote to its standard error.
    type_name, remote_traceback : str
        Type and traceback of the exception on the other side.
    attempt : int or None
        Which attempt at the batch this was, from 1; None: it reached no worker.
    earlier_attempts : tuple of Attempt
        The attempts before it, in order.
    limit, peak : float or None
        The limit that was passed, and the most that was seen: in bytes for
        `MemoryLimitError`, `MemoryPressureError` and `ScratchLimitError`, in
        seconds for `TimeLimitError` and `CpuTimeLimitError`, a number for
        `ProcessLimitError`.
    wall_seconds : float or None
        How long the failed task ran.
    cpu_seconds : float or None
        CPU time of the worker and what it started, since the batch began.
    """

    kind: str = ""
    fault: str = ""
    advice: str = ""
    task_index: int | None = None
    function: str | None = None
    host: str | None = None
    pid: int | None = None
    signal: int | None = None
    exit_code: int | None = None
    stderr_tail: str = ""
    type_name: str = ""
    remote_traceback: str = ""
    attempt: int | None = None
    earlier_attempts: tuple[Attempt, ...] = ()
    limit: float | None = None
    peak: float | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None

    def __init__(self, message: str = "", **evidence: object) -> None:
        super().__init__(message)
        # joblib starts backends while it handles an exception of its own, which
        # says nothing to the user.
        self.__suppress_context__ = True
        for name, value in evidence.items():
            if name not in ClutchError.__annotations__:
                raise TypeError(f"unknown evidence {name!r}")
            # Evidence lives in the instance's dictionary, which every
            # exception pickles along with its arguments.
            setattr(self, name, value)

    def __str__(self) -> str:
        """Tell what happened, then the evidence, then the advice."""
        lines = [str(self.args[0]) if self.args else type(self).__name__]
        lines += self._place()
        lines += self._numbers()
        if self.earlier_attempts:
            lines.append("  earlier attempts:")
            lines += [f"    {n}: {a}" for n, a in enumerate(self.earlier_attempts, start=1)]
        # A cause shows the traceback itself.
        if self.remote_traceback and self.__cause__ is None:
            lines += ["  remote traceback:", _indented(self.remote_traceback)]
        if self.stderr_tail:
            lines += ["  end of its standard error:", _indented(self.stderr_tail)]
        if self.advice:
            lines.append(f"  advice: {self.advice}")
        return "\n".join(lines)

    def _place(self) -> Iterator[str]:
        if self.function is not None:
            index = "one of its batch" if self.task_index is None else str(self.task_index)
            yield f"  task: {index}, {self.function}"
        if self.pid:
            yield f"  process: {self.pid}" + (f" on {self.host}" if self.host else "")
        if self.attempt is not None and self.attempt > 1:
            yield f"  attempt: {self.attempt}"

    def _numbers(self) -> Iterator[str]:
        if self.limit is not None and self.peak is not None:
            yield f"  limit: {measured(self.kind, self.limit, self.peak)}"
        if times := used(self.wall_seconds, self.cpu_seconds):
            yield f"  used: {times}"
        if self.signal is not None:
            yield f"  ended by: signal {self.signal}{_signal_name(self.signal)}"
        if self.exit_code is not None:
            yield f"  exit code: {self.exit_code}"


class ClutchWarning(UserWarning):
    """Something to know of a call that went well, or not for that reason."""


class WorkerCrashedError(ClutchError, TerminatedWorkerError):  # type: ignore[misc]
    """The worker process died: a signal, ``os._exit``, or a lost link."""


class WorkerKilledError(WorkerCrashedError):
    """Somebody killed the worker process from outside."""


class PoisonousBatchError(WorkerCrashedError):
    """Several workers in a row died of the batch; it is not tried again."""


class TaskExitedError(ClutchError):
    """The task asked its interpreter to exit."""


class TimeLimitError(ClutchError, TimeoutError):
    """A task took longer than ``task_timeout`` and was killed."""


class MemoryLimitError(ClutchError, MemoryError):
    """A worker's memory passed its limit and it was killed."""


class MemoryPressureError(ClutchError, MemoryError):
    """Memory ran short on the agent's machine, and the worker made way."""


class CpuTimeLimitError(ClutchError, TimeoutError):
    """A task used more CPU time than ``task_cpu_timeout`` and was killed."""


class ProcessLimitError(ClutchError):
    """A worker had more processes than ``process_limit`` and was killed."""


class ScratchLimitError(ClutchError):
    """A worker's scratch directory passed ``scratch_limit`` and it was killed."""


class ResultPickleError(ClutchError, pickle.PicklingError):
    """The worker could not pickle a result."""


class ResultUnpickleError(ClutchError, pickle.UnpicklingError):
    """The driver could not unpickle a result."""


class ArgumentPickleError(ClutchError, pickle.PicklingError):
    """The driver could not pickle a task."""


class ArgumentUnpickleError(ClutchError, pickle.UnpicklingError):
    """The worker could not unpickle a batch."""


class RemoteError(ClutchError):
    """A task raised an exception that cannot be rebuilt here."""


class EnvironmentMismatchError(ClutchError):
    """The driver and every environment of the agent do not fit together."""


class ProtocolMismatchError(ClutchError):
    """The driver and the agent speak different versions of the contract."""


class AgentUnavailableError(ClutchError, ConnectionError):
    """The agent cannot be started, reached, or was lost."""


class AccessDeniedError(AgentUnavailableError):
    """The agent does not accept the driver's credentials, or the driver not the agent's."""


class AgentDrainingError(AgentUnavailableError):
    """The agent was asked to stop and takes nothing new."""


class WorkerStartError(ClutchError):
    """The agent could not start a worker."""


class InitializerError(ClutchError):
    """The ``initializer`` raised in a worker."""


class QuotaExceededError(ClutchError):
    """A bound of the agent was passed."""


class CallCancelledError(ClutchError):
    """The call ended before the batch did."""


class InternalError(ClutchError):
    """A defect in Clutch itself."""


def _signal_name(number: int) -> str:
    try:
        return f" ({signals.Signals(number).name})"
    except ValueError:  # real-time signals have no name
        return ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())
