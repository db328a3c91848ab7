"""One joblib call: its batches, their futures and callbacks."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblib_clutch.batch import Batch, BatchFuture
from joblib_clutch.copies import SpreadBlobs
from joblib_clutch.exceptions import CallCancelledError, ClutchError, QuotaExceededError
from joblib_clutch.failures import to_exception
from joblib_clutch.kept import KeptBlobs
from joblib_clutch.office import the_office
from joblib_clutch.payload import Task, TaskPickler
from joblib_clutch.profile import worker_profile
from joblib_clutch.report import Report, publish
from joblib_clutch.results import load_results, located, unreadable
from joblib_clutch.route import Link, Route, most_resubmissions
from joblib_clutch.spread import Spread
from joblib_clutch.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch import _native
    from joblib_clutch.access import Agents
    from joblib_clutch.office import Office
    from joblib_clutch.profile import WorkerProfile
    from joblib_clutch.session import Session
    from joblib_clutch.settings import Settings

_logger = logging.getLogger("joblib_clutch")


@dataclass(frozen=True)
class CallPlan:
    """What a call asks for.

    Attributes
    ----------
    settings : Settings
        The user's options.
    max_running : int
        Batches that may run at once; 0: the agent's slots.
    workers : int
        Workers among which the agent divides its cores; 0: its slots.
    nesting_level : int
        Nesting level of joblib calls made inside the tasks.
    inner_max_num_threads : int or None
        Threads that each worker's numerical libraries may use.
    """

    settings: Settings
    max_running: int
    workers: int
    nesting_level: int
    inner_max_num_threads: int | None


class Call:
    """Runs the batches of one joblib call.

    A call is started once and closed once; submitting to a closed call is
    harmless and cancels the batch.

    Parameters
    ----------
    awaited : bool
        Whether joblib waits for the futures, in the order of submission,
        rather than for callbacks with results. Then a failure is told through
        every open future, so that it is seen at once.
    dispatch : callable or None
        Has joblib submit one more batch, if there is one.

    Attributes
    ----------
    report : Report
        Where the time went.
    ran_seconds : float
        Time that the tasks of the batch completed last ran, measured by the
        worker.
    """

    def __init__(
        self, *, awaited: bool = False, dispatch: Callable[[Call], object] | None = None
    ) -> None:
        self.report = Report()
        self.ran_seconds = 0.0
        self._awaited = awaited
        self._dispatch = dispatch
        self._open: set[BatchFuture] = set()
        # Endings that were taken, in the hands of the one thread that handles any.
        self._arrived: deque[_native.Ending] = deque()
        self._pickler = TaskPickler()
        self._max_batch_bytes = 0
        self._numbers = itertools.count()
        self._route: Route | Spread | None = None
        self._spread: Spread | None = None
        self._office: Office | None = None
        # Whichever session runs it, endings come to this.
        self._native: _native.Call | None = None
        self._closed = False

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._native is not None

    def start(self, sessions: list[Session], plan: CallPlan) -> None:
        """Open the call on its agents.

        Parameters
        ----------
        sessions : list of Session
            The agents that are there.
        plan : CallPlan
            What the call asks for.
        """
        session = sessions[0]
        profile = worker_profile(plan.settings, plan.inner_max_num_threads, plan.workers)
        self._native = session.open_call(profile, plan, awaited=self._awaited)
        self._max_batch_bytes = min(one.native.max_batch_bytes for one in sessions)
        self.report = Report(self._native)
        self._office = the_office()
        agents = plan.settings.agents
        if agents is not None and agents.several:
            self._start_spread(sessions, profile, plan, agents)
            return
        blobs = KeptBlobs(
            session,
            keep=most_resubmissions(plan.settings) > 0,
            private=plan.settings.agents is None,
        )
        self._pickler = TaskPickler(blobs, plan.settings.max_nbytes, plan.settings.mmap_mode)
        link = Link(session, self._native)
        self._route = Route(link, profile, plan, blobs, self._drain)

    def _start_spread(
        self, sessions: list[Session], profile: WorkerProfile, plan: CallPlan, agents: Agents
    ) -> None:
        blobs = SpreadBlobs()
        self._pickler = TaskPickler(blobs, plan.settings.max_nbytes, plan.settings.mmap_mode)
        native = self._native
        assert native is not None  # noqa: S101 - `start` has just set it
        terms = Terms(native, profile, plan, agents)
        self._spread = Spread(terms, sessions, blobs, self._drain)
        self._route = self._spread

    def submit(self, tasks: list[Task], callback: Callable[[BatchFuture], object]) -> BatchFuture:
        """Run tasks. Never blocks, never raises.

        Parameters
        ----------
        tasks : list of (function, args, kwargs)
            The batch.
        callback : callable
            Called once with the future, on another thread or by `wait`.

        Returns
        -------
        BatchFuture
            The future.
        """
        batch = Batch(self, next(self._numbers), [task[0] for task in tasks], callback)
        future = batch.future
        route = self._route
        if route is None:
            # The callback of a call that never began is owed to nobody.
            future.set_exception(_cancelled("the call has ended"))
            return future
        self._open.add(future)
        try:
            payload = batch.payload = self._pickler.dumps(tasks)
            if len(payload.data) > self._max_batch_bytes:
                raise _too_large(len(payload.data), len(tasks), self._max_batch_bytes)
        except ClutchError as error:
            route.post(batch, error)
        else:
            route.send(batch)
        return future

    def wait(self, future: BatchFuture, timeout: float | None) -> None:
        """Handle endings until a batch is done.

        Parameters
        ----------
        future : BatchFuture
            What to wait for.
        timeout : float or None
            Seconds to wait; None: as long as it takes.

        Raises
        ------
        TimeoutError
            The time is over.
        """
        native = self._native
        if native is None:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        while not future.done:
            endings = native.take()
            if endings:
                try:
                    self.handle(endings)
                finally:
                    native.handled()
            elif deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"a batch did not end within {timeout} s")

    def handle(self, endings: list[_native.Ending]) -> None:
        """Tell joblib how batches ended. One thread at a time may call this.

        Parameters
        ----------
        endings : list
            The endings, in order.
        """
        if self._office is not None and self._office.native.output_pending:
            # What a task printed comes before its result.
            self._office.printer.flush()
        # Not lost when a callback, or a signal's handler, raises.
        self._arrived.extend(endings)
        # A list that outlives its endings would keep their results alive.
        endings.clear()
        failed: Exception | None = None
        while self._arrived:
            batch, word, *told = self._arrived.popleft()
            try:
                self._handle(batch, word, told)
            except Exception as error:  # noqa: BLE001 - raised below, not before the others
                failed = failed or error
        if failed is not None:
            raise failed

    def close(self) -> bool:
        """End the call at once, cancelling what has not ended.

        Returns
        -------
        bool
            False when it had been closed before.
        """
        if self._closed:
            return False
        self._closed = True
        # It leads back here.
        self._dispatch = None
        if self._route is not None:
            self._route.close()
            self._pickler.close()
            publish(self.report)
        return True

    def _drain(self, batch: Batch) -> None:
        """Handle endings until a batch is done, where it may be that nobody else does."""
        while not batch.future.done:
            try:
                self.wait(batch.future, None)
            except Exception:
                _logger.exception("a joblib callback failed")

    def _handle(self, batch: Batch, word: str, told: list[Any]) -> None:
        if self._spread is not None:
            ended = self._spread.arrived(batch, word, told)
            if ended is None:
                return
            batch = ended
        elif word == "LOST" and isinstance(self._route, Route) and not batch.future.done:
            batch.error = self._route.lost(batch)
            if batch.error is None:  # it will end again
                return
        self._tell(batch, word, told)
        # After the callback: what the next batches use as well stays.
        if batch.payload is not None:
            self._pickler.ended(batch.payload)
        if self._spread is not None and self._spread.more > 0 and self._dispatch is not None:
            # More agents are there than joblib knows.
            self._spread.more -= 1
            self._dispatch(self)

    def _tell(self, batch: Batch, word: str, told: list[Any]) -> None:
        future = batch.future
        if future.done:  # by the failure of another batch
            return
        self._open.discard(future)
        if word == "OK":
            self.ran_seconds, pickles, buffers, pid = told
            try:
                results = load_results(pickles, buffers, len(batch.functions), _packages(batch))
            except ClutchError as error:
                self._fail(batch, located(error, batch.functions, _host(batch), pid))
                return
            if self._awaited:
                # The callback first: it dispatches more, and joblib, once it has the
                # last result, looks only every 10 ms whether that is over.
                batch.callback(future)
                future.set_result(results)
            else:
                future.set_result(results)
                batch.callback(future)
            return
        self._fail(batch, self._error(batch, word, told))

    def _error(self, batch: Batch, word: str, told: list[Any]) -> BaseException:
        if word == "FAILED":
            self.ran_seconds, failure = told
            return to_exception(
                failure, functions=batch.functions, host=_host(batch), packages=_packages(batch)
            )
        if word == "UNREADABLE":
            self.ran_seconds, why, pid = told
            return located(unreadable(why), batch.functions, _host(batch), pid)
        if word in ("POSTED", "LOST") and batch.error is not None:
            return batch.error
        return _cancelled("the call ended before the batch was sent")

    def _fail(self, batch: Batch, error: BaseException) -> None:
        batch.future.set_exception(error)
        if not self._awaited:
            batch.callback(batch.future)
            return
        failed, self._open = self._open, set()
        for future in failed:
            future.set_exception(error)


def _host(batch: Batch) -> str:
    return "" if batch.session is None else batch.session.host


def _packages(batch: Batch) -> dict[str, str]:
    return {} if batch.session is None else batch.session.packages


def _cancelled(why: str) -> CallCancelledError:
    return CallCancelledError(why, kind="CANCELLED", fault="NOBODY")


def _too_large(size: int, tasks: int, most: int) -> QuotaExceededError:
    return QuotaExceededError(
        f"a batch of {tasks} tasks pickles to {size} bytes, and the agent takes at most {most}",
        kind="QUOTA_EXCEEDED",
        fault="DRIVER",
        advice="pass smaller arguments, or a smaller batch_size",
    )
