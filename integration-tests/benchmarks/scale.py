"""One driver and many agents on this machine: does one keep the others busy?

Tasks that sleep need no CPU, so a small machine can stand for many. What counts is
what the driver and the way to the agents leave of the ideal rate, and what a task
costs the driver.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

from joblib import Parallel, delayed

import joblib_clutch
from joblib_clutch import connections
from joblib_clutch.agent import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the figures must reach with 200 agents of 4 slots and tasks of a second.
LEAST_PERCENT = 95.0
MOST_MICROSECONDS = 250.0
_STARTING = 16


@contextlib.contextmanager
def agents(number: int, slots: int) -> Iterator[list[str]]:
    """Start agents that keep nothing warm.

    Parameters
    ----------
    number : int
        How many.
    slots : int
        Batches that each runs at once.

    Yields
    ------
    list of str
        Their addresses.
    """
    mark = uuid.uuid4().hex[:8]
    addresses = [f"unix-abstract:clutch-scale-{mark}-{index}" for index in range(number)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for first in range(0, number, _STARTING):
            starting = [_agent(one, slots) for one in addresses[first : first + _STARTING]]
            processes += starting
            for process in starting:
                assert process.stdout is not None
                if not process.stdout.readline():
                    raise RuntimeError("an agent did not start")
        yield addresses
    finally:
        connections.close_all()
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _agent(address: str, slots: int) -> subprocess.Popen[bytes]:
    flags = ["--slots", str(slots), "--warm", "sys", "--learn-modules", "false"]
    flags += ["--python", sys.executable]
    return subprocess.Popen(
        [find_binary(), "agent", "--listen", address, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def measure(addresses: list[str], slots: int, rounds: int, seconds: float) -> dict[str, float]:
    """Run a call that keeps all slots busy for some rounds.

    Parameters
    ----------
    addresses : list of str
        The agents.
    slots : int
        Slots of each.
    rounds : int
        Tasks for each slot.
    seconds : float
        How long each task sleeps.

    Returns
    -------
    dict
        Figures by name.
    """
    workers = len(addresses) * slots
    parallel = Parallel(n_jobs=-1, batch_size=1, backend="clutch", agents=addresses)
    # Starts the workers; each task waits until there is one for every slot.
    begin = time.monotonic()
    parallel(delayed(time.sleep)(seconds) for _ in range(2 * workers))
    warm_seconds = time.monotonic() - begin
    load = os.getloadavg()[0]
    begin, cpu_begin = time.monotonic(), time.process_time()
    parallel(delayed(time.sleep)(seconds) for _ in range(rounds * workers))
    took, cpu = time.monotonic() - begin, time.process_time() - cpu_begin
    report = joblib_clutch.last_report()
    assert report is not None
    summary = report.summary()
    tasks = rounds * workers
    return {
        "agents": summary["agents"],
        "workers": summary["workers"],
        "tasks": tasks,
        "seconds": took,
        "percent_of_ideal": 100 * rounds * seconds / took,
        "driver_cpu_microseconds_per_task": 1e6 * cpu / tasks,
        "first_call_seconds": warm_seconds,
        "load_before": load,
    }


def main() -> int:
    """Print the figures; exit with 1 when they are asked to be good and are not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=200, help="agents (default: 200)")
    parser.add_argument("--slots", type=int, default=4, help="slots of each (default: 4)")
    parser.add_argument("--rounds", type=int, default=30, help="tasks a slot (default: 30)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a task (default: 1)")
    parser.add_argument("--check", action="store_true", help="exit with 1 below the target")
    options = parser.parse_args()
    # Each agent is a connection or two here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with agents(options.agents, options.slots) as addresses:
        figures = measure(addresses, options.slots, options.rounds, options.seconds)
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}, indent=2))
    good = (
        figures["percent_of_ideal"] >= LEAST_PERCENT
        and figures["driver_cpu_microseconds_per_task"] < MOST_MICROSECONDS
    )
    return 1 if options.check and not good else 0


if __name__ == "__main__":
    sys.exit(main())
