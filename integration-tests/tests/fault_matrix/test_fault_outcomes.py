"""Rows T01 to T15: how a task can end, and what the driver reads."""

import os
import pickle
import signal
import sys

import bad_tasks
import cloudpickle
import pytest
import tasks
from joblib import delayed
from support import lies, processes
from support.conversations import Conversation, blobs, joined
from support.pickles import plain_batch
from support.rounds import rounds
from support.waiting import until

import joblib_clutch
from joblib_clutch import exceptions as errors

cloudpickle.register_pickle_by_value(lies)

# Longest text of an exception that crosses a border, in bytes, and its frame.
MOST_TEXT = 64 << 10


def rows():
    return joblib_clutch.last_report().rows


def test_t01_an_error_arrives_with_its_history(oracle):
    with oracle.within(0.5):
        error = oracle.raised(delayed(bad_tasks.raise_with_history)())
    assert type(error) is ValueError
    assert error.args == ("the second", 1)
    remote = str(error.__cause__)
    for part in ("KeyError", "the direct cause", "in raise_with_history"):
        assert part in remote, remote
    if sys.version_info >= (3, 11):
        assert "noted by the task" in error.__notes__


def test_t02_an_error_of_a_class_that_only_the_worker_has(oracle):
    error = oracle.raised(delayed(bad_tasks.raise_local_class)())
    assert type(error) is errors.RemoteError
    assert error.type_name == "known_to_the_worker_only.Odd"
    assert "of the worker" in str(error)


def test_t03_a_result_of_a_batch_that_does_not_pickle(oracle):
    work = [delayed(tasks.double)(i) for i in range(10)]
    work[3] = delayed(tasks.return_lock)()
    with pytest.raises(errors.ResultPickleError) as caught:
        oracle.call(work, batch_size=10, pre_dispatch="all")
    assert caught.value.task_index == 3
    assert caught.value.pid in oracle.agent.workers(), "the worker lives on"


def test_t04_an_error_that_cannot_be_pickled_at_all(oracle):
    error = oracle.raised(delayed(bad_tasks.raise_unreducible)())
    assert type(error) is errors.RemoteError
    assert error.type_name == "bad_tasks.UnreducibleError"
    assert "kept its text" in str(error)
    assert error.pid in oracle.agent.workers(), "the worker lives on"


def test_t06_an_error_below_exception(oracle):
    with oracle.within(0.5):
        error = oracle.raised(delayed(bad_tasks.raise_own_base)())
    assert type(error) is bad_tasks.OwnBase


def test_t07_endless_recursion_is_told_in_few_words(oracle):
    with oracle.within(1):
        error = oracle.raised(delayed(tasks.recurse)())
    assert type(error) is RecursionError
    assert len(str(error.__cause__)) < 2 * MOST_TEXT


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGFPE, signal.SIGBUS])
def test_t08_a_deadly_signal_is_named_with_the_stack(oracle, number):
    with oracle.within(0.5):
        error = oracle.raised(delayed(bad_tasks.raise_signal)(number))
    assert type(error) is errors.WorkerCrashedError
    assert error.signal == number
    assert "in raise_signal" in error.stderr_tail
    assert error.pid not in oracle.agent.workers()


def test_t08_a_corrupted_heap_ends_its_worker_only(oracle):
    error = oracle.raised(delayed(bad_tasks.corrupt_the_heap)())
    assert type(error) is errors.WorkerCrashedError
    assert error.signal in {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS}


def kill_the_first(oracle, tmp_path, **options):
    """Kill a worker from outside while its task waits; return the call's results."""
    log, gate = str(tmp_path / "log"), str(tmp_path / "gate")
    results = oracle.parallel(return_as="generator", **options)(
        delayed(bad_tasks.say_and_wait)(log, gate) for _ in range(2)
    )
    victim = int(until(lambda: bad_tasks.noted(log), lambda lines: len(lines) == 2)[0])
    processes.kill(victim)
    return results, victim, log, gate


def test_t10_a_batch_whose_worker_was_killed_from_outside_runs_again(oracle, tmp_path):
    results, victim, log, gate = kill_the_first(oracle, tmp_path)
    until(lambda: bad_tasks.noted(log), lambda lines: len(lines) == 3, what="another attempt")
    tasks.open_gate(gate)
    pids = list(results)
    assert victim not in pids
    assert sorted(row.attempts for row in rows()) == [1, 2]
    (again,) = [row for row in rows() if row.attempts == 2]
    assert again.retried == ("WORKER_KILLED",)


