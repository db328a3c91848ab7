"""What joblib and its users count on, where backends usually stumble."""

import itertools
import os
import sys
import threading

import joblib
import pytest
import tasks
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from support.agents import Agent
from support.drivers import run_script
from support.processes import parent_of
from support.waiting import Stopwatch, until

import joblib_clutch
from joblib_clutch import exceptions


@pytest.fixture
def clutch(shared_agent):
    """Return a Parallel with two jobs on the shared agent."""

    def parallel(n_jobs=2, **options):
        return Parallel(n_jobs=n_jobs, backend="clutch", agents=shared_agent.address, **options)

    return parallel


# 1. Nothing that fails in submit hangs a call.


def test_a_task_that_does_not_pickle_ends_the_call_wherever_it_is_submitted(clutch):
    for position in (0, 30):
        work = [delayed(tasks.double)(i) for i in range(40)]
        work[position] = delayed(tasks.double)(threading.Lock())
        with Stopwatch() as watch, pytest.raises(exceptions.ArgumentPickleError) as caught:
            clutch(batch_size=1)(work)
        assert "the task to send" in str(caught.value)
        assert watch.seconds < 5


def test_an_iterator_that_raises_ends_the_call_wherever_it_is_consumed(clutch):
    def work(bad):
        for number in range(40):
            if number == bad:
                raise LookupError("no more")
            yield delayed(tasks.double)(number)

    for bad in (0, 30):
        with Stopwatch() as watch, pytest.raises(LookupError, match="no more"):
            clutch(batch_size=1)(work(bad))
        assert watch.seconds < 5


# 2. Each batch has one ending, whatever happens.


def test_a_private_agent_killed_in_the_middle_is_named_and_replaced():
    facts = run_script(
        """
        import signal, threading, time

        def task(path):
            open(path, "w").close()
            time.sleep(60)

        def agent():
            return Parallel(n_jobs=2, backend="clutch")(delayed(os.getppid)() for _ in range(2))[0]

        victim = agent()

        def kill():
            while not os.path.exists("started"):
                time.sleep(0.01)
            say(killed_at=time.monotonic())
            os.kill(victim, signal.SIGKILL)

        threading.Thread(target=kill).start()
        try:
            run = Parallel(n_jobs=2, backend="clutch", retries=0)
            run(delayed(task)("started") for _ in range(4))
        except exceptions.AgentUnavailableError as error:
            say(raised_at=time.monotonic(), signal=error.signal, text=str(error))
        say(victim=victim, successor=agent())
        """
    )
    assert facts["raised_at"] - facts["killed_at"] < 3
    assert facts["signal"] == 9, facts["text"]
    assert facts["victim"] != facts["successor"]


def test_an_agent_killed_in_the_middle_is_named_and_its_successor_used(tmp_path, gate):
    address = f"unix:{tmp_path}/agent.sock"

    def call(function, *arguments):
        run = Parallel(n_jobs=2, backend="clutch", agents=address)
        return run(delayed(function)(*arguments) for _ in range(4))

    with Agent(address=address) as agent:
        killer = threading.Thread(target=lambda: (until(agent.busy), agent.process.kill()))
        killer.start()
        with Stopwatch() as watch, pytest.raises(exceptions.AgentUnavailableError) as caught:
            call(tasks.wait_for, gate)
        killer.join()
        assert watch.seconds < 10
        assert address in str(caught.value)
        with Stopwatch() as watch, pytest.raises(exceptions.AgentUnavailableError):
            call(tasks.pid)
        assert watch.seconds < 10, "an agent that is gone must be noticed at once"
        with Agent(address=address) as successor:
            parents = set(call(tasks.parent_pid))
            assert parents == {successor.pid}


# 3. Tasks never run in the driver unless the user asked for one job.


def test_an_agent_with_one_slot_runs_the_tasks_itself():
    with Agent("--slots", "1") as agent, parallel_config("clutch", agents=agent.address):
        assert joblib.effective_n_jobs(-1) == 2
        for options in ({}, {"n_jobs": -1}, {"n_jobs": 3}, {"n_jobs": -5}):
            pids = set(Parallel(**options)(delayed(tasks.pid)() for _ in range(6)))
            assert os.getpid() not in pids, options
            assert {parent_of(pid) for pid in pids} == {agent.pid}, options


def test_one_job_runs_in_the_driver_in_order(clutch):
    pids = clutch(n_jobs=1)(delayed(tasks.pid)() for _ in range(3))
    assert set(pids) == {os.getpid()}


# 4. Submitting never waits.


def test_submitting_does_not_wait_for_a_busy_agent(clutch, gate):
    count = 500
    with Stopwatch() as watch:
        results = clutch(return_as="generator", pre_dispatch="all", batch_size=1)(
            delayed(tasks.wait_for)(gate, number) for number in range(count)
        )
    assert watch.seconds < 5
    tasks.open_gate(gate)
    assert list(results) == list(range(count))


# 5. Callbacks come on a thread of their own, and do not nest.


def _places(seen):
    """Tasks that note where the iterator that makes them is consumed."""
    for number in range(1500):
        depth = sum(1 for _ in itertools.takewhile(bool, _frames()))
        seen.append((threading.current_thread().name, depth))
        yield delayed(tasks.double)(number)


