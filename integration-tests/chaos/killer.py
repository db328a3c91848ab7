"""The thread that kills, by the schedule and only what is ours."""

import collections
import os
import threading
import time
from collections.abc import Iterator

from schedule import Kill
from support import processes

NAMES = {"worker": "clutch-worker", "zygote": "clutch-zygote", "agent": "clutch"}
# A zygote that does not start three times within so many seconds is not started again for
# a while: that is promised, so one that may be about to start is killed twice at most.
START_BOUND = 2
START_BOUND_SECONDS = 30.0
START_SECONDS = 4.0


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
        self._starts_spoilt: collections.deque[float] = collections.deque(maxlen=START_BOUND)
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
                victim = alive[int(kill.choice * len(alive))]
                if kill.kind == "zygote" and not self._may_spoil(victim):
                    continue
                processes.kill(victim)
                self.killed[kill.kind] += 1

    def _may_spoil(self, zygote: int) -> bool:
        if processes.age_seconds(zygote) >= START_SECONDS:
            return True
        now, spoilt = time.monotonic(), self._starts_spoilt
        if len(spoilt) == START_BOUND and now - spoilt[0] < START_BOUND_SECONDS:
            return False
        spoilt.append(now)
        return True


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
