"""Calls that share one backend instance never disturb each other (grid 6)."""

import gc
import threading

import pytest
import tasks
from joblib import Parallel, delayed, parallel_config

from joblib_clutch import ClutchBackend


@pytest.fixture
def instance(shared_agent):
    """Return one backend instance in force, as `parallel_config` shares it."""
    backend = ClutchBackend(agents=shared_agent.address)
    with parallel_config(backend, n_jobs=2):
        yield backend


@pytest.mark.filterwarnings("ignore:.*tasks which were still being processed:UserWarning")
def test_a_generator_outlives_the_abandonment_of_another(instance, gate):
    kept = Parallel(return_as="generator", batch_size=1)(
        delayed(tasks.double)(i) for i in range(50)
    )
    dropped = Parallel(return_as="generator", batch_size=1)(
        delayed(tasks.wait_for)(gate, i) for i in range(10)
    )
    assert next(kept) == 0
    del dropped
    gc.collect()
    assert list(kept) == [2 * i for i in range(1, 50)]


def test_a_failing_call_leaves_one_in_another_thread_alone(instance):
    results, errors = [], []

    def work():
        with parallel_config(instance, n_jobs=2):
            try:
                for _ in range(5):
                    results.append(Parallel()(delayed(tasks.pid_after)(0.02) for _ in range(8)))
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    failures = 0
    while thread.is_alive() or not failures:
        with pytest.raises(ValueError, match="on purpose"):
            Parallel()(delayed(tasks.raise_value_error)("on purpose", i) for i in range(4))
        failures += 1
    thread.join()
    assert errors == []
    assert [len(result) for result in results] == [8] * 5
    assert failures > 1


def test_a_call_made_while_the_results_of_another_are_read_is_its_own(instance):
    outer = Parallel(return_as="generator", batch_size=1)(
        delayed(tasks.double)(i) for i in range(6)
    )
    seen = [
        (number, Parallel()(delayed(tasks.double)(number + i) for i in range(3)))
        for number in outer
    ]
    assert seen == [(2 * i, [4 * i, 4 * i + 2, 4 * i + 4]) for i in range(6)]


def test_a_call_inside_a_callback_thread_is_its_own(instance):
    def work():
        for number in range(8):
            inner = Parallel(n_jobs=2, backend=instance)(
                delayed(tasks.double)(number + i) for i in range(2)
            )
            yield delayed(tasks.double)(sum(inner))

    assert Parallel(pre_dispatch=2, batch_size=1)(work()) == [8 * i + 4 for i in range(8)]


def test_calls_in_many_threads_each_get_their_own_results(instance):
    results = {}

    def work(name):
        with parallel_config(instance, n_jobs=2):
            results[name] = Parallel()(delayed(tasks.double)(name + i) for i in range(200))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {1000 * n: [2 * (1000 * n + i) for i in range(200)] for n in range(8)}
