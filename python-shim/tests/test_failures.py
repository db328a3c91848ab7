"""The closed list of failures and the exceptions that stand for it."""

from __future__ import annotations

import pickle
import traceback

import pytest
from clutch_wire.clutch.v1 import failure_pb2 as wire

from joblib_clutch import exceptions as errors
from joblib_clutch import failures

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.ClutchError)
]


class PickyError(Exception):
    """Cannot be rebuilt: its constructor wants more than its arguments."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(left + right)


def failure(kind: str, **fields: object) -> dict[str, object]:
    empty = {
        "kind": kind,
        "fault": "TASK",
        "message": "it raised",
        "advice": "",
        "task_index": 1,
        "signal": None,
        "exit_code": None,
        "stderr_tail": "",
        "exception_pickle": b"",
        "exception_type": "",
        "exception_text": "",
        "traceback": "",
        "pid": 7,
    }
    assert fields.keys() <= empty.keys()
    return empty | fields


def failure_of(error: BaseException, kind: str) -> dict[str, object]:
    return failure(
        kind,
        exception_pickle=pickle.dumps(error),
        exception_type=type(error).__name__,
        exception_text=str(error),
        traceback="Traceback of the worker\n",
    )


def convert(failure: dict[str, object]) -> BaseException:
    return failures.to_exception(failure, functions=[len, print], host="node")


def test_every_kind_has_a_class() -> None:
    names = {
        name.removeprefix("FAILURE_KIND_") for name in wire.FailureKind.DESCRIPTOR.values_by_name
    }
    assert set(failures.CLASS_OF_KIND) == names - {"UNSPECIFIED"}


@pytest.mark.parametrize("kind", failures.CLASS_OF_KIND)
def test_every_kind_becomes_an_exception(kind: str) -> None:
    error = convert(failure(kind, message="the reason", advice="the advice"))
    assert isinstance(error, failures.CLASS_OF_KIND[kind])
    assert "the reason" in str(error)
    assert "the advice" in str(error)


def test_a_kind_of_the_future_is_internal() -> None:
    error = convert(failure("UNKNOWN_999"))
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
    error = convert(failure_of(KeyError("k"), "TASK_RAISED"))
    assert isinstance(error, KeyError)
    assert "Traceback of the worker" in "".join(traceback.format_exception(error))


def test_what_cannot_be_rebuilt_is_a_remote_error() -> None:
    error = convert(failure_of(PickyError("a", "b"), "TASK_RAISED"))
    assert isinstance(error, errors.RemoteError)
    assert error.type_name == "PickyError"
    assert error.task_index == 1
    assert "ab" in str(error)
    assert "built-in function print" in str(error)
    assert "Traceback of the worker" in str(error)


def test_initializer_error_has_its_cause() -> None:
    error = convert(failure_of(OSError("disk"), "INITIALIZER_FAILED"))
    assert isinstance(error, errors.InitializerError)
    assert isinstance(error.__cause__, OSError)
