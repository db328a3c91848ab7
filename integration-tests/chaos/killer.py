"""The thread that kills, by the schedule and only what is ours."""

import collections
import os
import threading
import time
from collections.abc import Iterator

from schedule import Kill
from support import processes

NAMES = {"worker": "clutch-worker", "zygote": "clutch-zygote", "agent": "clutch"}


class Killer:
    """Kills processes of our private agent, ready or not. Use it in a ``with`` block.

    Parameters
    ----------
    schedule : iterator of Kill
        When and whom.
    """

    def __init__(self, schedule: Iterator[Kill]) -> None:
        self._schedule = schedule
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.killed: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        begin = time.monotonic()
        for kill in self._schedule:
            if self._over.wait(max(0.0, begin + kill.at - time.monotonic())):
                return
            if alive := family(kill.kind):
                processes.kill(alive[int(kill.choice * len(alive))])
                self.killed[kill.kind] += 1


def family(kind: str) -> list[int]:
    """Return the living processes of a kind that belong to our private agent."""
    agents = processes.named(processes.children_of(os.getpid()), NAMES["agent"])
    if kind == "agent":
        return agents
    return sorted(
        pid
        for agent in agents
        for pid in processes.named(processes.children_of(agent), NAMES[kind])
    )
