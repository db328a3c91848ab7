"""Batches that were run again, saved results, and notes."""

from __future__ import annotations

import pickle
import warnings
from typing import TYPE_CHECKING

import pytest
from clutch_wire.clutch.v1 import failure_pb2, outcome_pb2
from fake_agent import TaskFailureError
from joblib import Parallel, delayed, parallel_config

import joblib_clutch
from joblib_clutch import exceptions as errors
from joblib_clutch.remarks import _WARNINGS
from joblib_clutch.results import load_results

if TYPE_CHECKING:
    from fake_agent import FakeAgent

KILLED = failure_pb2.FAILURE_KIND_WORKER_KILLED
PRESSURE = failure_pb2.FAILURE_KIND_MEMORY_PRESSURE


def fail() -> None:
    raise TaskFailureError(
        KILLED,
        message="worker 7 was killed",
        attempt=3,
        wall_nanoseconds=1_500_000_000,
        cpu_nanoseconds=250_000_000,
        breach={"limit": 1 << 20, "peak": 2 << 20},
    )


def run(agent: FakeAgent, function: object = abs, **options: object) -> list[object]:
    with parallel_config("clutch", agents=agent.address):
        results: list[object] = Parallel(n_jobs=2, batch_size=2, **options)(
            delayed(function)(*([i] if function is abs else [])) for i in range(4)
        )
    return results


def add_attempts(ended: outcome_pb2.BatchEnded) -> None:
    for pid, kind in ((5, KILLED), (6, KILLED), (0, PRESSURE)):
        ended.earlier_attempts.add(
            kind=kind, message=f"attempt in {pid}", worker_pid=pid, ended_at=2_000_000_000
        )


def test_attempts_are_in_the_report_and_warned_of(agent: FakeAgent) -> None:
    agent.on_end = add_attempts
    with pytest.warns(errors.ClutchWarning) as caught:
        assert run(agent) == [0, 1, 2, 3]
    assert [str(warning.message) for warning in caught] == [
        f"2 batches had to be run again after {kind}; joblib_clutch.last_report() says which"
        for kind in ("WORKER_KILLED", "MEMORY_PRESSURE")
    ]
    assert {warning.filename for warning in caught} == {__file__}
    report = joblib_clutch.last_report()
    assert report is not None
    assert [(row.attempts, row.retried) for row in report.rows] == [
        (4, ("WORKER_KILLED", "WORKER_KILLED", "MEMORY_PRESSURE"))
    ] * 2
    assert report.summary()["retries"] == 6


def test_a_failure_tells_its_attempts_and_what_it_used(agent: FakeAgent) -> None:
    agent.on_end = add_attempts
    with (
        pytest.warns(errors.ClutchWarning),
        pytest.raises(errors.WorkerKilledError) as caught,
    ):
        run(agent, fail)
    error = caught.value
    assert (error.attempt, error.wall_seconds, error.cpu_seconds) == (3, 1.5, 0.25)
    assert (error.limit, error.peak) == (1 << 20, 2 << 20)
    first = error.earlier_attempts[0]
    assert first == ("WORKER_KILLED", "attempt in 5", 5, 2.0)
    assert error.earlier_attempts[2].pid is None
    assert "    3: MEMORY_PRESSURE: attempt in 0" in str(error)


def test_warnings_made_errors_do_not_hide_a_failure(agent: FakeAgent) -> None:
    agent.on_end = add_attempts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(errors.WorkerKilledError):
            run(agent, fail)
        with pytest.raises(errors.ClutchWarning, match="run again after WORKER_KILLED"):
            run(agent)
    agent.on_end = None
    assert run(agent) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", sorted(outcome_pb2.NoteKind.DESCRIPTOR.values_by_name)[:-1])
def test_notes_are_reported_and_warned_of_where_there_is_something_to_do(
    agent: FakeAgent, kind: str
) -> None:
    def add_note(ended: outcome_pb2.BatchEnded) -> None:
        ended.notes.add(kind=outcome_pb2.NoteKind.Value(kind), count=3)

    agent.on_end = add_note
    name = kind.removeprefix("NOTE_KIND_")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(agent)
    quiet = {"CHILDREN_KILLED", "CPU_THROTTLED"}
    told = [str(warning.message).partition(": ")[2].partition(". ")[0] for warning in caught]
    assert told == ([] if name in quiet else [f"6, in 2 batches ({name})"])
    report = joblib_clutch.last_report()
    assert report is not None
    assert [row.notes for row in report.rows] == [((name, 3),)] * 2
    unit = " ms" if name == "CPU_THROTTLED" else ""
    assert str(report).endswith(f"\n{name}: 6{unit} in 2 batches")


def test_every_warning_is_of_a_note_of_the_contract() -> None:
    names = {
        name.removeprefix("NOTE_KIND_") for name in outcome_pb2.NoteKind.DESCRIPTOR.values_by_name
    }
    assert set(_WARNINGS) <= names


def test_a_note_of_the_future_is_reported(agent: FakeAgent) -> None:
    def add_note(ended: outcome_pb2.BatchEnded) -> None:
        ended.notes.add(kind=999, count=1)

    agent.on_end = add_note
    run(agent)
    assert str(joblib_clutch.last_report()).endswith("\nUNKNOWN_999: 2 in 2 batches")


@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_saved_results_come_before_the_rest(agent: FakeAgent, saves: int) -> None:
    agent.saves = saves
    sizes = [500 << 10, 0, 2 << 20, 700 << 10]
    with parallel_config("clutch", agents=agent.address):
        results = Parallel(n_jobs=2, batch_size=4)(delayed(bytes)(size) for size in sizes)
    assert list(map(len, results)) == sizes


def test_saved_lists_are_joined_and_counted() -> None:
    pickles = [pickle.dumps([1, 2]), pickle.dumps([3]), pickle.dumps([])]
    assert load_results(pickles, None, 3) == [1, 2, 3]
    assert load_results(pickles[:1], None, 2) == [1, 2]
    with pytest.raises(errors.InternalError, match="did not return 4 results"):
        load_results(pickles, None, 4)
    for odd in ("ab", 7):
        with pytest.raises(errors.InternalError, match="did not return 3 results"):
            load_results([pickle.dumps(odd), pickle.dumps([3])], None, 3)
    with pytest.raises(errors.ResultUnpickleError):
        load_results([b"nonsense", pickle.dumps([3])], None, 3)


def test_out_of_band_buffers_belong_to_the_last_list() -> None:
    buffers: list[pickle.PickleBuffer] = []
    last = pickle.dumps([pickle.PickleBuffer(b"xyz")], protocol=5, buffer_callback=buffers.append)
    results = load_results([pickle.dumps([1]), last], [bytearray(buffers[0])], 2)
    assert [results[0], bytes(results[1])] == [1, b"xyz"]
