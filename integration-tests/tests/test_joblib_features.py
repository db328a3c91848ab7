"""What joblib offers, on Clutch: nesting, generators, contexts, threads, output."""

import io
import multiprocessing
import os
import sys
import time

import pytest
import tasks
from joblib import Parallel, delayed, parallel_config
from support.agents import Agent, clean_environment
from support.drivers import Driver, run_script
from support.waiting import until

import joblib_clutch


@pytest.fixture
def clutch(shared_agent):
    """Return a Parallel with two jobs on the shared agent."""

    def parallel(**options):
        return Parallel(n_jobs=2, backend="clutch", agents=shared_agent.address, **options)

    return parallel


# Nested calls.


def nested(n_jobs, depth, backend=None):
    """Return the most tasks that ran at once, at the bottom of nested calls."""
    if depth > 0:
        run = Parallel(n_jobs=n_jobs, backend=backend)
        return max(run(delayed(nested)(n_jobs, depth - 1, backend) for _ in range(3)))
    begin = time.monotonic()
    time.sleep(0.01)
    return begin


@pytest.mark.parametrize("backend", [None, "clutch", "loky", "threading"])
@pytest.mark.parametrize("n_jobs", [2, -1, None])
def test_nested_calls_end(clutch, n_jobs, backend):
    if backend == "loky" and n_jobs == -1:
        pytest.skip("as many processes as cores in each of the tasks: what was asked for")
    results = clutch(batch_size=1)(delayed(nested)(n_jobs, 2, backend) for _ in range(3))
    assert len(results) == 3


def inner_width():
    """Return how many threads a nested call with all jobs uses."""
    import threading

    seen, lock = set(), threading.Lock()

    def note():
        with lock:
            seen.add(threading.get_ident())
        time.sleep(0.01)

    Parallel(n_jobs=-1)(delayed(note)() for _ in range(20))
    return len(seen)


