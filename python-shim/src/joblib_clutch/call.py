"""One joblib call: its batches, their futures and callbacks."""

from __future__ import annotations

import functools
import pickle
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joblib_clutch.batch import Batch, BatchFuture
from joblib_clutch.courier import Courier
from joblib_clutch.exceptions import (
    CallCancelledError,
    ClutchError,
    InternalError,
    ResultUnpickleError,
)
from joblib_clutch.failures import function_name, kind_name, to_exception
from joblib_clutch.payload import Task, TaskPickler
from joblib_clutch.profile import worker_profile
from joblib_clutch.report import Report, publish, row_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch._wire.clutch.v1.outcome_pb2 import BatchEnded
    from joblib_clutch.session import Session
    from joblib_clutch.settings import Settings

_NANO = 1e-9


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
    """Runs the batches of one joblib call on one session.

    A call is started once and closed once; submitting to a closed call is
    harmless and cancels the batch.

    Parameters
    ----------
    awaited : bool
        Whether joblib waits for the futures, in the order of submission,
        rather than for callbacks with results. Then a failure is told through
        every open future, so that it is seen at once.

    Attributes
    ----------
    report : Report
        Where the time went.
    ran_seconds : float
        Time that the tasks of the batch completed last ran, measured by the
        worker.
    """

    def __init__(self, *, awaited: bool = False) -> None:
        self.report = Report()
        self.ran_seconds = 0.0
        self._awaited = awaited
        self._open: set[BatchFuture] = set()
        self._pickler = TaskPickler()
        self._courier = Courier("clutch-callbacks")
        # Reentrant for the same reason as the session's.
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._call_id = 0
        self._closed = False

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._session is not None

    def start(self, session: Session, plan: CallPlan) -> None:
        """Open the call on the agent.

        Parameters
        ----------
        session : Session
            The agent.
        plan : CallPlan
            What the call asks for.
        """
        profile = worker_profile(plan.settings, plan.inner_max_num_threads, plan.workers)
        self._call_id = session.open_call(
            profile,
            max_running=plan.max_running,
            nesting_level=plan.nesting_level,
            task_timeout_seconds=plan.settings.task_timeout or 0.0,
        )
        self._session = session

    def submit(self, tasks: list[Task], callback: Callable[[BatchFuture], object]) -> BatchFuture:
        """Run tasks. Never blocks, never raises.

        Parameters
        ----------
        tasks : list of (function, args, kwargs)
            The batch.
        callback : callable
            Called once with the future, on another thread.

        Returns
        -------
        BatchFuture
            The future.
        """
        session = self._session
        batch = Batch(
            call_id=self._call_id,
            functions=[function for function, _, _ in tasks],
            payload=b"",
            outcomes=self,
            callback=callback,
        )
        with self._lock:
            self._open.add(batch.future)
        try:
            batch.payload = self._pickler.dumps(tasks)
        except ClutchError as error:
            self.failed(batch, error)
            return batch.future
        # The lock keeps a batch from entering the session after its call's end.
        with self._lock:
            if session is not None and not self._closed:
                session.submit(batch)
                return batch.future
        late = CallCancelledError("the call has ended", kind="CANCELLED", fault="NOBODY")
        self.failed(batch, late)
        return batch.future

    def close(self) -> None:
        """End the call at once, cancelling what has not ended."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._session is not None:
            self._session.close_call(self._call_id)
            publish(self.report)
        self._courier.close()

    def ended(self, batch: Batch, ended: BatchEnded, payload: bytes) -> None:
        """Deliver what the agent said; see `Outcomes`."""
        self._courier.post(functools.partial(self._deliver, batch, ended, payload))

    def failed(self, batch: Batch, error: Exception) -> None:
        """Deliver a failure of our own; see `Outcomes`."""
        self._courier.post(functools.partial(self._complete, batch, error))

    def _deliver(self, batch: Batch, ended: BatchEnded, payload: bytes) -> None:
        host = self._session.host if self._session is not None else ""
        self.ran_seconds = sum(ended.timings.task_nanoseconds) * _NANO
        outcome: list[object] | BaseException
        if ended.HasField("failure"):
            kind = kind_name(ended.failure.kind)
            outcome = to_exception(
                ended.failure,
                functions=batch.functions,
                host=host,
                pid=ended.worker_pid,
            )
        else:
            kind = "OK"
            outcome = _results(batch, ended, payload, host)
        self.report.add(row_of(ended, tasks=batch.tasks, host=host, outcome=kind))
        self._complete(batch, outcome)

    def _complete(self, batch: Batch, outcome: list[object] | BaseException) -> None:
        """Tell joblib, through the future and the callback."""
        with self._lock:
            self._open.discard(batch.future)
        if batch.future.done():  # by the failure of another batch
            return
        if isinstance(outcome, BaseException):
            batch.future.set_exception(outcome)
            if self._awaited:
                self._fail_open(outcome)
            else:
                batch.callback(batch.future)
        elif self._awaited:
            # The callback first: it dispatches more, and joblib, once it has the
            # last result, looks only every 10 ms whether that is over.
            batch.callback(batch.future)
            batch.future.set_result(outcome)
        else:
            batch.future.set_result(outcome)
            batch.callback(batch.future)

    def _fail_open(self, error: BaseException) -> None:
        with self._lock:
            failed, self._open = self._open, set()
        for future in failed:
            future.set_exception(error)


def _results(
    batch: Batch, ended: BatchEnded, payload: bytes, host: str
) -> list[object] | BaseException:
    try:
        results = pickle.loads(payload)
    except BaseException as cause:  # noqa: BLE001 - unpickling runs the user's code
        error = ResultUnpickleError(
            f"the driver could not unpickle a result: {type(cause).__name__}: {cause}",
            kind="RESULT_UNREADABLE",
            fault="TASK",
            advice="make sure that the result's module can be imported by the driver",
            function=function_name(batch.functions, None),
            host=host,
            pid=ended.worker_pid,
        )
        error.__cause__ = cause
        return error
    if not isinstance(results, list) or len(results) != batch.tasks:
        return InternalError(
            f"the worker did not return {batch.tasks} results",
            kind="INTERNAL",
            fault="AGENT",
            host=host,
            pid=ended.worker_pid,
        )
    return results
