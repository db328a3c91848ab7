"""One agent of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblib_clutch import _native
    from joblib_clutch.batch import Batch
    from joblib_clutch.payload import Payload
    from joblib_clutch.session import Session


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
    lost : bool
        Whether its loss was noticed.
    """

    __slots__ = ("leaving", "leg", "lost", "number", "session", "slots")

    def __init__(self, number: int, session: Session, slots: int) -> None:
        self.number = number
        self.session = session
        self.slots = slots
        self.leg: _native.Call | None = None
        self.leaving = False
        self.lost = False


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
