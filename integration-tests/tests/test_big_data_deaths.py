"""Deaths amid large things: whoever is killed, nothing of them stays."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed
from support import processes
from support.agents import Agent
from support.drivers import Driver
from support.proxies import Proxy
from support.waiting import until
from support.ways import WAYS, open_way

from joblib_clutch import exceptions

MEGABYTE = 1 << 20
# Where the shim is, and the module `tasks`.
HERE = os.pathsep.join(dict.fromkeys([str(Path(__file__).parent), *sys.path[1:]]))

# Gives an agent arrays without end, and takes such from it. What it waits for
# can be told apart from outside: `argument`, `result`, or tasks that sleep.
DRIVER = """
    import numpy as np
    import tasks

    address, gate, what = sys.argv[1:]
    options = {} if address == "private" else {"agents": address}
    run = Parallel(2, backend="clutch", batch_size=1, **options)
    array = np.ones(4 << 20)
    run(delayed(np.sum)(array) for _ in range(2))
    say(ready=True, agent=run(delayed(os.getppid)() for _ in range(1))[0])

    def sleep(array, gate):
        tasks.write_pid_and_sleep(gate)
        return array.sum()

    if what == "tasks":
        run(delayed(sleep)(array, gate) for _ in range(2))
    turn = 0
    while what == "arguments":
        array = np.full(4 << 20, turn := turn + 1)
        run(delayed(np.sum)(array) for _ in range(2))
        say(turn=turn)
    while what == "results":
        run(delayed(np.ones)(4 << 20) for _ in range(2))
        say(turn=(turn := turn + 1))
"""


@pytest.fixture(scope="module")
def big_agent():
    """Return an agent that only this module uses, so that its books are ours."""
    with Agent("--slots", "2", warm=("numpy", "cloudpickle", "joblib")) as agent:
        yield agent


def files_of_the_machine():
    """Return what could be left behind outside of processes."""
    return {
        str(path)
        for folder in ("/dev/shm", tempfile.gettempdir())
        for path in Path(folder).iterdir()
        if "clutch" in path.name
        and not path.name.startswith("clutch-test-")
        # An agent that lives keeps the folder in which it unpacks what drivers ship.
        and not (path.is_dir() and not any(path.iterdir()))
    }


def descriptors(pid):
    """Return how many descriptors a process has, of what kinds."""
    # An agent keeps the folder in which it unpacks what drivers ship.
    folder = f"/clutch-{pid}-"
    names = [name for name in processes.descriptors_of(pid) if folder not in name]
    return sorted(name.split(":")[0] for name in names)


def sleeping(gate, count=2):
    """Wait until so many tasks sleep; return their workers' ids."""
    folder = Path(gate).parent
    names = until(lambda: list(folder.glob("gate.*")), lambda found: len(found) >= count)
    return [int(name.suffix[1:]) for name in names]


@contextlib.contextmanager
def address_by(agent, kind):
    """Give the address by which to reach an agent, one way or the other."""
    if kind == WAYS[0]:
        yield agent.address
    else:
        with Proxy(agent.address) as proxy:
            yield proxy.address


@pytest.mark.parametrize("what", ["arguments", "results", "tasks"])
@pytest.mark.parametrize("kind", WAYS)
def test_a_killed_driver_leaves_nothing_in_its_agent(big_agent, gate, kind, what):
    files = files_of_the_machine()
    until(big_agent.status, lambda status: not status.sessions)
    before = until(lambda: descriptors(big_agent.pid))
    books = big_agent.status().blobs
    with (
        address_by(big_agent, kind) as address,
        Driver(DRIVER, address, gate, what, PYTHONPATH=HERE) as driver,
    ):
        driver.fact("ready", seconds=60)
        if what == "tasks":
            sleeping(gate)
        else:
            driver.fact("turn", seconds=60)
        driver.process.kill()
        until(big_agent.status, lambda status: not status.sessions)
    until(
        lambda: big_agent.status().blobs,
        lambda now: now.count == now.cached,
        what="no blob in use",
    )
    until(big_agent.workers, lambda pids: not pids)
    cached = big_agent.status().blobs.cached - books.cached
    until(lambda: len(descriptors(big_agent.pid)), lambda now: now <= len(before) + cached)
    until(files_of_the_machine, lambda left: left <= files, what="files to go")


