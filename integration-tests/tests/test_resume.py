"""A connection breaks in the middle of a call: nothing is lost and nothing runs twice."""

import itertools
import logging
import random
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed, parallel_config
from support import processes
from support.agents import Agent, forget
from support.cuts import Network
from support.drivers import Driver
from support.waiting import Stopwatch, until

from joblib_clutch import exceptions

TASKS = 12
# Longer than any test, so that only what a test is about ends a session.
SILENCE = 50


@pytest.fixture(scope="module")
def agent():
    """Return an agent that only this module uses."""
    with Agent("--slots", "2", "--log", "info") as agent:
        yield agent


@pytest.fixture
def log(tmp_path):
    """Return the path of a file in which tasks note their numbers when they begin."""
    path = tmp_path / "log"
    path.touch()
    return str(path)


@pytest.fixture
def network(agent):
    """Return a network that breaks when it is told to."""
    with Network(agent.address) as network:
        yield network
        forget(network.address)
    until(agent.status, lambda status: not status.sessions, seconds=SILENCE + 10)


def runs(log):
    return Counter(map(int, Path(log).read_text().split()))


class Calling:
    """A call in a thread of its own, whose tasks note that they run and wait at a gate."""

    def __init__(self, network, log, gate, silence=SILENCE):
        self._run = lambda: self._call(network.address, log, gate, silence)
        self.results = None

    def _call(self, address, log, gate, silence):
        with parallel_config("clutch", agents=address, silence_limit=silence):
            work = (delayed(tasks.noted)(log, number, gate) for number in range(TASKS))
            self.results = Parallel(n_jobs=2, batch_size=1)(work)

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()


def test_n01_and_n02_and_n03_what_ended_meanwhile_is_delivered_once(
    agent, network, log, gate, caplog
):
    with caplog.at_level(logging.WARNING, "joblib_clutch"), Calling(network, log, gate) as calling:
        until(lambda: len(runs(log)) == 2, seconds=30)
        network.down()
        # Nobody is told of it, and everything that the agent has goes on.
        tasks.open_gate(gate)
        until(lambda: len(runs(log)) > 2, seconds=30)
        until(lambda: not agent.busy(), seconds=30)
        with Stopwatch() as watch:
            network.heal()
            calling._thread.join(30)
        assert watch.seconds < 5
    assert calling.results == list(range(TASKS))
    assert runs(log) == Counter(range(TASKS))
    broke, back = [record.getMessage() for record in caplog.records]
    assert f"the agent at {network.address} broke" in broke
    assert f"the agent at {network.address} is back after" in back


def test_n01_a_session_whose_connection_broke_waits_for_its_driver(agent, network, log, gate):
    with Calling(network, log, gate) as calling:
        until(lambda: len(runs(log)) == 2, seconds=30)
        network.down()
        tasks.open_gate(gate)
        # Its driver is gone for the agent only now.
        network.reset()
        until(lambda: agent.status().sessions, lambda sessions: not sessions[0].attached)
        until(lambda: not agent.busy(), seconds=30)
        # Longer than a driver gets that has hung up.
        with Stopwatch() as watch:
            until(lambda: watch.seconds > 2)
        assert len(agent.status().sessions) == 1
        network.heal()
    assert calling.results == list(range(TASKS))
    assert runs(log) == Counter(range(TASKS))


def test_n02_a_network_that_pauses_costs_time_only(network, log, gate, caplog):
    with caplog.at_level(logging.WARNING, "joblib_clutch"), Calling(network, log, gate) as calling:
        until(lambda: len(runs(log)) == 2, seconds=30)
        connections = network.connections
        network.hold()
        tasks.open_gate(gate)
        with Stopwatch() as watch:
            until(lambda: watch.seconds > 2)
        network.heal()
    assert calling.results == list(range(TASKS))
    assert runs(log) == Counter(range(TASKS))
    assert not caplog.records and network.connections == connections


