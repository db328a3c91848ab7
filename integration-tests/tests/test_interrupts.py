"""What is left when a driver or an agent ends, however it ends: nothing."""

import signal
import tempfile
from pathlib import Path

import pytest
import tasks
from joblib import Parallel, delayed
from support import processes
from support.agents import Agent
from support.drivers import Driver
from support.waiting import Stopwatch, until

from joblib_clutch import exceptions
from joblib_clutch.session import Session
from joblib_clutch.settings import Lease

# Two tasks that say in files that they run, on a private agent or a given one.
SLEEPERS = """
    import pathlib, signal

    def task(path):
        pathlib.Path(f"{path}.{os.getpid()}").write_text(str(os.getpid()))
        time.sleep(60)

    options = {"retries": 0, **({"agents": sys.argv[2]} if len(sys.argv) > 2 else {})}
    # Started by another program, a script may have SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    say(parent=Parallel(n_jobs=2, backend="clutch", **options)(
        delayed(os.getppid)() for _ in range(2))[0])
    begin = time.monotonic()
    try:
        Parallel(n_jobs=2, backend="clutch", batch_size=1, **options)(
            delayed(task)(sys.argv[1]) for _ in range(8))
    except KeyboardInterrupt:
        say(interrupted=True)
        say(pids=Parallel(n_jobs=2, backend="clutch", **options)(
            delayed(os.getpid)() for _ in range(4)))
        sys.stdin.readline()
"""


def runners(gate):
    """Return the ids of the processes whose tasks said that they run."""
    return [int(path.read_text() or 0) for path in Path(gate).parent.glob("gate.*")]


def wait_for_two(gate):
    return until(lambda: runners(gate), lambda pids: len(pids) == 2 and all(pids), what="tasks")


def test_ctrl_c_stops_the_running_tasks_and_leaves_the_session_usable(shared_agent, gate):
    with Driver(SLEEPERS, gate, shared_agent.address) as driver:
        assert driver.fact("parent") == shared_agent.pid
        running = wait_for_two(gate)
        driver.process.send_signal(signal.SIGINT)
        until(
            lambda: [pid for pid in running if processes.is_alive(pid)],
            lambda alive: not alive,
            seconds=1,
            what="the tasks' processes to be gone",
        )
        driver.fact("interrupted", seconds=2)
        assert not set(driver.fact("pids", seconds=2)) & set(running)
        assert sorted(runners(gate)) == sorted(running), "a waiting task ran after all"
        driver.go_on()
        driver.finish()
    until(shared_agent.workers, lambda pids: not set(pids) & set(running), seconds=2)