def test_t10_a_worker_killed_from_outside_is_told_where_nothing_is_retried(oracle, tmp_path):
    results, victim, log, _ = kill_the_first(oracle, tmp_path, retries=0)
    with oracle.within(0.5), pytest.raises(errors.WorkerKilledError) as caught:
        list(results)
    assert (caught.value.pid, caught.value.signal) == (victim, signal.SIGKILL)
    assert caught.value.fault == "AGENT"
    assert caught.value.attempt == 1
    assert len(bad_tasks.noted(log)) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_t11_an_answer_counts_though_its_worker_died_right_after_it(oracle, number):
    """The agent reads what a dead worker had said before it says what the death means."""
    for _ in rounds(5, 50):
        with Conversation(oracle.agent.address) as driver, joined(driver) as line:
            driver.submit(1, plain_batch(lies.answer_and_die, number))
            ended = driver.hear("batch_ended")
            assert ended.HasField("value"), ended.failure
            _, (descriptor,) = line.ask(fetch=blobs.FetchBlob(blob_id=ended.value.blob_id))
            os.close(descriptor)


def test_t12_a_crash_in_the_middle_of_a_batch(oracle, tmp_path):
    """joblib takes a batch whole: what had ended is not run again, and arrives with the rest."""
    logs = [str(tmp_path / f"log{i}") for i in range(20)]
    work = [delayed(bad_tasks.note_and_sleep)(log, 0.12) for log in logs]
    work[6] = delayed(bad_tasks.die_the_first_time)(logs[6], 0)
    pids = oracle.call(work, batch_size=10, pre_dispatch="all", retries=1)
    assert len(pids) == 20
    runs = [len(bad_tasks.noted(log)) for log in logs]
    # Finished results are saved some time after they are there.
    assert runs[:2] == [1, 1], runs
    assert max(runs[2:6]) <= 2, runs
    assert runs[6:] == [2, *([1] * 13)], runs
    assert sorted((row.attempts, row.retried) for row in rows()) == [
        (1, ()),
        (2, ("WORKER_CRASHED",)),
    ]
    assert [(row.tasks, len(row.ran_seconds)) for row in rows()] == [(10, 10)] * 2


def test_t12_results_that_were_saved_ahead_arrive_in_order(oracle):
    results = oracle.call(
        (delayed(tasks.after)(0.12, i) for i in range(20)), batch_size=10, pre_dispatch="all"
    )
    assert results == list(range(20))
    assert [len(row.ran_seconds) for row in rows()] == [10, 10]


def test_t13_a_batch_that_kills_its_workers_is_not_tried_for_ever(oracle, tmp_path):
    log = str(tmp_path / "log")
    with oracle.within(2):
        error = oracle.raised(delayed(bad_tasks.note_and_die)(log), retries=5)
    assert type(error) is errors.PoisonousBatchError
    assert len(bad_tasks.noted(log)) == 2
    assert "2 workers died" in str(error)
    assert "note_and_die" in str(error)
    assert len(error.earlier_attempts) == 1
    assert pickle.loads(pickle.dumps(error)).task_index == error.task_index == 0


def test_t14_a_flood_of_output_stalls_nobody(oracle):
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        saved, sys.stdout = sys.stdout, nowhere
        try:
            with oracle.within(10):
                flooded = oracle.call(delayed(bad_tasks.flood_stdout)(64 << 20) for _ in range(2))
        finally:
            sys.stdout = saved
    assert flooded == [64 << 20] * 2


def test_t14_of_much_binary_text_only_the_end_is_kept(oracle, capfd):
    error = oracle.raised(delayed(bad_tasks.flood_stderr_and_die)(16 << 20))
    assert type(error) is errors.WorkerCrashedError
    assert 0 < len(error.stderr_tail) <= MOST_TEXT


def test_t08_a_pickle_too_deep_for_the_interpreter(oracle):
    """Whatever the interpreter makes of it, an error or a crash, it ends."""

    def nest(depth):
        nested = []
        for _ in range(depth):
            nested = [nested]
        return nested

    with oracle.within(2):
        error = oracle.raised(delayed(nest)(100_000))
    ends = (RecursionError, errors.ResultPickleError, errors.WorkerCrashedError)
    assert isinstance(error, ends), error
