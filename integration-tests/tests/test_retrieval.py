"""How joblib gets its results: by waiting for them, or by looking every now and then."""

import threading

import pytest
import tasks
from joblib import Parallel, delayed
from support.waiting import Stopwatch

from joblib_clutch import ClutchBackend


def call(agent, **options):
    return Parallel(n_jobs=2, backend="clutch", agents=agent.address, batch_size=1, **options)


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        ({}, False),
        ({"timeout": 60}, True),
        ({"return_as": "generator"}, True),
    ],
)
def test_only_a_call_that_needs_it_looks_every_now_and_then(shared_agent, options, looks):
    with call(shared_agent, **options) as parallel:
        assert list(parallel(delayed(tasks.double)(i) for i in range(50))) == list(range(0, 100, 2))
        assert isinstance(parallel._backend, ClutchBackend)
        assert parallel._backend.supports_retrieve_callback is looks


def test_an_error_ends_the_call_while_an_earlier_task_runs_on(shared_agent, gate):
    """The first task waits for a gate that nobody opens."""
    run = call(shared_agent)
    with Stopwatch() as watch, pytest.raises(ValueError, match="bad"):
        run([delayed(tasks.wait_for)(gate, 0), delayed(tasks.raise_value_error)("bad", 7)])
    assert watch.seconds < 10
    assert run(delayed(tasks.double)(i) for i in range(3)) == [0, 2, 4]


def test_an_error_of_the_iterator_reaches_the_caller(shared_agent):
    def some():
        for i in range(20):
            if i == 10:
                raise LookupError("no more")
            yield delayed(tasks.double)(i)

    run = call(shared_agent, pre_dispatch=2)
    with pytest.raises(LookupError, match="no more"):
        run(some())
    assert run(delayed(tasks.double)(i) for i in range(3)) == [0, 2, 4]


def test_an_argument_that_does_not_pickle_ends_a_call_that_already_runs(shared_agent):
    run = call(shared_agent, pre_dispatch=2)
    lock = threading.Lock()
    with pytest.raises(Exception, match="Could not pickle the task to send it to the workers"):
        run(delayed(tasks.double)(lock if i == 5 else i) for i in range(20))
    assert run(delayed(tasks.double)(i) for i in range(3)) == [0, 2, 4]


def test_results_keep_the_order_of_the_tasks_whichever_is_first(shared_agent):
    waits = [0.2, 0.0, 0.1, 0.0, 0.05]
    got = call(shared_agent)(delayed(tasks.after)(wait, i) for i, wait in enumerate(waits))
    assert got == [0, 1, 2, 3, 4]
