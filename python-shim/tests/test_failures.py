"""The closed list of failures and the exceptions that stand for it."""

from __future__ import annotations

import pickle
import traceback

import pytest

from joblib_clutch import exceptions as errors
from joblib_clutch import failures
from joblib_clutch._wire.clutch.v1 import failure_pb2 as wire

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.ClutchError)
]


class PickyError(Exception):
    """Cannot be rebuilt: its constructor wants more than its arguments."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(left + right)


def failure_of(error: BaseException, kind: int) -> wire.Failure:
    return wire.Failure(
        kind=kind,
        message="it raised",
        task_index=1,
        exception=wire.ExceptionInfo(
            pickle=pickle.dumps(error),
            type_name=type(error).__name__,
            text=str(error),
            traceback="Traceback of the worker\n",
        ),
    )


def convert(failure: wire.Failure) -> BaseException:
    return failures.to_exception(failure, functions=[len, print], host="node", pid=7)


def test_every_kind_has_a_class() -> None:
    assert set(failures.CLASS_OF_KIND) == set(wire.FailureKind.values())


@pytest.mark.parametrize("kind", wire.FailureKind.values())
def test_every_kind_becomes_an_exception(kind: int) -> None:
    error = convert(wire.Failure(kind=kind, message="the reason", advice="the advice"))
    assert isinstance(error, failures.CLASS_OF_KIND[kind])
    assert "the reason" in str(error)
    assert "the advice" in str(error)


def test_a_kind_of_the_future_is_internal() -> None:
    error = failures.class_of(999)("x", kind=failures.kind_name(999))
    assert isinstance(error, errors.InternalError)
    assert error.kind == "UNKNOWN_999"


@pytest.mark.parametrize("cls", CLASSES)
def test_exceptions_pickle_with_their_evidence(cls: type[errors.ClutchError]) -> None:
    assert cls.__name__.endswith("Error")
    error = pickle.loads(pickle.dumps(cls("what", signal=9, host="node", pid=3, function="f")))
    assert type(error) is cls
    assert (error.signal, error.host, error.pid, error.advice) == (9, "node", 3, "")
    assert str(error).startswith("what\n  task: one of its batch, f\n")
    assert "SIGKILL" in str(error)


def test_unknown_evidence_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="colour"):
        errors.ClutchError("x", colour="red")


def test_the_builtin_names_work() -> None:
    assert issubclass(errors.TimeLimitError, TimeoutError)
    assert issubclass(errors.MemoryLimitError, MemoryError)
    assert issubclass(errors.AgentUnavailableError, ConnectionError)
    assert issubclass(errors.ArgumentPickleError, pickle.PicklingError)


def test_what_a_task_raised_comes_back_with_its_traceback() -> None:
    error = convert(failure_of(KeyError("k"), wire.FAILURE_KIND_TASK_RAISED))
    assert isinstance(error, KeyError)
    assert "Traceback of the worker" in "".join(traceback.format_exception(error))


def test_what_cannot_be_rebuilt_is_a_remote_error() -> None:
    error = convert(failure_of(PickyError("a", "b"), wire.FAILURE_KIND_TASK_RAISED))
    assert isinstance(error, errors.RemoteError)
    assert error.type_name == "PickyError"
    assert error.task_index == 1
    assert "ab" in str(error)
    assert "built-in function print" in str(error)
    assert "Traceback of the worker" in str(error)


def test_initializer_error_has_its_cause() -> None:
    error = convert(failure_of(OSError("disk"), wire.FAILURE_KIND_INITIALIZER_FAILED))
    assert isinstance(error, errors.InitializerError)
    assert isinstance(error.__cause__, OSError)
