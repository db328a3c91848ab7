"""joblib's verbs, said to a Clutch agent."""

from __future__ import annotations

import contextlib
import os
import queue
from typing import TYPE_CHECKING, Any

from joblib import parallel as joblib_parallel
from joblib.parallel import (
    AutoBatchingMixin,
    BatchedCalls,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

from joblib_clutch.call import Call, CallPlan
from joblib_clutch.connections import prepare
from joblib_clutch.exceptions import ClutchWarning
from joblib_clutch.remarks import warn_of
from joblib_clutch.roster import sessions_for
from joblib_clutch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.batch import BatchFuture

# Time that a batch costs beyond its tasks, in seconds. Keeps the measured
# duration of instant tasks above zero, without which joblib never grows batches.
_BATCH_OVERHEAD_SECONDS = 1e-3


# The mixin must come first: the base defines compute_batch_size() as 1.
class ClutchBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs the tasks of ``joblib.Parallel`` on the workers of a Clutch agent.

    Parameters
    ----------
    nesting_level : int or None
        Set by joblib.
    inner_max_num_threads : int or None
        Threads that each worker's numerical libraries may use.
    **options
        ``agents``, ``task_timeout``, ``memory_limit`` and the others of
        `joblib_clutch.settings.Settings`. ``Parallel`` takes them too.
    """

    supports_return_generator = True
    supports_timeout = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1
    _awaited = False

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: object,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._settings = Settings().merged(options)
        if _inside_worker() or (nesting_level is not None and _is_default()):
            # Inside a task, and in every library's Parallel() of a process with
            # Clutch as joblib's default, nobody asked for parallelism. joblib
            # gives a level only to what the user did not construct.
            self.default_n_jobs = 1
        if nesting_level is None and not _inside_worker():
            # `parallel_config("clutch")`, or an instance: the user means to run
            # something on it. Others construct a backend to look at it.
            prepare(self._settings)
        self._serves_one_parallel = False
        self._n_jobs = self.default_n_jobs
        self._call: Call | None = None
        self.parallel: Any = None

    @property
    def supports_retrieve_callback(self) -> bool:
        """Whether joblib gets results in callbacks, and looks every 10 ms.

        A call that returns a list and has no timeout waits for the futures
        instead, and has its results the moment they are there.
        """
        return not self._awaited

    @property
    def _workers(self) -> Call | None:
        """What stands for the pool of workers; None when idle."""
        return self._call

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Tell how many tasks can run at once.

        Parameters
        ----------
        n_jobs : int or None
            As the user gave it; None: all slots.

        Returns
        -------
        int
            1 only when the user asked for 1: joblib would run the tasks in the
            driver otherwise.
        """
        n_jobs = self._wanted(n_jobs)
        if _inside_worker():
            return int(self._inner_backend().effective_n_jobs(n_jobs))
        if n_jobs > 0:
            return n_jobs
        return max(self._slots_for(n_jobs), 2)

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: object = None,
        prefer: str | None = None,  # noqa: ARG002 - joblib's signature
        require: str | None = None,  # noqa: ARG002 - joblib's signature
        **options: object,
    ) -> int:
        """Get ready for the calls of one ``Parallel``.

        Parameters
        ----------
        n_jobs : int or None
            As the user gave it.
        parallel : Parallel
            Who calls.
        prefer, require : str or None
            joblib's hints; it has acted on them already.
        **options
            Ours, over those of the constructor, and joblib's own.

        Returns
        -------
        int
            How many tasks can run at once, at least 2.
        """
        settings = self._settings.merged(options)
        n_jobs = self._wanted(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if _inside_worker():
            raise FallbackToBackend(self._inner_backend())
        if not self._serves_one_parallel:
            # joblib gives one instance to many Parallel objects, and some of
            # its verbs do not say whose call they mean.
            raise FallbackToBackend(self._for_one_parallel(settings))
        self._settings = settings
        self._n_jobs = n_jobs
        self.parallel = parallel
        effective = self.effective_n_jobs(n_jobs)
        # Found here, a missing agent is reported before any task is taken.
        sessions_for(settings)
        self._awaited = _returns_a_list_without_timeout(parallel)
        self._call = self._new_call()
        return effective

    def start_call(self) -> None:
        """Open a call on the agent."""
        self._drop_leftovers()
        if self._call is None or self._call.started:
            self._call = self._new_call()
        agents = self._settings.agents
        every_slot = self._n_jobs == -1 and self._settings.whole_cpus == 1
        plan = CallPlan(
            settings=self._settings,
            max_running=0
            if every_slot or (self._n_jobs == -1 and agents is not None and agents.several)
            else self._slots_for(self._n_jobs),
            # What joblib was told: the one task at a time of n_jobs=-2 on two
            # slots leaves the other slot's cores alone.
            workers=0 if every_slot else self.effective_n_jobs(self._n_jobs),
            nesting_level=(self.nesting_level or 0) + 1,
            inner_max_num_threads=self.inner_max_num_threads,
        )
        self._call.start(sessions_for(self._settings), plan)

    def submit(self, func: BatchedCalls, callback: Callable[[BatchFuture], object]) -> BatchFuture:
        """Run a batch. Never blocks, never raises.

        Parameters
        ----------
        func : BatchedCalls
            joblib's batch.
        callback : callable
            Called once with the future, on another thread.

        Returns
        -------
        BatchFuture
            The future.
        """
        # A callback of a call long aborted may still submit: Call() cancels it.
        call = self._call or self._new_call()
        return call.submit(func.items, callback)

    apply_async = submit  # joblib before 1.5

    def retrieve_result_callback(self, out: BatchFuture) -> list[Any]:
        """Hand joblib the results of a batch.

        Parameters
        ----------
        out : BatchFuture
            A completed future.

        Returns
        -------
        list
            The results.
        """
        return out.result()

    def batch_completed(self, batch_size: int, duration: float) -> None:  # noqa: ARG002
        """Tell auto-batching how long a batch took.

        Parameters
        ----------
        batch_size : int
            Tasks in the batch.
        duration : float
            joblib's own measure in seconds; it includes queueing, so the
            workers' measure is used instead.
        """
        ran_seconds = self._call.ran_seconds if self._call is not None else 0.0
        super().batch_completed(batch_size, ran_seconds + _BATCH_OVERHEAD_SECONDS)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what runs and what waits, without waiting for it.

        Parameters
        ----------
        ensure_ready : bool
            Whether more calls will follow.
        """
        call = self._call
        self._call = self._new_call() if ensure_ready else None
        if call is not None and call.close():
            # Warnings that were made errors must not hide what went wrong.
            with contextlib.suppress(ClutchWarning):
                warn_of(call.report)

    def stop_call(self) -> None:
        """End the call."""
        call = self._call
        if call is not None and call.started and call.close():
            warn_of(call.report)

    def terminate(self) -> None:
        """Let go of everything but the session, which later calls reuse."""
        try:
            self.stop_call()
        finally:
            self._call = None
            self.reset_batch_stats()

    def _wanted(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return self.default_n_jobs if n_jobs is None else n_jobs

    def _slots_for(self, n_jobs: int) -> int:
        if n_jobs > 0:
            return n_jobs
        # A negative number is one of CPUs, as joblib has it: tasks that want more
        # than one are fewer.
        whole = self._settings.whole_cpus
        sessions = sessions_for(self._settings)
        if len(sessions) > 1:
            # A task runs on one agent: what is left over on each does not add up.
            return max(sum(max(one.slots // whole, 1) for one in sessions) + 1 + n_jobs, 1)
        return max((sessions[0].slots + 1 + n_jobs) // whole, 1)

    def _new_call(self) -> Call:
        dispatch = self._dispatch_one_more if self._n_jobs == -1 else None
        return Call(awaited=self._awaited, dispatch=dispatch)

    def _dispatch_one_more(self, call: Call) -> None:
        """Have joblib submit one batch more than it would of itself."""
        parallel = self.parallel
        with parallel._lock:
            goes_on = self._call is call and not getattr(parallel, "_aborting", False)
            if goes_on and getattr(parallel, "_original_iterator", None) is not None:
                parallel.dispatch_next()

    def _for_one_parallel(self, settings: Settings) -> ClutchBackend:
        clone = type(self)(
            nesting_level=self.nesting_level,
            inner_max_num_threads=self.inner_max_num_threads,
        )
        clone.default_n_jobs = self.default_n_jobs
        clone._settings = settings
        clone._serves_one_parallel = True
        return clone

    def _inner_backend(self) -> ParallelBackendBase:
        # Inside a worker the slots are taken, maybe all of them: a call that
        # waited for one could wait for ever.
        level = self.nesting_level or 0
        if level > 1:
            return SequentialBackend(nesting_level=level)
        return ThreadingBackend(nesting_level=level)

    def _drop_leftovers(self) -> None:
        # joblib never empties this queue: after a failed call, the next call of
        # the same Parallel would return the leftovers' results first.
        leftovers = getattr(self.parallel, "_ready_batches", None)
        if isinstance(leftovers, queue.Queue):
            with contextlib.suppress(queue.Empty):
                while True:
                    leftovers.get_nowait()


def _inside_worker() -> bool:
    return os.environ.get("CLUTCH_WORKER") == "1"


def _returns_a_list_without_timeout(parallel: object) -> bool:
    generates = getattr(parallel, "return_generator", True)
    return not generates and getattr(parallel, "timeout", 0) is None


def _is_default() -> bool:
    return joblib_parallel.BACKENDS.get(joblib_parallel.DEFAULT_BACKEND) is ClutchBackend
