"""An agent is killed in the middle of a call: the call goes on with the next one."""

import gc
import signal
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
from support import processes
from support.agents import Agent, some_address
from support.drivers import Driver
from support.proxies import Proxy
from support.waiting import Stopwatch, until

from joblib_clutch import connections, exceptions
from joblib_clutch.settings import Lease, Settings

HERE = str(Path(__file__).parent)
RETURN_AS = ["list", "generator", "generator_unordered"]
TASKS = 40
# The task in the middle of which the agent is killed.
VICTIM = 10
JOBS = 4
# What joblib submits ahead, and so may be with the agent when that is lost.
OPEN = 2 * JOBS
WARM = ("numpy", "cloudpickle", "joblib")


@pytest.fixture
def log(tmp_path):
    """Return the path of a file in which tasks note their numbers when they begin."""
    path = tmp_path / "log"
    path.touch()
    return str(path)


@pytest.fixture
def private():
    """Give a way to our private agent's process id; stop the agent at the end."""
    connections.close_all()

    def pid():
        return connections.session_for(Settings()) and _connection()._agent._process.pid

    yield pid
    connections.close_all()


def _connection():
    return connections._registry.connection((None, Lease()))


def runs(log):
    return Counter(map(int, Path(log).read_text().split()))


@contextmanager
def killing(pid, log, gate, *, when=None, then=lambda: None):
    """Kill an agent when the victim runs; after that, nothing holds the victim up."""

    def kill():
        until(lambda: runs(log)[VICTIM], seconds=60)
        if when is not None:
            assert when.wait(60)
        processes.kill(pid)
        tasks.open_gate(gate)
        then()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()


def noted(log, gate, arguments=None, count=TASKS):
    """Make tasks that note that they run, one of which waits at the gate."""
    for number in range(count):
        yield delayed(tasks.noted)(
            log,
            number,
            gate if number == VICTIM else None,
            *(arguments(number) if arguments else ()),
        )


def check(log, results, return_as="list"):
    """Every result is there, and no task ran again that need not."""
    if return_as == "generator_unordered":
        results = sorted(results)
    assert results == list(range(TASKS))
    ran = runs(log)
    assert set(ran) == set(range(TASKS))
    assert max(ran.values()) == ran[VICTIM] == 2
    assert sum(ran.values()) <= TASKS + OPEN


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_a_call_survives_the_death_of_its_private_agent(private, log, gate, return_as):
    first = private()
    with killing(first, log, gate):
        run = Parallel(JOBS, backend="clutch", batch_size=1, return_as=return_as)
        with pytest.warns(exceptions.ClutchWarning, match=r"agent was lost \(ended by SIGKILL\)"):
            results = list(run(noted(log, gate)))
    check(log, results, return_as)
    assert private() != first


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_large_arguments_arrive_as_they_were_sent(private, log, gate, return_as):
    """Whether their objects still live, have gone, or hold something else by then."""
    shared = np.arange(1_000_000.0)
    changed = [np.full(300_000, float(number)) for number in range(TASKS)]
    text = "x" * 2_000_000
    all_sent = threading.Event()

    def calls():
        for number in range(TASKS):
            held = gate if number >= VICTIM else None
            gone = np.full(400_000, float(number))
            yield delayed(tasks.noted_sums)(log, number, held, shared, gone, changed[number], text)
        for array in changed:
            array[:] = -1
        all_sent.set()

    with killing(private(), log, gate, when=all_sent):
        run = Parallel(
            JOBS, backend="clutch", batch_size=1, return_as=return_as, pre_dispatch="all"
        )
        results = dict(run(calls()))
    assert results == {
        number: [shared.sum(), 400_000.0 * number, 300_000.0 * number, 2_000_000]
        for number in range(TASKS)
    }
    assert max(runs(log).values()) == 2


def test_large_results_that_were_not_fetched_are_made_again(private, log, gate):
    with killing(private(), log, gate):
        run = Parallel(JOBS, backend="clutch", batch_size=1, return_as="generator")
        results = list(
            run(
                delayed(tasks.noted_array)(log, number, gate if number == VICTIM else None)
                for number in range(TASKS)
            )
        )
    assert [result[0] for result in results] == list(range(TASKS))
    # Those that were mapped stay, although their agent is gone.
    gc.collect()
    for number, result in enumerate(results):
        assert (result == number).all()


class SlowOnce(DummyClassifier):
    """Notes that it is fitted, and waits at the gate with one of its seeds."""

    def __init__(self, log="", gate="", random_state=0):
        super().__init__(strategy="uniform", random_state=random_state)
        self.log = log
        self.gate = gate

    def fit(self, features, target):
        tasks.noted(self.log, self.random_state, self.gate if self.random_state == VICTIM else None)
        return super().fit(features, target)