def test_n03_a_connection_that_breaks_while_nobody_is_away_is_back_at_once(network, log, gate):
    with Calling(network, log, gate) as calling:
        until(lambda: len(runs(log)) == 2, seconds=30)
        connections = network.connections
        with Stopwatch() as watch:
            network.cut()
            until(lambda: network.connections == connections + 1)
            tasks.open_gate(gate)
            calling._thread.join(30)
        assert watch.seconds < 5
    assert calling.results == list(range(TASKS))
    assert runs(log) == Counter(range(TASKS))


@pytest.mark.parametrize("seed", range(4))
def test_n09_and_n10_wherever_it_is_cut_each_task_runs_once(agent, log, seed):
    dice = random.Random(seed)
    # Opening a session takes about 900 bytes; after that anything goes.
    cuts = (dice.randrange(1200, 6000) for _ in range(60))
    with Network(agent.address, cuts) as network:
        with parallel_config("clutch", agents=network.address, silence_limit=SILENCE):
            for call in range(20):
                work = (delayed(tasks.noted)(log, call * 20 + number) for number in range(20))
                done = Parallel(n_jobs=2, batch_size=1)(work)
                assert done == list(range(call * 20, call * 20 + 20))
        assert network.connections > 10
        forget(network.address)
    assert runs(log) == Counter(range(400))


def test_n09_what_takes_many_frames_goes_on_in_the_middle(agent, log):
    dice = random.Random(7)
    cuts = (dice.randrange(300_000, 3_000_000) for _ in itertools.count())
    content = np.arange(700_000)
    with Network(agent.address, cuts) as network:
        with parallel_config("clutch", agents=network.address, silence_limit=SILENCE):
            for number in range(3):
                # An array goes as a blob, bytes within their batch; so do they come back.
                work = [
                    delayed(tasks.noted_sums)(log, number, None, content + number, bytes(3 << 20)),
                    delayed(tasks.noted_array)(log, number + 10, None),
                ]
                (told, sums), array = Parallel(n_jobs=2, batch_size=1)(work)
                assert (told, sums) == (number, [float((content + number).sum()), 3 << 20])
                assert array.shape == (500_000,) and (array == number + 10).all()
        assert network.connections > 10
        forget(network.address)
    assert set(runs(log).values()) == {1}


DRIVER = """
    import tasks
    with parallel_config("clutch", agents=sys.argv[1], silence_limit=float(sys.argv[2])):
        Parallel(n_jobs=2)(delayed(tasks.write_pid_and_sleep)(sys.argv[3]) for _ in range(2))
"""


def test_n06_a_killed_driver_is_waited_for_no_longer_than_a_moment(agent, network, tmp_path):
    path = str(tmp_path / "pid")
    here = str(Path(__file__).parent)
    with Driver(DRIVER, network.address, str(SILENCE), path, PYTHONPATH=here) as driver:
        pids = until(lambda: list(tmp_path.glob("pid.*")), lambda found: len(found) == 2)
        processes.kill(driver.pid)
        with Stopwatch() as watch:
            until(lambda: not agent.status().sessions)
        assert watch.seconds < 3
    for pid in pids:
        until(lambda pid=pid: not processes.is_alive(int(pid.read_text())))


def test_n07_a_driver_that_does_not_come_back_is_given_up_when_its_time_is_over(
    agent, network, tmp_path
):
    path = str(tmp_path / "pid")
    here = str(Path(__file__).parent)
    with Driver(DRIVER, network.address, "3", path, PYTHONPATH=here) as driver:
        pids = until(lambda: list(tmp_path.glob("pid.*")), lambda found: len(found) == 2)
        network.down()
        processes.kill(driver.pid)
        network.reset()
        with Stopwatch() as watch:
            until(lambda: not agent.status().sessions, seconds=20)
        assert 2.5 < watch.seconds < 6
    for pid in pids:
        until(lambda pid=pid: not processes.is_alive(int(pid.read_text())))
    assert "its driver did not come back" in agent.stderr()


