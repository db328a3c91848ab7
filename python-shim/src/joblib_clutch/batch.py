"""One submitted batch, until its one outcome has been delivered."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch._wire.clutch.v1.outcome_pb2 import BatchEnded


class BatchFuture(Future[list[Any]]):
    """What joblib gets for a batch: the list of its results, or its error."""

    def __init__(self) -> None:
        super().__init__()
        # A batch is cancelled by closing its call, never through its future.
        self.set_running_or_notify_cancel()

    def get(self, timeout: float | None = None) -> list[Any]:
        """Wait for the results, as joblib asks backends that it waits for.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait; None: as long as it takes.

        Returns
        -------
        list
            The results.
        """
        return self.result(timeout)


class Outcomes(Protocol):
    """Takes the one outcome of each batch; called by a session, never blocks."""

    def ended(self, batch: Batch, ended: BatchEnded, payload: bytes) -> None:
        """Take the outcome that the agent sent."""

    def failed(self, batch: Batch, error: Exception) -> None:
        """Take the reason why the batch never got an outcome."""


@dataclass(eq=False)
class Batch:
    """A batch on its way.

    Attributes
    ----------
    call_id : int
        Name of its call in the session.
    functions : list
        The tasks' functions, to name them in messages.
    payload : bytes
        The pickled tasks; emptied once they are sent.
    outcomes : Outcomes
        Who takes the outcome.
    callback : callable
        joblib's; called once with `future`.
    future : BatchFuture
        What joblib holds.
    batch_id : int
        Name in the session; 0 until it is submitted.
    """

    call_id: int
    functions: list[object]
    payload: bytes
    outcomes: Outcomes
    callback: Callable[[BatchFuture], object]
    future: BatchFuture = field(default_factory=BatchFuture)
    batch_id: int = 0

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.functions)