def test_callbacks_come_where_joblib_waits_at_a_constant_depth(clutch):
    seen = []
    results = clutch(batch_size=1)(_places(seen))
    assert results == [2 * number for number in range(1500)]
    # A courier steps in when joblib does not come for them at once.
    names = {name for name, _ in seen[100:]}
    assert threading.main_thread().name in names
    assert names <= {threading.main_thread().name, "clutch-callbacks"}
    assert len(set(seen[100:])) == len(names)


def test_callbacks_of_a_generator_never_come_on_the_callers_thread(clutch):
    seen = []
    results = clutch(batch_size=1, return_as="generator")(_places(seen))
    assert list(results) == [2 * number for number in range(1500)]
    later = seen[100:]
    assert {name for name, _ in later} == {"clutch-callbacks"}
    assert len({depth for _, depth in later}) == 1


def _frames():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


# 7. Instant tasks travel in large batches.


def test_instant_tasks_travel_in_large_batches(clutch):
    count = 20_000
    assert clutch()(delayed(tasks.double)(i) for i in range(count))[-1] == 2 * (count - 1)
    total = joblib_clutch.last_report().summary()
    assert total["tasks"] == count
    assert total["batches"] < count / 50


# 8. What needs shared memory runs in the driver's threads.


def test_calls_that_need_shared_memory_run_in_the_driver(shared_agent):
    with parallel_config("clutch", agents=shared_agent.address, n_jobs=2):
        run = Parallel(n_jobs=2, require="sharedmem")
        assert set(run(delayed(tasks.pid)() for _ in range(4))) == {os.getpid()}
        features, labels = make_classification(random_state=0)
        forest = RandomForestClassifier(10, random_state=0, n_jobs=2).fit(features, labels)
        assert forest.predict(features).shape == labels.shape
    with pytest.raises(ValueError, match="does not support shared memory"):
        Parallel(n_jobs=2, backend="clutch", require="sharedmem")


@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_a_preference_does_not_override_the_chosen_backend(clutch, prefer):
    assert os.getpid() not in clutch(prefer=prefer)(delayed(tasks.pid)() for _ in range(4))


# 10. A failed call leaves nothing behind for the next one.


def test_results_of_a_failed_call_do_not_appear_in_the_next(clutch):
    with clutch(batch_size=1) as parallel:
        for _ in range(10):
            work = [delayed(tasks.double)(i) for i in range(12)]
            work[3] = delayed(tasks.raise_value_error)("now", 1)
            with pytest.raises(ValueError, match="now"):
                parallel(work)
            assert parallel(delayed(tasks.double)(i) for i in range(500, 505)) == [
                1000,
                1002,
                1004,
                1006,
                1008,
            ]


# Numbers of jobs, and options.


def test_numbers_of_jobs_mean_what_joblib_says():
    with Agent("--slots", "4") as agent, parallel_config("clutch", agents=agent.address):
        effective = {n: joblib.effective_n_jobs(n) for n in (None, -1, -2, -3, 1, 2, 9)}
        assert effective == {None: 4, -1: 4, -2: 3, -3: 2, 1: 1, 2: 2, 9: 9}
        for n_jobs, expected in ((2, 2), (-3, 2), (-2, 3)):
            run = Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="all")
            pids = run(delayed(tasks.pid_after)(0.02) for _ in range(12))
            rows = joblib_clutch.last_report().rows
            spans = [(r.queued_at_seconds + r.queued_seconds, sum(r.ran_seconds)) for r in rows]
            at_once = max(
                sum(begin <= start < begin + ran for begin, ran in spans) for start, _ in spans
            )
            assert at_once <= expected, (n_jobs, spans)
            assert len(set(pids)) <= expected, n_jobs


def test_no_jobs_at_all_is_refused(clutch):
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        clutch(n_jobs=0)(delayed(tasks.pid)() for _ in range(3))


def test_an_option_may_be_given_in_the_context_or_in_the_call(shared_agent):
    work = [delayed(tasks.parent_pid)() for _ in range(2)]
    with parallel_config("clutch", n_jobs=2, agents=shared_agent.address):
        assert set(Parallel()(work)) == {shared_agent.pid}
    in_the_call = Parallel(n_jobs=2, backend="clutch", agents=[shared_agent.address])
    assert set(in_the_call(work)) == {shared_agent.pid}


def test_an_option_of_the_call_wins_over_the_context(shared_agent):
    with parallel_config("clutch", n_jobs=2, agents=shared_agent.address, task_timeout=60):
        run = Parallel(backend="clutch", agents=shared_agent.address, n_jobs=2, task_timeout=0.1)
        with pytest.raises(exceptions.TimeLimitError):
            run(delayed(tasks.sleep_long)() for _ in range(2))


def test_an_unknown_option_is_refused_by_name(shared_agent):
    with pytest.raises(TypeError, match=r"unknown option 'agent' of the clutch backend"):
        parallel_config("clutch", agent=shared_agent.address)
    with pytest.raises(TypeError, match=r"unknown option 'agent' .* it knows agents, env"):
        Parallel(n_jobs=2, backend="clutch", agent="x")(delayed(tasks.pid)() for _ in range(2))
