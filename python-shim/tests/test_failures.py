"""The closed list of failures and the exceptions that stand for it."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from clutch_wire.clutch.v1 import failure_pb2 as wire

from joblib_clutch import exceptions as errors
from joblib_clutch import failures
from joblib_clutch.evidence import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

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
        "attempt": 1,
        "breach": None,
        "wall_seconds": 0.0,
        "cpu_seconds": 0.0,
        "earlier_attempts": [],
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


def pickled_and_back(error: errors.ClutchError) -> errors.ClutchError:
    back: errors.ClutchError = pickle.loads(pickle.dumps(error))
    return back


EVIDENCE = {
    "kind": "MEMORY_LIMIT",
    "fault": "TASK",
    "advice": "less",
    "task_index": 2,
    "function": "<function f>",
    "host": "node",
    "pid": 3,
    "signal": 9,
    "exit_code": 4,
    "stderr_tail": "last words\n",
    "type_name": "a.B",
    "remote_traceback": "Traceback\n",
    "attempt": 2,
    "earlier_attempts": (Attempt("WORKER_KILLED", "it was killed", 2, 1.5),),
    "limit": 512 << 20,
    "peak": 513 << 20,
    "wall_seconds": 1.519,
    "cpu_seconds": 1.494,
}


@pytest.mark.parametrize("way", [pickled_and_back, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", CLASSES)
def test_exceptions_travel_with_all_their_evidence(
    cls: type[errors.ClutchError], way: Callable[[errors.ClutchError], errors.ClutchError]
) -> None:
    assert cls.__name__.endswith("Error")
    assert EVIDENCE.keys() == errors.ClutchError.__annotations__.keys()
    error = cls("what", **EVIDENCE)
    travelled = way(error)
    assert type(travelled) is cls
    assert {name: getattr(travelled, name) for name in EVIDENCE} == EVIDENCE
    assert str(travelled) == str(error)


def test_evidence_is_printed_for_people() -> None:
    assert str(errors.MemoryLimitError("it used too much", **EVIDENCE)).splitlines() == [
        "it used too much",
        "  task: 2, <function f>",
        "  process: 3 on node",
        "  attempt: 2",
        "  limit: 512.0 MiB, peak: 513.0 MiB",
        "  used: 1.52 s wall, 1.49 s CPU",
        "  ended by: signal 9 (SIGKILL)",
        "  exit code: 4",
        "  earlier attempts:",
        "    1: WORKER_KILLED: it was killed",
        "  remote traceback:",
        "    Traceback",
        "  end of its standard error:",
        "    last words",
        "  advice: less",
    ]


def test_what_does_not_apply_is_not_printed() -> None:
    assert str(errors.WorkerCrashedError("it died", attempt=1, earlier_attempts=())) == "it died"
    assert str(errors.WorkerCrashedError("it died", wall_seconds=0.004, cpu_seconds=0)) == "it died"
    short = errors.WorkerCrashedError("it died", wall_seconds=0.006, cpu_seconds=0.001)
    assert str(short) == "it died\n  used: 0.01 s wall"


@pytest.mark.parametrize(
    ("kind", "sent", "meant", "printed"),
    [
        ("MEMORY_LIMIT", (1 << 30, 1073700000), (1 << 30, 1073700000), "1.0 GiB, peak: 1.0 GiB"),
        (
            "MEMORY_LIMIT",
            (4 * 10**8, 41 * 10**7),
            (4 * 10**8, 41 * 10**7),
            "400.0 MB, peak: 410.0 MB",
        ),
        ("MEMORY_PRESSURE", (1000, 2000), (1000, 2000), "1000 bytes, peak: 2.0 KiB"),
        ("SCRATCH_LIMIT", (5 << 40, 6 << 50), (5 << 40, 6 << 50), "5.0 TiB, peak: 6144.0 TiB"),
        ("TIME_LIMIT", (1500000000, 1512000000), (1.5, 1.512), "1.50 s, peak: 1.51 s"),
        ("CPU_TIME_LIMIT", (10**9, 2 * 10**9), (1.0, 2.0), "1.00 s, peak: 2.00 s"),
        ("PROCESS_LIMIT", (64, 65), (64, 65), "64 processes, peak: 65 processes"),
        ("UNKNOWN_99", (7, 8), (7, 8), "7, peak: 8"),
    ],
)
def test_a_breach_has_the_unit_of_its_kind(
    kind: str, sent: tuple[int, int], meant: tuple[float, float], printed: str
) -> None:
    error = convert(failure(kind, breach=sent))
    assert isinstance(error, errors.ClutchError)
    assert (error.limit, error.peak) == meant
    assert f"  limit: {printed}\n" in f"{error}\n"


def test_earlier_attempts_are_told() -> None:
    earlier = [("WORKER_KILLED", "killed", 5, 0.5), ("MEMORY_PRESSURE", "no room", 0, 1.5)]
    error = convert(failure("WORKER_KILLED", attempt=3, earlier_attempts=earlier))
    assert isinstance(error, errors.WorkerKilledError)
    assert isinstance(error, errors.WorkerCrashedError)
    assert [(a.kind, a.pid) for a in error.earlier_attempts] == [
        ("WORKER_KILLED", 5),
        ("MEMORY_PRESSURE", None),
    ]
    assert "  attempt: 3\n" in str(error)
    assert "    2: MEMORY_PRESSURE: no room" in str(error)


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


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_what_a_task_raised_says_which_task_it_was() -> None:
    told = failure_of(KeyError("k"), "TASK_RAISED")
    note = "task 1 of 2, <built-in function print>, process 7 on node"
    assert convert(told).__notes__ == [note]
    assert str(convert(told)) == "'k'"
    again = {"attempt": 2, "earlier_attempts": [("WORKER_KILLED", "killed", 5, 0.5)]}
    (note,) = convert(told | again).__notes__
    assert ", attempt 2 (before it: WORKER_KILLED), process 7 on node" in note


class SealedError(Exception):
    """Lets nobody add anything."""

    def add_note(self, note: str) -> None:
        raise RuntimeError(note)


def test_an_exception_that_takes_no_notes_comes_without() -> None:
    assert type(convert(failure_of(SealedError("x"), "TASK_RAISED"))) is SealedError


def test_the_workers_traceback_is_printed_once_and_kept() -> None:
    error = convert(failure_of(OSError("disk"), "INITIALIZER_FAILED"))
    assert "".join(traceback.format_exception(error)).count("Traceback of the worker") == 1
    assert "Traceback of the worker" in str(pickle.loads(pickle.dumps(error)))


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