def test_nested_calls_with_all_jobs_use_no_more_than_their_slots_cores():
    cores = len(os.sched_getaffinity(0))
    for slots in (1, 2, 2 * cores):
        with Agent("--slots", str(slots)) as agent:
            run = Parallel(2, backend="clutch", agents=agent.address)
            widths = set(run(delayed(inner_width)() for _ in range(2)))
        assert max(widths) <= max(cores // slots, 1), (slots, widths)


# Generators and contexts.


def test_a_generator_gives_results_in_order_before_all_have_run(clutch, gate):
    results = clutch(return_as="generator", batch_size=1)(
        delayed(tasks.wait_for)(gate if i == 3 else os.devnull, i) for i in range(8)
    )
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    tasks.open_gate(gate)
    assert list(results) == [3, 4, 5, 6, 7]


def test_an_unordered_generator_does_not_wait_for_a_slow_task(clutch, gate):
    results = clutch(return_as="generator_unordered", batch_size=1)(
        delayed(tasks.wait_for)(gate if i == 0 else os.devnull, i) for i in range(8)
    )
    first = [next(results) for _ in range(7)]
    assert sorted(first) == [1, 2, 3, 4, 5, 6, 7]
    tasks.open_gate(gate)
    assert list(results) == [0]


def test_a_context_is_used_for_many_calls(clutch):
    with clutch() as parallel:
        pids = [set(parallel(delayed(tasks.pid_after)(0.01) for _ in range(6))) for _ in range(4)]
    assert all(later == pids[0] for later in pids[1:]), pids


def test_the_backend_may_be_chosen_for_everything_below(shared_agent):
    with parallel_config("clutch", n_jobs=2, agents=shared_agent.address):
        assert set(Parallel()(delayed(tasks.parent_pid)() for _ in range(3))) == {shared_agent.pid}
    assert Parallel(n_jobs=1)(delayed(tasks.pid)() for _ in range(2)) == [os.getpid()] * 2


def test_all_slots_are_used_when_nobody_says_how_many(shared_agent):
    with parallel_config("clutch", agents=shared_agent.address):
        pids = Parallel(batch_size=1)(delayed(tasks.pid_after)(0.05) for _ in range(6))
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


# Threads of numerical libraries.


def pools():
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return {info["num_threads"] for info in threadpool_info()}, os.environ["OMP_NUM_THREADS"]


def test_the_number_of_inner_threads_reaches_the_libraries(shared_agent):
    for threads in (1, 3):
        with parallel_config(
            "clutch", n_jobs=2, agents=shared_agent.address, inner_max_num_threads=threads
        ):
            for found, variable in Parallel()(delayed(pools)() for _ in range(2)):
                assert (found, variable) == ({threads}, str(threads))


def test_inner_threads_are_the_cores_of_a_slot_when_nobody_says_how_many():
    cores = len(os.sched_getaffinity(0))
    for slots in (1, cores):
        with Agent("--slots", str(slots)) as agent:
            run = Parallel(slots + 1, backend="clutch", agents=agent.address)
            for found, _ in run(delayed(pools)() for _ in range(2)):
                assert found == {max(cores // slots, 1)}


def test_the_variable_of_the_driver_travels(shared_agent):
    facts = run_script(
        """
        sys.path[:0] = [sys.argv[2], sys.argv[2] + "/../../protocol/python"]
        import test_joblib_features, tasks
        run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])
        say(found=[[sorted(found), variable]
                   for found, variable in run(delayed(test_joblib_features.pools)() for _ in "ab")])
        """,
        shared_agent.address,
        os.path.dirname(__file__),  # noqa: PTH120
        OMP_NUM_THREADS="5",
    )
    for found, variable in facts["found"]:
        assert 5 in found or found, facts
        assert variable == "5", facts


# The driver's secrets and its terminal.


def test_proxies_of_the_drivers_managers_work_in_tasks(clutch):
    with multiprocessing.get_context("spawn").Manager() as manager:
        numbers, lock = manager.list(), manager.Lock()

        def add(number):
            with lock:
                numbers.append(number)

        clutch()(delayed(add)(i) for i in range(6))
        assert sorted(numbers) == list(range(6))


def say_something(number):
    print(f"printed {number} äöü")
    print(f"complained {number}", file=sys.stderr)
    os.write(1, b"written by C\n")


def test_what_tasks_print_appears_at_the_driver(shared_agent):
    source = """
        def task(number):
            print(f"printed {number} \\u00e4")
            print(f"complained {number}", file=sys.stderr)
            os.write(1, b"written by C\\n")

        Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])(
            delayed(task)(i) for i in range(4))
        print("the end", flush=True)
        sys.stdin.readline()
    """
    with Driver(source, shared_agent.address, PYTHONIOENCODING="utf-8") as driver:
        wanted = {f"printed {i} ä" for i in range(4)}
        until(lambda: driver.lines, lambda lines: wanted <= set(lines), seconds=5)
        until(lambda: driver.lines, lambda lines: lines.count("written by C") == 4, seconds=5)
        complaints = {f"complained {i}" for i in range(4)}
        until(driver.stderr, lambda text: complaints <= set(text.splitlines()), seconds=5)
        driver.go_on()
        driver.finish()


def test_a_printed_line_arrives_whole_also_where_python_is_unbuffered(monkeypatch):
    """Pieces of it would be mixed with those of other workers."""
    written = []

    class Recorder(io.StringIO):
        def write(self, text):
            written.append(text)
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Recorder())
    with Agent(environment=clean_environment(PYTHONUNBUFFERED="1")) as agent:
        run = Parallel(n_jobs=2, backend="clutch", agents=agent.address)
        run(delayed(print)("one", "line", i) for i in range(4))
    lines = "".join(written).splitlines(keepends=True)
    assert sorted(lines) == [f"one line {i}\n" for i in range(4)]
    assert all(text.endswith("\n") for text in written), written


def test_what_a_task_prints_appears_while_it_runs(shared_agent, gate):
    source = """
        def task(path, number):
            if number == 0:
                print("I have begun")
            while not os.path.exists(path):
                time.sleep(0.01)

        Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])(
            delayed(task)(sys.argv[2], i) for i in range(2))
    """
    with Driver(source, shared_agent.address, gate) as driver:
        until(lambda: driver.lines, lambda lines: "I have begun" in lines, seconds=5)
        assert driver.process.poll() is None
        tasks.open_gate(gate)
        driver.finish()


def test_an_idle_driver_ends_without_delay_and_without_complaint():
    with Driver(
        """
        Parallel(n_jobs=2, backend="clutch")(delayed(abs)(i) for i in range(4))
        say(at=time.monotonic())
        """
    ) as driver:
        at = driver.fact("at")
        driver.finish()
        assert time.monotonic() - at < 3
        assert driver.stderr() == ""


def test_a_forked_child_of_the_driver_gets_an_agent_of_its_own():
    facts = run_script(
        """
        run = lambda: Parallel(n_jobs=2, backend="clutch")(delayed(os.getppid)() for _ in range(2))
        parent = run()
        child = os.fork()
        if child == 0:
            say(child=run())
            os._exit(0)
        os.waitpid(child, 0)
        say(parent=parent, later=run())
        """
    )
    assert facts["parent"] == facts["later"]
    assert not set(facts["child"]) & set(facts["parent"])


def test_the_driver_keeps_no_results_of_ended_calls(clutch):
    import gc
    import weakref

    class Big:
        pass

    results = clutch()(delayed(Big)() for _ in range(4))
    alive = [weakref.ref(result) for result in results]
    del results
    gc.collect()
    left = until(
        lambda: sum(ref() is not None for ref in alive), lambda n: n == 0, seconds=2, what="results"
    )
    assert left == 0


def test_the_environment_of_the_driver_does_not_leak_through_the_agent():
    with Agent(environment=clean_environment(TEST_OF_AGENT="1")) as agent:
        run = Parallel(2, backend="clutch", agents=agent.address)
        assert set(run(delayed(tasks.environment)("TEST_OF_AGENT") for _ in "ab")) == {"1"}
        assert set(run(delayed(tasks.environment)("CLUTCH_WORKER") for _ in "ab")) == {"1"}
    assert joblib_clutch.last_report().summary()["batches_failed"] == 0
