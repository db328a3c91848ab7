"""From the failures of the wire to the exceptions of Python."""

from __future__ import annotations

import contextlib
import pickle
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from joblib_clutch import exceptions as errors
from joblib_clutch.code.missing import how_to_ship
from joblib_clutch.evidence import Attempt, breach
from joblib_clutch.versions import how_to_match

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every kind of the contract, with the class that stands for it.
CLASS_OF_KIND: dict[str, type[errors.ClutchError]] = {
    "TASK_RAISED": errors.RemoteError,
    "TASK_EXITED": errors.TaskExitedError,
    "ARGUMENT_UNREADABLE": errors.ArgumentUnpickleError,
    "RESULT_UNPICKLABLE": errors.ResultPickleError,
    "WORKER_CRASHED": errors.WorkerCrashedError,
    "TIME_LIMIT": errors.TimeLimitError,
    "MEMORY_LIMIT": errors.MemoryLimitError,
    "CANCELLED": errors.CallCancelledError,
    "ENVIRONMENT_MISMATCH": errors.EnvironmentMismatchError,
    "PROTOCOL_MISMATCH": errors.ProtocolMismatchError,
    "AGENT_DRAINING": errors.AgentDrainingError,
    "WORKER_START_FAILED": errors.WorkerStartError,
    "INITIALIZER_FAILED": errors.InitializerError,
    "QUOTA_EXCEEDED": errors.QuotaExceededError,
    "INTERNAL": errors.InternalError,
    "WORKER_KILLED": errors.WorkerKilledError,
    "MEMORY_PRESSURE": errors.MemoryPressureError,
    "CPU_TIME_LIMIT": errors.CpuTimeLimitError,
    "PROCESS_LIMIT": errors.ProcessLimitError,
    "SCRATCH_LIMIT": errors.ScratchLimitError,
    "POISONOUS_BATCH": errors.PoisonousBatchError,
}


class RemoteTraceback(Exception):  # noqa: N818 - carries text, is never raised
    """Shows the worker's traceback as the cause of a task's exception.

    Parameters
    ----------
    text : str
        The formatted traceback.
    """

    def __str__(self) -> str:
        """Set the text off as `concurrent.futures` does."""
        return f'\n"""\n{self.args[0]}"""'


def class_of(kind: str) -> type[errors.ClutchError]:
    """Find the exception class of a kind.

    Parameters
    ----------
    kind : str
        Member of the closed list; a newer agent may send one unknown here.

    Returns
    -------
    type
        A subclass of `ClutchError`.
    """
    return CLASS_OF_KIND.get(kind, errors.InternalError)


def to_exception(
    failure: dict[str, Any],
    *,
    functions: list[object],
    host: str,
    packages: Mapping[str, str] = MappingProxyType({}),
) -> BaseException:
    """Build the exception that the user sees for a failed batch.

    Parameters
    ----------
    failure : dict
        What the agent reported; its keys are listed in `_native.Ending`.
    functions : list
        The functions of the batch's tasks, in order.
    host : str
        Name of the agent's machine.
    packages : mapping of str to str
        Versions of packages on its workers, as far as it told.

    Returns
    -------
    BaseException
        The task's own exception where there is one, else a `ClutchError`.
    """
    cause = _rebuilt(failure)
    index = failure["task_index"]
    what = (failure["exception_type"], failure["exception_text"], cause)
    # A package that is there in another version is not to be shipped.
    hint = how_to_match(*what, packages, failure["message"]) or how_to_ship(*what)
    if failure["kind"] == "TASK_RAISED" and cause is not None:
        _note(cause, _place(failure, functions, host))
        if hint is not None:
            _note(cause, f"{failure['message']}; {hint}")
            if sys.version_info < (3, 11):  # no notes
                text = f"{failure['traceback']}{failure['message']}; {hint}\n"
                cause.__cause__ = RemoteTraceback(text)
        return cause
    limit, peak = breach(failure["kind"], *failure["breach"]) if failure["breach"] else (None, None)
    error = class_of(failure["kind"])(
        _message(failure),
        kind=failure["kind"],
        fault=failure["fault"],
        advice=hint or failure["advice"],
        task_index=index,
        function=function_name(functions, index),
        host=host,
        pid=failure["pid"] or None,
        signal=failure["signal"],
        exit_code=failure["exit_code"],
        stderr_tail=failure["stderr_tail"],
        type_name=failure["exception_type"],
        remote_traceback=failure["traceback"],
        attempt=failure["attempt"] or None,
        earlier_attempts=_earlier(failure),
        limit=limit,
        peak=peak,
        wall_seconds=failure["wall_seconds"] or None,
        cpu_seconds=failure["cpu_seconds"] or None,
    )
    error.__cause__ = cause
    return error


def _message(failure: dict[str, Any]) -> str:
    message: str = failure["message"]
    type_name, text = failure["exception_type"], failure["exception_text"]
    if not type_name or text in message:
        return message or "the agent gave no reason"
    return f"{message}: {type_name}: {text}"


def function_name(functions: list[object], index: int | None) -> str:
    """Name the function of a task for a message.

    Parameters
    ----------
    functions : list
        Functions of the batch's tasks, at least one.
    index : int or None
        The task; None or out of range: the first one.

    Returns
    -------
    str
        Its ``repr``.
    """
    if index is None or index >= len(functions):
        index = 0
    try:
        return repr(functions[index])
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may do anything
        return f"<function whose repr raised {type(error).__name__}>"


def _earlier(failure: dict[str, Any]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(kind, message, pid or None, ended_at)
        for kind, message, pid, ended_at in failure["earlier_attempts"]
    )


def _place(failure: dict[str, Any], functions: list[object], host: str) -> str:
    index = failure["task_index"]
    words = [f"task {index} of {len(functions)}"] if index is not None else []
    words.append(function_name(functions, index))
    if earlier := _earlier(failure):
        kinds = ", ".join(attempt.kind for attempt in earlier)
        words.append(f"attempt {failure['attempt']} (before it: {kinds})")
    if failure["pid"]:
        words.append(f"process {failure['pid']} on {host}")
    return ", ".join(words)


def _note(error: BaseException, text: str) -> None:
    # The user's class may do anything with its attributes. Python 3.10 has no notes.
    with contextlib.suppress(Exception):
        error.add_note(text)  # type: ignore[attr-defined, unused-ignore]


def _rebuilt(failure: dict[str, Any]) -> BaseException | None:
    if not failure["exception_pickle"]:
        return None
    try:
        error = pickle.loads(failure["exception_pickle"])
    except BaseException:  # noqa: BLE001 - unpickling runs the user's code
        return None
    if not isinstance(error, BaseException):
        return None
    error.__cause__ = RemoteTraceback(failure["traceback"])
    return error
