"""Several agents at a time, and what happens to them in the middle of a call."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from support.agents import Agent
from support.waiting import Stopwatch, until


@contextlib.contextmanager
def agents_of(number: int, *arguments: str) -> Iterator[list[Agent]]:
    """Start agents together, and end them."""
    with contextlib.ExitStack() as stack:
        agents = [Agent("--slots", "2", *arguments) for _ in range(number)]
        for agent in agents:
            stack.push(agent.__exit__)
        for agent in agents:
            assert agent.ready
        yield agents


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when what is inside takes longer."""
    with Stopwatch() as watch:
        yield
    assert watch.seconds < seconds


@contextlib.contextmanager
def when(log: Path, lines: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something once tasks have noted so many lines."""

    def run() -> None:
        until(
            lambda: log.exists() and log.read_text().count("\n"),
            lambda noted: noted >= lines,
            seconds=30,
        )
        act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
