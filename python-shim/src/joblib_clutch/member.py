"""One agent of a call."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblib_clutch import _native
    from joblib_clutch.batch import Batch
    from joblib_clutch.payload import Payload
    from joblib_clutch.session import Session
    from joblib_clutch.terms import Terms


class Member:
    """One session that runs batches of a call.

    Attributes
    ----------
    number : int
        Its name in the placement.
    session : Session
        The session.
    leg : _native.Call or None
        The call there; None: not opened yet, or closed.
    slots : int
        Batches of the call that it may run at once, as the placement was told.
    leaving : bool
        Whether it takes no more batches.
    away : bool
        Whether its connection broke and is not restored yet: it gets nothing new.
    lost : bool
        Whether its loss was noticed.
    """

    __slots__ = ("_opening", "away", "leaving", "leg", "lost", "number", "session", "slots")

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session
        self.slots = 0
        self.leg: _native.Call | None = None
        self.leaving = self.away = self.lost = False
        self._opening = threading.Lock()

    def open(self, terms: Terms) -> _native.Call:
        """Give the call there, opened when it is not.

        That may take as long as sending the driver's code does.
        """
        with self._opening:
            leg = self.leg
            if leg is None:
                leg = self.leg = terms.open_on(self.session)
            return leg


class Twin:
    """A second copy of a batch, at another agent.

    Attributes
    ----------
    batch : Batch
        The batch.
    member : Member
        Who has the copy.
    leg : _native.Call or None
        A call of its own, so that it can be cancelled alone.
    call : Call
        Handles its ending.
    """

    __slots__ = ("batch", "call", "leg", "member")

    def __init__(self, batch: Batch, member: Member) -> None:
        self.batch = batch
        self.call = batch.call
        self.member = member
        self.leg: _native.Call | None = None

    @property
    def payload(self) -> Payload:
        """The batch's own."""
        payload: Payload = self.batch.payload
        return payload