def test_a_grid_search_survives(private, log, gate):
    features, target = load_iris(return_X_y=True)

    def scores(backend, **options):
        search = GridSearchCV(SlowOnce(log, gate), {"random_state": range(20)}, cv=3, refit=False)
        with parallel_config(backend, n_jobs=2, **options):
            search.fit(features, target)
        return search.cv_results_["mean_test_score"]

    with killing(private(), log, gate):
        found = scores("clutch")
    np.testing.assert_array_equal(found, scores("sequential"))


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_a_task_that_kills_the_agent_each_time_is_named(private, log, return_as):
    with Stopwatch() as watch, pytest.raises(exceptions.AgentUnavailableError) as caught:
        list(
            Parallel(2, backend="clutch", batch_size=1, return_as=return_as)(
                delayed(tasks.note_and_kill_parent)(log, number) for number in range(2)
            )
        )
    assert "each of the 3 times" in str(caught.value)
    assert "note_and_kill_parent" in str(caught.value)
    assert caught.value.signal == signal.SIGKILL
    assert max(runs(log).values()) <= 3
    assert watch.seconds < 30
    # The slot, the agent, everything is there for the next call.
    run = Parallel(2, backend="clutch")
    assert run(delayed(tasks.double)(i) for i in range(4)) == [0, 2, 4, 6]


@pytest.mark.parametrize("return_as", RETURN_AS)
def test_without_retries_the_loss_is_the_calls_end(private, log, gate, return_as):
    with (
        killing(private(), log, gate),
        pytest.raises(exceptions.AgentUnavailableError, match="lost the agent") as caught,
    ):
        run = Parallel(JOBS, backend="clutch", batch_size=1, return_as=return_as, retries=0)
        list(run(noted(log, gate)))
    assert caught.value.signal == signal.SIGKILL
    assert max(runs(log).values()) == 1


def test_what_tasks_write_to_in_common_is_not_made_up(private, log, gate):
    """With `mmap_mode="r+"` the agent alone has what earlier tasks wrote."""
    common = np.zeros(300_000)
    with (
        killing(private(), log, gate),
        pytest.raises(exceptions.AgentUnavailableError, match="mmap_mode"),
    ):
        Parallel(JOBS, backend="clutch", batch_size=1, mmap_mode="r+")(
            noted(log, gate, lambda _: (common,))
        )


@pytest.mark.parametrize("kind", ["shared memory", "network"])
def test_a_named_agent_that_is_started_again_is_found(log, gate, kind):
    address = some_address()
    shared = np.arange(1_000_000.0)
    successors = []

    def restart():
        successors.append(Agent("--slots", str(JOBS), address=address, warm=WARM).__enter__())

    agent = Agent("--slots", str(JOBS), address=address, warm=WARM)
    with agent, Proxy(address) as proxy:
        reached = address if kind == "shared memory" else proxy.address
        run = Parallel(JOBS, backend="clutch", agents=reached, batch_size=1)
        try:
            with killing(agent.pid, log, gate, then=restart):
                results = run(noted(log, gate, lambda _: (shared,)))
        finally:
            for successor in successors:
                successor.__exit__()
    check(log, results)


@pytest.mark.parametrize("return_as", RETURN_AS[:2])
def test_a_named_agent_that_stays_away_is_told_within_seconds(log, gate, return_as):
    with (
        Agent("--slots", str(JOBS)) as agent,
        killing(agent.pid, log, gate),
        Stopwatch() as watch,
        pytest.raises(exceptions.AgentUnavailableError, match="none took its place") as caught,
    ):
        run = Parallel(
            JOBS, backend="clutch", agents=agent.address, batch_size=1, return_as=return_as
        )
        list(run(noted(log, gate)))
    assert watch.seconds < 20
    assert agent.address in str(caught.value)
    assert max(runs(log).values()) == 1


# Ctrl-C and joblib's timeout end a call at once, also while it looks for an agent.

AWAY = """
    import signal
    import threading
    address, log, gate, timeout, here = sys.argv[1:]
    sys.path.insert(0, here)
    import tasks

    def watch():
        while not any(thread.name == "clutch-reconnect" for thread in threading.enumerate()):
            time.sleep(0.01)
        say(searches=True)

    # Started by another program, a script may have SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    try:
        Parallel(2, backend="clutch", agents=address, timeout=json.loads(timeout))(
            delayed(tasks.noted)(log, 10, gate) for _ in range(8))
    except BaseException as error:
        say(raised=type(error).__name__)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("limit", ["null", "1.5"])
def test_ctrl_c_and_timeouts_do_not_wait_for_an_agent(log, gate, limit):
    with (
        Agent("--slots", "2") as agent,
        Driver(AWAY, agent.address, log, gate, limit, HERE) as driver,
    ):
        until(lambda: runs(log)[VICTIM], seconds=60)
        processes.kill(agent.pid)
        assert driver.fact("searches")
        if limit == "null":
            driver.process.send_signal(signal.SIGINT)
            assert driver.fact("raised", seconds=2) == "KeyboardInterrupt"
        else:
            # Sooner than it would be told that the agent stays away.
            assert driver.fact("raised") == "TimeoutError"
        driver.go_on()
        driver.finish(10)
