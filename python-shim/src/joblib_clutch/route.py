"""Where the batches of one call go: to an agent, and to another when that is lost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from joblib_clutch.connections import in_background, session_again
from joblib_clutch.losses import cancelled, none_took_its_place, warn, worn_out
from joblib_clutch.lost import SessionLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch import _native
    from joblib_clutch.batch import Batch
    from joblib_clutch.call import CallPlan
    from joblib_clutch.exceptions import ClutchError
    from joblib_clutch.kept import KeptBlobs
    from joblib_clutch.profile import WorkerProfile
    from joblib_clutch.session import Session
    from joblib_clutch.settings import Settings

# How often a batch is sent again where the user does not say.
DEFAULT_RETRIES = 2


class Link(NamedTuple):
    """A call on one session."""

    session: Session
    native: _native.Call


class Route:
    """Sends the batches of one call, and again those that a lost agent had.

    The same bytes go out again: what the user's objects hold by then may be
    something else. What waits for an agent is bounded by what joblib submits
    while no batch ends. A thread of its own looks for the agent, so whoever
    submits or waits is never held up.

    Parameters
    ----------
    link : Link
        Where batches go first.
    profile : WorkerProfile
        The workers that run them.
    plan : CallPlan
        What the call asks for, and of which agent.
    blobs : KeptBlobs
        The large arguments of the call.
    drain : callable
        Handles endings of the call until a batch has had its own.
    """

    def __init__(
        self,
        link: Link,
        profile: WorkerProfile,
        plan: CallPlan,
        blobs: KeptBlobs,
        drain: Callable[[Batch], object],
    ) -> None:
        self._link = link
        self._profile = profile
        self._settings = plan.settings
        self._blobs = blobs
        self._drain: Callable[[Batch], object] | None = drain
        self._most = most_resubmissions(plan.settings)
        self._max_running = plan.max_running
        # Reentrant, as for `Session`.
        self._lock = threading.RLock()
        self._waiting: list[Batch] = []
        self._searching = False
        self._closed = threading.Event()
        # The session whose loss the user was told of.
        self._told: Session | None = None

    @property
    def session(self) -> Session:
        """Where batches go now."""
        return self._link.session

    def send(self, batch: Batch) -> None:
        """Send a pickled batch. Never blocks, never raises; fails by an ending.

        Parameters
        ----------
        batch : Batch
            The batch.
        """
        link = self._link
        # Before: it may be lost, and sent again by another thread, before we are back.
        batch.attempts += 1
        try:
            sent = self._submit(link, batch)
        except Exception as error:  # noqa: BLE001 - joblib would hang
            _post(link, batch, error)
            return
        if sent:
            return
        batch.attempts -= 1
        if self._most == 0:
            _post(link, batch, link.session.lost_error())
        else:
            self._wait(batch)

    def lost(self, batch: Batch) -> ClutchError | None:
        """Take back a batch whose agent was lost.

        Parameters
        ----------
        batch : Batch
            The batch.

        Returns
        -------
        ClutchError or None
            Why it is not sent again; None: it is.
        """
        session = batch.session or self._link.session
        if session.alive:
            # Its result could not be fetched.
            session.lose("its data line broke")
        if self._most == 0 or session.ended:
            return session.lost_error()
        if batch.attempts > self._most:
            return worn_out(batch, session)
        self._wait(batch)
        return None

    def post(self, batch: Batch, error: Exception) -> None:
        """End a batch that was never sent."""
        _post(self._link, batch, error)

    def close(self) -> None:
        """Cancel what has not ended; nothing is sent any more."""
        with self._lock:
            self._closed.set()
            link = self._link
            if not self._searching:
                # It leads back to the call, which is to go without the collector.
                self._drain = None
        # What waits is ended by the thread that searches.
        link.native.close()

    def _submit(self, link: Link, batch: Batch) -> bool:
        payload = batch.payload
        batch.session = link.session
        buffers, shared = payload.buffers, payload.shared
        try:
            if buffers or shared:
                uses = self._blobs.uses
                buffers = uses(link.session, buffers)
                shared = [
                    (self._blobs.name(link.session, pickle), uses(link.session, parts))
                    for pickle, parts in shared
                ]
        except SessionLostError:
            return False
        sent = link.native.submit(
            batch, batch.number, len(batch.functions), payload.data, buffers, shared, batch.losses
        )
        if self._most == 0:
            # Sent from where it is; kept no longer than that takes.
            payload.data = b""
        return sent

    def _wait(self, batch: Batch) -> None:
        with self._lock:
            closed = self._closed.is_set()
            if not closed:
                self._waiting.append(batch)
            start = not (closed or self._searching)
            self._searching |= start
        if closed:
            _post(self._link, batch, cancelled())
        elif start:
            try:
                in_background(self._search, "clutch-reconnect")
            except RuntimeError as error:  # no thread to be had
                self._give_up(self._link.session, error, 0)

    # --- on a thread of its own ---------------------------------------------------

    def _search(self) -> None:
        begin = time.monotonic()
        while True:
            lost = self._link.session
            try:
                link = self._found(lost)
            except Exception as error:  # noqa: BLE001 - whatever it is, batches end of it
                self._end(self._give_up(lost, error, time.monotonic() - begin))
                return
            if link is None:
                self._end(self._give_up(lost, cancelled(), 0))
                return
            if self._sent_again(link, lost):
                self._end([])
                return

    def _end(self, given_up: list[Batch]) -> None:
        # Whoever handled the endings of the lost session may be gone.
        drain = self._drain
        if drain is not None:
            for batch in given_up:
                drain(batch)
        with self._lock:
            if self._closed.is_set():
                self._drain = None

    def _found(self, lost: Session) -> Link | None:
        """Find an agent to go on with; None when the call is over."""
        if lost.alive:
            return self._link
        session = session_again(self._settings, self._closed)
        with self._lock:
            if self._closed.is_set():
                return None
            native = session.join_call(self._link.native, self._profile, self._max_running)
            self._link = Link(session, native)
            self._blobs.follow(session)
            return self._link

    def _sent_again(self, link: Link, lost: Session) -> bool:
        """Send what waits; tell whether nothing is left that does."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._tell(lost, link.session, sum(batch.attempts > 0 for batch in waiting))
        # The agent forgets the order, and joblib's caller waits in it.
        for batch in sorted(waiting, key=lambda batch: batch.number):
            self._send_again(link, batch)
        with self._lock:
            if self._waiting:
                return False
            self._searching = False
            return True

    def _send_again(self, link: Link, batch: Batch) -> None:
        if batch.future.done:  # by the failure of another batch
            _post(link, batch, cancelled())
            return
        try:
            if batch.attempts > 0 and batch.session is not None:
                batch.losses.append(f"the agent was lost: {batch.session.how()}")
            # Counted whether it gets there or not: an agent may be lost at once each time.
            batch.attempts += 1
            sent = self._submit(link, batch)
        except Exception as error:  # noqa: BLE001 - as above
            _post(link, batch, error)
            return
        if sent:
            return
        if batch.attempts > self._most:
            _post(link, batch, worn_out(batch, link.session))
            return
        with self._lock:
            closed = self._closed.is_set()
            if not closed:
                self._waiting.append(batch)
        if closed:
            _post(link, batch, cancelled())

    def _give_up(self, lost: Session, error: Exception, seconds: float) -> list[Batch]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._searching = False
        if self._closed.is_set():
            for batch in waiting:
                _post(self._link, batch, cancelled())
            return waiting
        reason = none_took_its_place(lost, error, seconds)
        for batch in waiting:
            _post(self._link, batch, reason)
        return waiting

    def _tell(self, lost: Session, session: Session, batches: int) -> None:
        if batches == 0 or session is lost or self._told is lost:
            return
        self._told = lost
        count = "1 batch is" if batches == 1 else f"{batches} batches are"
        where = "a new one" if self._settings.agents is None else f"the one at {session.address}"
        text = f"the agent was lost ({lost.how()}); {count} run again on {where}"
        warn(text)


def most_resubmissions(settings: Settings) -> int:
    """Tell how often one batch may be sent again.

    Parameters
    ----------
    settings : Settings
        The call's settings.

    Returns
    -------
    int
        At least 0.
    """
    return DEFAULT_RETRIES if settings.retries is None else settings.retries


def _post(link: Link, batch: Batch, error: Exception) -> None:
    batch.error = error
    link.native.post(batch)
