"""From the failures of the wire to the exceptions of Python."""

from __future__ import annotations

import pickle

from joblib_clutch import exceptions as errors
from joblib_clutch._wire.clutch.v1 import failure_pb2 as wire

# Every kind of the contract, with the class that stands for it.
CLASS_OF_KIND: dict[int, type[errors.ClutchError]] = {
    wire.FAILURE_KIND_UNSPECIFIED: errors.InternalError,
    wire.FAILURE_KIND_TASK_RAISED: errors.RemoteError,
    wire.FAILURE_KIND_TASK_EXITED: errors.TaskExitedError,
    wire.FAILURE_KIND_ARGUMENT_UNREADABLE: errors.ArgumentUnpickleError,
    wire.FAILURE_KIND_RESULT_UNPICKLABLE: errors.ResultPickleError,
    wire.FAILURE_KIND_WORKER_CRASHED: errors.WorkerCrashedError,
    wire.FAILURE_KIND_TIME_LIMIT: errors.TimeLimitError,
    wire.FAILURE_KIND_MEMORY_LIMIT: errors.MemoryLimitError,
    wire.FAILURE_KIND_CANCELLED: errors.CallCancelledError,
    wire.FAILURE_KIND_ENVIRONMENT_MISMATCH: errors.EnvironmentMismatchError,
    wire.FAILURE_KIND_PROTOCOL_MISMATCH: errors.ProtocolMismatchError,
    wire.FAILURE_KIND_AGENT_DRAINING: errors.AgentDrainingError,
    wire.FAILURE_KIND_WORKER_START_FAILED: errors.WorkerStartError,
    wire.FAILURE_KIND_INITIALIZER_FAILED: errors.InitializerError,
    wire.FAILURE_KIND_QUOTA_EXCEEDED: errors.QuotaExceededError,
    wire.FAILURE_KIND_INTERNAL: errors.InternalError,
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


def kind_name(kind: int) -> str:
    """Name a kind as people read it.

    Parameters
    ----------
    kind : int
        A `FailureKind`; a newer agent may send one unknown here.

    Returns
    -------
    str
        For example ``"TIME_LIMIT"``.
    """
    if kind not in wire.FailureKind.values():
        return f"UNKNOWN_{kind}"
    return wire.FailureKind.Name(kind).removeprefix("FAILURE_KIND_")  # type: ignore[arg-type, unused-ignore]


def fault_name(fault: int) -> str:
    """Name a fault as users see it.

    Parameters
    ----------
    fault : int
        A `Fault`; a newer agent may send one unknown here.

    Returns
    -------
    str
        For example ``"TASK"``; empty when it is unknown.
    """
    if fault not in wire.Fault.values():
        return ""
    return wire.Fault.Name(fault).removeprefix("FAULT_")  # type: ignore[arg-type, unused-ignore]


def class_of(kind: int) -> type[errors.ClutchError]:
    """Find the exception class of a kind.

    Parameters
    ----------
    kind : int
        A `FailureKind`; a newer agent may send one unknown here.

    Returns
    -------
    type
        A subclass of `ClutchError`.
    """
    return CLASS_OF_KIND.get(kind, errors.InternalError)


def to_exception(
    failure: wire.Failure,
    *,
    functions: list[object],
    host: str,
    pid: int,
) -> BaseException:
    """Build the exception that the user sees for a failed batch.

    Parameters
    ----------
    failure : Failure
        What the agent reported.
    functions : list
        The functions of the batch's tasks, in order.
    host : str
        Name of the agent's machine.
    pid : int
        Worker process; 0 when the batch never reached one.

    Returns
    -------
    BaseException
        The task's own exception where there is one, else a `ClutchError`.
    """
    cause = _rebuilt(failure)
    if failure.kind == wire.FAILURE_KIND_TASK_RAISED and cause is not None:
        return cause
    index = failure.task_index if failure.HasField("task_index") else None
    error = class_of(failure.kind)(
        _message(failure),
        kind=kind_name(failure.kind),
        fault=fault_name(failure.fault),
        advice=failure.advice,
        task_index=index,
        function=function_name(functions, index),
        host=host,
        pid=pid or None,
        signal=failure.signal if failure.HasField("signal") else None,
        exit_code=failure.exit_code if failure.HasField("exit_code") else None,
        stderr_tail=failure.stderr_tail,
        type_name=failure.exception.type_name,
        # A rebuilt cause shows the traceback itself.
        remote_traceback="" if cause else failure.exception.traceback,
    )
    error.__cause__ = cause
    return error


def _message(failure: wire.Failure) -> str:
    exception = failure.exception
    if not exception.type_name or exception.text in failure.message:
        return failure.message or "the agent gave no reason"
    return f"{failure.message}: {exception.type_name}: {exception.text}"


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


def _rebuilt(failure: wire.Failure) -> BaseException | None:
    exception = failure.exception
    if not exception.pickle:
        return None
    try:
        error = pickle.loads(exception.pickle)
    except BaseException:  # noqa: BLE001 - unpickling runs the user's code
        return None
    if not isinstance(error, BaseException):
        return None
    error.__cause__ = RemoteTraceback(exception.traceback)
    return error
