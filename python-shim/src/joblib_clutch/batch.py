"""One submitted batch, until its one ending has been handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.call import Call
    from joblib_clutch.member import Member, Twin
    from joblib_clutch.session import Session


class BatchFuture:
    """What joblib gets for a batch: the list of its results, or its error.

    Parameters
    ----------
    call : Call
        The batch's call.

    Attributes
    ----------
    done : bool
        Whether the results, or the error, are there.
    """

    __slots__ = ("_call", "_error", "_results", "done")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._results: list[Any] = []
        self._error: BaseException | None = None
        self.done = False

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

        Raises
        ------
        TimeoutError
            The time is over.
        """
        if not self.done:
            self._call.wait(self, timeout)
        return self.result()

    def result(self) -> list[Any]:
        """Give the results of a batch that is done, or raise its error.

        Returns
        -------
        list
            The results.
        """
        if self._error is not None:
            raise self._error
        return self._results

    def set_result(self, results: list[Any]) -> None:
        """End well.

        Parameters
        ----------
        results : list
            The results.
        """
        self._results = results
        self.done = True

    def set_exception(self, error: BaseException) -> None:
        """End badly; the first ending counts.

        Parameters
        ----------
        error : BaseException
            What joblib is to raise.
        """
        if not self.done:
            self._error = error
            self.done = True


class Batch:
    """A batch on its way.

    Parameters
    ----------
    call : Call
        Its call.
    number : int
        Grows in the order of submission.
    functions : list
        The tasks' functions, to name them in messages.
    callback : callable
        joblib's; called once with `future`.

    Attributes
    ----------
    future : BatchFuture
        What joblib holds.
    payload : Payload or None
        What was sent, until it ended.
    attempts : int
        How often it was sent.
    losses : list of str
        How the agents were lost that had it.
    session : Session or None
        Where it was sent last.
    member : Member or None
        The same among several agents; None: nowhere.
    twin : Twin or None
        A second copy of it at another agent.
    error : Exception or None
        Why it was never sent, or not again.
    """

    __slots__ = (
        "attempts",
        "call",
        "callback",
        "error",
        "functions",
        "future",
        "losses",
        "member",
        "number",
        "payload",
        "session",
        "twin",
    )

    def __init__(
        self,
        call: Call,
        number: int,
        functions: list[object],
        callback: Callable[[BatchFuture], object],
    ) -> None:
        self.call = call
        self.number = number
        self.functions = functions
        self.callback = callback
        self.future = BatchFuture(call)
        self.payload: Any = None
        self.attempts = 0
        self.losses: list[str] = []
        self.session: Session | None = None
        self.member: Member | None = None
        self.twin: Twin | None = None
        self.error: Exception | None = None
