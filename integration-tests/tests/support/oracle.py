"""What must hold around every fault: work goes on, and nothing of it is left."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasks
from joblib import Parallel, delayed

from support import groups, processes
from support.agents import Agent, blobs_in_use, forget
from support.waiting import Stopwatch, until
from support.witness import Witness

# Promises are for a machine of its own; tests share one.
SLACK = 3

_NEXT_TASK_SECONDS = 2
_TRACES_SECONDS = 3


@dataclass(frozen=True)
class Traces:
    """What an agent has besides itself and its zygotes."""

    workers: frozenset[int]
    strays: frozenset[str]
    zombies: int
    blobs: int
    groups: int
    files: frozenset[str]
    # Without those for content that it keeps in case somebody names it again.
    descriptors: int

    @classmethod
    def of(cls, agent: Agent) -> "Traces":
        """Look at an agent from outside."""
        status = agent.status()
        workers = {worker.pid for worker in status.workers}
        known = {agent.pid, *agent.zygotes(), *workers}
        marked = processes.marked(agent.mark)
        return cls(
            workers=frozenset(workers),
            strays=frozenset(f"{name} {pid}" for pid, name in marked.items() if pid not in known),
            zombies=len(processes.zombies_of(agent.pid)),
            blobs=blobs_in_use(status),
            groups=len(groups.of_workers(agent.pid)),
            files=frozenset(_files(agent.pid)),
            descriptors=len(processes.descriptors_of(agent.pid)) - status.blobs.cached,
        )

    def no_more_than(self, before: "Traces") -> bool:
        """Tell whether nothing came since."""
        return (
            self.workers <= before.workers
            and not self.strays
            and not self.zombies
            and self.blobs <= before.blobs
            and self.groups <= before.groups
            and self.files <= before.files
            and self.descriptors <= before.descriptors
        )


class Oracle:
    """Watches one fault. Use it in a ``with`` block around it.

    Afterwards the next task must succeed soon, a witness must have noticed
    nothing, and once our session has ended nothing of it may be left.

    Parameters
    ----------
    agent : Agent
        Where the fault happens. Nobody but us and the witness may use it.
    witness : Witness or None
        Another session of the agent.
    next_task_seconds : float
        How soon the next tasks must have run, with a new worker where one is needed.
    """

    def __init__(
        self,
        agent: Agent,
        witness: Witness | None = None,
        *,
        next_task_seconds: float = _NEXT_TASK_SECONDS,
    ) -> None:
        self.agent = agent
        self._witness = witness
        self._next_task_seconds = next_task_seconds

    def __enter__(self) -> "Oracle":
        self.leave()
        self._turn = self._witness.turn() if self._witness else 0
        self._before = until(
            lambda: Traces.of(self.agent),
            lambda traces: not traces.strays,
            seconds=_TRACES_SECONDS,
            what="the agent of the test before to be tidy",
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        with Stopwatch() as watch:
            assert self.call(delayed(tasks.double)(i) for i in range(4)) == [0, 2, 4, 6]
        assert watch.seconds < self._next_task_seconds, "the next tasks took too long"
        if self._witness:
            self._witness.check(self._turn)
        self.leave()
        until(
            lambda: Traces.of(self.agent),
            lambda now: now.no_more_than(self._before),
            seconds=_TRACES_SECONDS,
            what=f"no more than before: {self._before}",
        )

    def parallel(self, **options: Any) -> Parallel:
        """Make a ``Parallel`` of two jobs on the agent, one task for each batch."""
        options = {"n_jobs": 2, "batch_size": 1, **options}
        return Parallel(backend="clutch", agents=self.agent.address, **options)

    def call(self, work: Any, **options: Any) -> Any:
        """Run tasks."""
        return self.parallel(**options)(work)

    def raised(self, task: Any, **options: Any) -> BaseException:
        """Run a task between others; return what the call raised."""
        work = [delayed(tasks.double)(1), task, *(delayed(tasks.double)(i) for i in range(2, 6))]
        try:
            results = self.call(work, **options)
        except BaseException as error:
            return error
        raise AssertionError(f"returned {results}")

    def leave(self) -> None:
        """End our own session, and wait until the agent has noticed."""
        forget(self.agent.address)
        others = 1 if self._witness else 0
        until(self.agent.status, lambda status: len(status.sessions) <= others)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Check that the block takes no longer than what is promised, and some slack."""
        with Stopwatch() as watch:
            yield
        assert watch.seconds < seconds * SLACK, f"{watch.seconds} s, and {seconds} s are promised"


def _files(pid: int) -> set[str]:
    """Return what an agent and its workers have where other programs leave things."""
    own = Path(tempfile.gettempdir()).glob(f"clutch-{pid}-*/w*")
    return {str(path) for path in [*own, *Path("/dev/shm").glob("*clutch*")]}
