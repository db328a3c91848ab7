"""The report: where the time went."""

import itertools
import os
import platform

import pytest
import tasks
from joblib import Parallel, delayed

import joblib_clutch

DURATIONS = (
    "queued_seconds",
    "transfer_seconds",
    "unpickled_seconds",
    "pickled_seconds",
    "cpu_user_seconds",
    "cpu_system_seconds",
)


@pytest.fixture
def rows(shared_agent):
    """Return a function that runs tasks one by one and returns results and rows."""

    def run(function, *arguments, count=4, **options):
        options = {"batch_size": 1, **options}
        parallel = Parallel(2, backend="clutch", agents=shared_agent.address, **options)
        results = parallel(delayed(function)(*arguments) for _ in range(count))
        return results, joblib_clutch.last_report().rows

    return run


def test_every_batch_has_a_row_and_every_phase_a_duration(rows):
    _, reported = rows(tasks.double, 3, count=40)
    assert len(reported) == 40
    assert len({row.batch for row in reported}) == 40
    for row in reported:
        assert all(getattr(row, name) >= 0 for name in DURATIONS), row
        assert row.transfer_seconds > 0, row
        assert row.unpickled_seconds > 0, row
        assert row.queued_at_seconds > 0, row
        assert row.tasks == len(row.ran_seconds) == 1, row
        assert row.outcome == "OK", row
        assert row.peak_memory_bytes > 1 << 20, row


def test_a_task_that_sleeps_ran_as_long_as_it_slept_and_used_no_processor(rows):
    _, reported = rows(tasks.pid_after, 0.2)
    for row in reported:
        assert 0.2 <= row.ran_seconds[0] < 2, row
        assert row.cpu_user_seconds + row.cpu_system_seconds < 0.1, row


def test_a_task_that_computes_used_the_processor(rows):
    _, reported = rows(tasks.burn, 0.1, count=2)
    for row in reported:
        assert 0.1 <= row.cpu_user_seconds + row.cpu_system_seconds < 1, row


def test_phases_follow_each_other(rows):
    _, reported = rows(tasks.pid_after, 0.05, count=8)
    by_worker = {}
    for row in reported:
        begin = row.queued_at_seconds + row.queued_seconds
        length = (
            row.transfer_seconds
            + row.unpickled_seconds
            + sum(row.ran_seconds)
            + row.pickled_seconds
        )
        by_worker.setdefault(row.pid, []).append((begin, begin + length))
    for spans in by_worker.values():
        spans.sort()
        for (_, end), (begin, _) in itertools.pairwise(spans):
            assert begin >= end - 0.005, "one worker ran two batches at once"


def test_a_row_names_the_worker_and_its_machine(rows):
    pids, reported = rows(tasks.pid)
    assert {row.pid for row in reported} == set(pids)
    assert os.getpid() not in pids
    assert {row.host for row in reported} == {platform.node()}


def test_each_task_of_a_batch_is_timed(rows):
    _, reported = rows(tasks.pid_after, 0.02, count=20, batch_size=5, pre_dispatch="all")
    assert [row.tasks for row in reported] == [5] * 4
    for row in reported:
        assert len(row.ran_seconds) == 5
        assert all(0.02 <= ran < 1 for ran in row.ran_seconds), row


def test_waiting_for_a_slot_is_told_from_running(rows):
    _, reported = rows(tasks.pid_after, 0.1, count=6, pre_dispatch="all")
    waited = sorted(row.queued_seconds for row in reported)
    assert waited[0] < 0.1, waited
    assert waited[-1] >= 0.15, waited


def test_a_failed_batch_has_a_row_too(rows):
    with pytest.raises(ValueError, match="bad"):
        rows(tasks.raise_value_error, "bad", 1, count=1)
    (row,) = joblib_clutch.last_report().rows
    assert row.outcome == "TASK_RAISED"
    assert len(row.ran_seconds) == 1
    assert joblib_clutch.last_report().summary()["batches_failed"] == 1


def test_the_report_can_be_printed(rows):
    rows(tasks.double, 1)
    text = str(joblib_clutch.last_report())
    assert "4 tasks in 4 batches" in text, text