def test_ctrl_c_in_the_terminal_does_not_reach_the_private_agent(gate):
    with Driver(SLEEPERS, gate) as driver:
        agent = driver.fact("parent")
        wait_for_two(gate)
        # A terminal signals the whole process group of the driver.
        processes.kill(-driver.pid, signal.SIGINT)
        driver.fact("pids", seconds=5)
        assert processes.is_alive(agent)
        driver.go_on()
        driver.finish()
        until(lambda: processes.marked(driver.mark), lambda left: not left, seconds=2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_driver_that_is_killed(gate, number):
    with Driver(SLEEPERS, gate) as driver:
        driver.fact("parent")
        wait_for_two(gate)
        family = processes.marked(driver.mark)
        names = set(family.values())
        assert {"clutch", "clutch-zygote", "clutch-worker"} <= names, family
        driver.process.send_signal(number)
        until(lambda: processes.marked(driver.mark), lambda left: not left, seconds=2)


def test_the_workers_of_a_killed_driver_are_gone_and_its_neighbours_are_not(shared_agent, gate):
    run = Parallel(n_jobs=2, backend="clutch", agents=shared_agent.address)
    own = set(run(delayed(tasks.pid_after)(0.05) for _ in range(8)))
    with Driver(SLEEPERS, gate, shared_agent.address) as driver:
        driver.fact("parent")
        running = wait_for_two(gate)
        driver.process.kill()
        until(shared_agent.workers, lambda pids: not set(pids) & set(running), seconds=2)
    assert set(run(delayed(tasks.pid_after)(0.05) for _ in range(8))) == own


def files_of_the_machine():
    """Return what an agent could leave behind outside of its processes."""
    return {
        str(path)
        for folder in ("/dev/shm", tempfile.gettempdir(), "/run")
        for path in Path(folder).glob("*clutch*")
        if not path.name.startswith("clutch-test-")
    }


def test_nothing_survives_an_agent_that_is_killed(gate):
    before = files_of_the_machine()
    with Driver(SLEEPERS, gate) as driver:
        agent = driver.fact("parent")
        wait_for_two(gate)
        family = processes.descendants_of(agent)
        assert len(family) >= 3, family
        sockets = {name for name in processes.unix_sockets() if name.startswith("@clutch-")}
        processes.kill(agent)
        until(
            lambda: [pid for pid in family if processes.is_alive(pid)],
            lambda alive: not alive,
            seconds=2,
            what="zygote and workers to be gone",
        )
        assert driver.process.wait(10) == 1
        assert "AgentUnavailableError" in driver.stderr()
    assert sockets - processes.unix_sockets(), "the agent's abstract socket is still there"
    until(lambda: files_of_the_machine() - before, lambda left: not left, seconds=2)


def start_waiting(agent, gate, count=2):
    """Start tasks that wait at the gate; return the call's results to be."""
    run = Parallel(n_jobs=2, backend="clutch", agents=agent.address, return_as="generator")
    results = run(delayed(tasks.wait_for)(gate, i) for i in range(count))
    until(agent.busy, lambda busy: len(busy) == 2)
    return results


def test_sigterm_lets_what_runs_finish_and_takes_nothing_new(gate):
    with Agent() as agent:
        results = start_waiting(agent, gate)
        agent.signal(signal.SIGTERM)
        until(lambda: agent.status().draining)
        with pytest.raises(exceptions.AgentDrainingError):
            Parallel(n_jobs=2, backend="clutch", agents=agent.address)(
                delayed(tasks.pid)() for _ in range(2)
            )
        with pytest.raises(exceptions.AgentDrainingError, match="refused the session"):
            Session(agent.address, Lease(), dict)
        tasks.open_gate(gate)
        assert list(results) == [0, 1]
        assert agent.exit_code() == 0


def test_an_idle_agent_leaves_at_once_on_sigterm():
    with Agent() as agent:
        Parallel(n_jobs=2, backend="clutch", agents=agent.address)(
            delayed(tasks.pid)() for _ in range(2)
        )
        with Stopwatch() as watch:
            agent.signal(signal.SIGTERM)
            assert agent.exit_code() == 0
        assert watch.seconds < 2


def test_a_second_signal_kills_what_runs(gate):
    with Agent() as agent:
        results = start_waiting(agent, gate)
        family = processes.descendants_of(agent.pid)
        agent.signal(signal.SIGTERM)
        until(lambda: agent.status().draining)
        agent.signal(signal.SIGINT)
        assert agent.exit_code() == 75
        with pytest.raises(exceptions.AgentDrainingError, match="was killed while it ran"):
            list(results)
        until(
            lambda: [p for p in family if processes.is_alive(p)],
            lambda left: not left,
            seconds=2,
        )


def test_what_runs_at_the_drain_deadline_is_killed(gate):
    with Agent("--drain-seconds", "0.3") as agent:
        results = start_waiting(agent, gate)
        with Stopwatch() as watch:
            agent.signal(signal.SIGTERM)
            assert agent.exit_code() == 75
        assert 0.3 <= watch.seconds < 3
        with pytest.raises(exceptions.AgentDrainingError, match="was killed while it ran"):
            list(results)