@pytest.mark.parametrize("kind", WAYS)
def test_a_killed_worker_takes_nothing_along(big_agent, gate, kind):
    def sleep(array, gate):
        tasks.write_pid_and_sleep(gate)
        return array.sum()

    files = files_of_the_machine()
    array = np.random.default_rng(3).random(4 * MEGABYTE)
    for way in open_way(big_agent, kind):
        run = way.parallel(return_as="generator", retries=0)
        results = run(delayed(sleep)(array, gate) for _ in range(2))
        (first, *_) = sleeping(gate)
        assert way.used_blobs() >= 1
        processes.kill(first)
        with pytest.raises(exceptions.WorkerCrashedError):
            list(results)
        until(way.used_blobs, lambda used: used == 0)
        assert way.parallel()([delayed(np.sum)(array)]) == [array.sum()]
    until(files_of_the_machine, lambda left: left <= files, what="files to go")


@pytest.mark.parametrize("kind", WAYS)
def test_a_killed_agent_leaves_nothing_and_the_driver_is_told(tmp_path, gate, kind):
    def sleep(array, gate):
        tasks.write_pid_and_sleep(gate)
        return array.sum()

    spill = tmp_path / "spill"
    spill.mkdir()
    files = files_of_the_machine()
    array = np.random.default_rng(4).random(4 * MEGABYTE)
    options = ["--blob-memory-bytes", str(40 * MEGABYTE), "--spill-directory", str(spill)]
    maps = processes.maps_of(os.getpid())
    assert "clutch-result" not in maps
    with (
        Agent("--slots", "2", *options, warm=("numpy", "cloudpickle", "joblib")) as agent,
        address_by(agent, kind) as address,
    ):
        # What a killed agent had unpacked stays until the next one starts: `test_code.py`.
        run = Parallel(
            2,
            backend="clutch",
            agents=address,
            batch_size=1,
            return_as="generator",
            ship_code=False,
        )
        results = run(delayed(sleep)(array, gate) for _ in range(2))
        sleeping(gate)
        family = processes.descendants_of(agent.pid)
        processes.kill(agent.pid)
        with pytest.raises(exceptions.AgentUnavailableError):
            list(results)
        until(lambda: [p for p in family if processes.is_alive(p)], lambda left: not left)
    assert list(spill.iterdir()) == []
    until(files_of_the_machine, lambda left: left <= files, what="files to go")
    gone = processes.descriptors_of(os.getpid())
    assert [name for name in gone if "clutch-blob" in name or "clutch-result" in name] == []


def test_a_private_agent_dies_with_its_driver_and_all_memory_with_both(gate):
    files = files_of_the_machine()
    with Driver(DRIVER, "private", gate, "tasks", PYTHONPATH=HERE) as driver:
        driver.fact("ready", seconds=60)
        sleeping(gate)
        family = processes.marked(driver.mark)
        assert {"clutch", "clutch-worker"} <= set(family.values())
        driver.process.kill()
        until(lambda: processes.marked(driver.mark), lambda left: not left, seconds=5)
    until(files_of_the_machine, lambda left: left <= files, what="files to go")


def test_an_interrupted_upload_is_forgotten(big_agent):
    """A tunnel that breaks in the middle: the agent keeps no half of anything."""
    until(big_agent.status, lambda status: not status.sessions)
    array = np.random.default_rng(5).random(8 * MEGABYTE)
    with Proxy(big_agent.address, most_sent=array.nbytes // 2) as proxy:
        run = Parallel(2, backend="clutch", agents=proxy.address)
        with pytest.raises(exceptions.AgentUnavailableError):
            run([delayed(np.sum)(array)])
    books = until(
        lambda: big_agent.status().blobs, lambda now: now.count == now.cached, what="no half blob"
    )
    assert not big_agent.status().sessions
    # Nor does anybody find it by its name.
    for way in open_way(big_agent, WAYS[1]):
        assert way.parallel()([delayed(np.sum)(array)]) == [array.sum()]
    assert big_agent.status().blobs.cached == books.cached + 1