@pytest.mark.parametrize("last_stream", [2**31 - 1, 0])
def test_n14_an_agent_that_ends_its_connection_loses_nothing(network, log, gate, last_stream):
    with Calling(network, log, gate) as calling:
        until(lambda: len(runs(log)) == 2, seconds=30)
        network.say_goodbye(last_stream)
        tasks.open_gate(gate)
    assert calling.results == list(range(TASKS))
    assert runs(log) == Counter(range(TASKS))


GREEDY = """
    with parallel_config("clutch", agents=sys.argv[1], silence_limit=float(sys.argv[2])):
        Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")(
            delayed(bytes)(5 << 20) for _ in range(100)
        )
"""


@pytest.mark.parametrize("silence", [0, SILENCE])
def test_n11_a_driver_that_takes_its_results_slowly_fills_no_memory(agent, network, silence):
    before = processes.private_bytes(agent.pid)
    network.rate = 10_000
    with Driver(GREEDY, network.address, str(silence)):
        held = "nothing more begins"
        known = agent.stderr().count(held)
        until(lambda: agent.stderr().count(held) > known, seconds=60)
        until(lambda: not agent.busy(), seconds=60)
        (session,) = agent.status().sessions
        assert session.waiting > 50
        assert processes.private_bytes(agent.pid) - before < 160 << 20
        # Others are served as before.
        with parallel_config("clutch", agents=agent.address):
            assert Parallel(n_jobs=2)(delayed(abs)(number) for number in range(50)) == [*range(50)]
        forget(agent.address)
        # It may take them yet.
        network.rate = None
        until(lambda: not agent.status().sessions, seconds=60)


def test_n01_keepalive_finds_a_connection_that_is_half_open(network, log, gate, caplog):
    with caplog.at_level(logging.WARNING, "joblib_clutch"), Calling(network, log, gate) as calling:
        until(lambda: len(runs(log)) == 2, seconds=30)
        network.hold()
        tasks.open_gate(gate)
        until(lambda: caplog.records, seconds=30)
        # The attempts to come back are held too; with them the last words of the old
        # connection arrive.
        network.heal()
    assert calling.results == list(range(TASKS))
    assert runs(log) == Counter(range(TASKS))
    assert len(caplog.records) == 2


def lost(network, log, gate, happens, silence=SILENCE):
    """Lose the agent while a call runs; return how long that took to be known."""
    failed = []

    def call():
        try:
            with parallel_config(
                "clutch", agents=network.address, silence_limit=silence, retries=0
            ):
                work = (delayed(tasks.noted)(log, number, gate) for number in range(4))
                Parallel(n_jobs=2, batch_size=1)(work)
        except exceptions.AgentUnavailableError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: len(runs(log)) == 2, seconds=30)
    with Stopwatch() as watch:
        happens()
        thread.join(30)
    forget(network.address)
    (error,) = failed
    return str(error), watch.seconds


def test_an_agent_that_is_gone_is_not_waited_for(log, gate):
    with Agent("--slots", "2") as agent, Network(agent.address) as network:

        def dies():
            network.down(agent_hears=True, refuses=True)
            processes.kill(agent.pid)

        told, seconds = lost(network, log, gate, dies)
        assert seconds < 5
        assert "Connection refused" in told


def test_an_agent_that_does_not_come_back_is_lost_when_the_silence_is_over(agent, log, gate):
    with Network(agent.address) as network:
        told, seconds = lost(network, log, gate, network.down, silence=2)
        assert 1.9 < seconds < 5
        assert "broken pipe" in told
        assert "it did not come back within 2 s" in told
    tasks.open_gate(gate)


def test_an_agent_that_was_started_again_is_not_asked_twice(log, gate):
    with Agent("--slots", "2") as agent, Network(agent.address) as network:
        others = []

        def starts_again():
            network.down()
            processes.kill(agent.pid)
            agent.process.wait()
            others.append(Agent("--slots", "2", address=agent.address))
            assert others[0].ready
            network.heal()

        try:
            told, _ = lost(network, log, gate, starts_again)
        finally:
            for other in others:
                other.__exit__()
        assert "NOT_FOUND: there is no such session" in told
