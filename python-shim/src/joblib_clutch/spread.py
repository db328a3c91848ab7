"""Where the batches of one call go when there are several agents."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from joblib_clutch import _native
from joblib_clutch.connections import in_background
from joblib_clutch.exceptions import ClutchError
from joblib_clutch.late import LateBatches
from joblib_clutch.losses import all_drain, away, cancelled, none_took_its_place, tell, worn_out
from joblib_clutch.lost import SessionLostError
from joblib_clutch.member import Member, Twin
from joblib_clutch.roster import roster_for, unwatch, watch
from joblib_clutch.route import most_resubmissions

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.batch import Batch
    from joblib_clutch.copies import SpreadBlobs
    from joblib_clutch.session import Session
    from joblib_clutch.terms import Terms

# How often the addresses are read again.
_READ_SECONDS = 1.0
# How long a call waits for an agent when none is left that takes batches.
_SEARCH_SECONDS = 5.0

_logger = logging.getLogger("joblib_clutch")
_Decisions = list[tuple[int, int, bool]]


class Spread:
    """Sends the batches of one call to several agents, and again when one is lost.

    Which agent gets a batch is decided by `_native.Placement`; this performs it.
    Agents may come and go. Never blocks those who submit: what takes long is done on
    threads of its own.

    Parameters
    ----------
    terms : Terms
        The call.
    sessions : list of Session
        The agents that are there; on the first of them it is open.
    blobs : SpreadBlobs
        The large arguments of the call.
    drain : callable
        Handles endings of the call until a batch has had its own.

    Attributes
    ----------
    more : int
        Batches that joblib may submit beyond what it was told at first.
    """

    def __init__(
        self,
        terms: Terms,
        sessions: list[Session],
        blobs: SpreadBlobs,
        drain: Callable[[Batch], object],
    ) -> None:
        self._terms = terms
        self._native, self._agents = terms.native, terms.agents
        self._blobs = blobs
        self._drain: Callable[[Batch], object] | None = drain
        settings = terms.plan.settings
        self._most = most_resubmissions(settings)
        self._roster = roster_for(self._agents, settings.lease)
        speculative = settings.speculative and self._most > 0
        self._placement = _native.Placement(terms.plan.max_running, speculative)
        # Reentrant, as for `Session`.
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._members: dict[int, Member] = {}
        self._of: dict[Session, Member] = {}
        # All that have no outcome yet.
        self._batches: dict[int, Batch] = {}
        self._late = LateBatches()
        self._closed = threading.Event()
        self._searching = False
        self._read_at = self._nobody_since = time.monotonic()
        self._known = tuple(session.address for session in sessions)
        # The members that are there, for those who hold no lock.
        self._alive: list[Member] = []
        blobs.sessions = lambda: self.sessions
        blobs.released = self._dropped
        blobs.held = self._held
        self.more = 0
        for session in sessions:
            self._join(session, self._native if session is sessions[0] else None)
        self.more = 0
        watch(self)

    @property
    def sessions(self) -> list[Session]:
        """The agents that are there."""
        return [member.session for member in self._alive]

    def send(self, batch: Batch) -> None:
        """Send a pickled batch. Never blocks, never raises; fails by an ending.

        Parameters
        ----------
        batch : Batch
            The batch.
        """
        needs = self._blobs.needs(batch.payload)
        with self._lock:
            closed = self._closed.is_set()
            decisions: _Decisions = []
            if not closed:
                self._batches[batch.number] = batch
                decisions = self._placement.submitted(batch.number, needs)
        if closed:
            self.post(batch, cancelled())
        elif decisions:
            self._perform(decisions)
        elif not self._alive:
            self._search_soon()

    def post(self, batch: Batch, error: Exception) -> None:
        """End a batch that is nowhere."""
        batch.error = error
        self._native.post(batch)

    def arrived(self, token: Batch | Twin, word: str, told: list[Any]) -> Batch | None:
        """Take in an ending of a batch, or of a copy of one.

        Parameters
        ----------
        token : Batch or Twin
            What ended.
        word, told : str, list
            How; see `_native.Ending`.

        Returns
        -------
        Batch or None
            The batch, when that is its end.
        """
        twin = token if isinstance(token, Twin) else None
        batch = token.batch if isinstance(token, Twin) else token
        member = twin.member if twin is not None else batch.member
        if member is None:  # it was posted before it went anywhere
            self._batches.pop(batch.number, None)
            return batch
        if word == "LOST":
            self._lose(member)
        if batch.number not in self._batches:
            # The other copy was first.
            self._perform(self._placement.ended(member.number, batch.number, None))
            return None
        if self._goes_on(token, batch, member, word, told):
            return None
        with self._lock:
            self._batches.pop(batch.number, None)
            other, batch.twin = batch.twin, None
        if other is not None:
            self._cancel_other(batch, other, twin)
        batch.session = member.session
        ran = told[0] if word in ("OK", "FAILED", "UNREADABLE") else None
        self._perform(self._placement.ended(member.number, batch.number, ran))
        return batch

    def close(self) -> None:
        """Cancel what has not ended; nothing is sent any more."""
        unwatch(self)
        with self._lock:
            self._closed.set()
            waiting = self._placement.take_waiting()
            batches = [self._batches[number] for number in waiting if number in self._batches]
            members = list(self._members.values())
            twins = [batch.twin for batch in self._batches.values() if batch.twin is not None]
            # They lead back to the call, which is to go without the collector.
            self._blobs.sessions = list
            self._blobs.released = self._blobs.held = None
            if not self._searching:
                self._drain = None
        self._native.close()
        for leg in [member.leg for member in members] + [twin.leg for twin in twins]:
            if leg is not None:
                leg.leave()
        for batch in batches:
            batch.member = None
            self.post(batch, cancelled())

    def tick(self) -> None:
        """Look around: agents may have come or gone."""
        if self._closed.is_set():
            return
        for member in self._alive:
            if not member.session.alive:
                self._lose(member)
            else:
                self._resize(member)
        now = time.monotonic()
        if now - self._read_at >= _READ_SECONDS:
            self._read_at = now
            self._look()
        if self._has_nobody():
            if now - self._nobody_since > _SEARCH_SECONDS:
                self._end_waiting(all_drain(self._alive[0].session))
        else:
            self._nobody_since = now
        self._perform(self._placement.tick())

    def _has_nobody(self) -> bool:
        """Tell whether batches wait for agents that take no more and run nothing."""
        alive, waiting = self._alive, self._placement.waiting
        if not alive or not waiting or any(one.slots or one.away for one in alive):
            return False
        return waiting == len(self._batches)

    # --- batches ------------------------------------------------------------------

    def _perform(self, decisions: _Decisions) -> None:
        todo = deque(decisions)
        while todo:
            number, place, copy = todo.popleft()
            with self._lock:
                batch, member = self._batches.get(number), self._members[place]
                if batch is None or (copy and batch.member is None):
                    todo.extend(self._placement.returned(place, number))
                    continue
                token: Batch | Twin = batch
                if copy:
                    token = batch.twin = Twin(batch, member)
                else:
                    batch.member, batch.session = member, member.session
                    batch.attempts += 1
                late = self._blobs.missing(member.session, batch.payload) > 0 or (
                    member.leg is None and self._terms.takes_long(member.session)
                )
            if late:
                self._late.put(member, token, self._submit_late)
            else:
                todo.extend(self._submit(member, token))

    def _submit(self, member: Member, token: Batch | Twin) -> _Decisions:
        """Send a batch; it comes back in the decisions when its agent is lost."""
        batch = token.batch if isinstance(token, Twin) else token
        payload, session = batch.payload, member.session
        buffers, shared = payload.buffers, payload.shared
        try:
            if buffers or shared:
                uses = self._blobs.uses
                buffers = uses(session, buffers)
                shared = [
                    (self._blobs.name(session, pickle), uses(session, parts))
                    for pickle, parts in shared
                ]
            if isinstance(token, Twin):
                leg = token.leg = self._terms.open_on(session)
            else:
                leg = member.open(self._terms)
            if self._closed.is_set():
                leg.leave()
            if leg.submit(
                token,
                batch.number,
                len(batch.functions),
                payload.data,
                buffers,
                shared,
                batch.losses,
                copy=token is not batch,
            ):
                return []
        except SessionLostError:
            pass
        except Exception as error:  # noqa: BLE001 - joblib would hang
            if token is batch:
                self.post(batch, error)
                return []
            with self._lock:
                batch.twin = None
            return self._placement.returned(member.number, batch.number)
        self._lose(member)
        with self._lock:
            if token is batch:
                batch.attempts -= 1
            else:
                batch.twin = None
        return self._placement.returned(member.number, batch.number)

    def _submit_late(self, member: Member, token: Batch | Twin) -> None:
        size = self._blobs.missing(member.session, token.payload)
        begin = time.monotonic()
        decisions = self._submit(member, token)
        if size and not member.lost:
            seconds = time.monotonic() - begin
            decisions += self._placement.moved(member.number, size, seconds)
        self._perform(decisions)

    def _goes_on(
        self, token: Batch | Twin, batch: Batch, member: Member, word: str, told: list[Any]
    ) -> bool:
        """Tell whether a batch goes on, here or elsewhere, after what an agent said."""
        if self._closed.is_set() or word in ("OK", "UNREADABLE", "POSTED"):
            return False
        kind = told[1]["kind"] if word == "FAILED" else word
        if token is not batch:
            # A copy that fails for another reason than its task proves nothing.
            if kind == "TASK_RAISED":
                return False
            with self._lock:
                batch.twin = None
        elif not self._may_go_on(batch, member, kind, told):
            return False
        self._perform(self._placement.returned(member.number, batch.number))
        if not self._alive:
            self._search_soon()
        return True

    def _may_go_on(self, batch: Batch, member: Member, kind: str, told: list[Any]) -> bool:
        if kind == "WITHDRAWN":
            batch.attempts -= 1
            return True
        if kind == "LOST":
            batch.losses.append(f"the agent was lost: {member.session.how()}")
            with self._lock:
                if batch.twin is None:
                    batch.error = self._final(batch, member)
            return batch.error is None
        if kind == "AGENT_DRAINING" and self._leaves(member):
            if told[1]["attempt"] == 0:
                batch.attempts -= 1
                return True
            # It was killed at the end of the agent's patience.
            return batch.attempts <= self._most
        return False

    def _final(self, batch: Batch, member: Member) -> ClutchError | None:
        """Tell why a batch is not sent again that was lost with its agent."""
        if self._most == 0 or member.session.ended:
            return member.session.lost_error()
        return worn_out(batch, member.session) if batch.attempts > self._most else None

    def _cancel_other(self, batch: Batch, other: Twin, winner: Twin | None) -> None:
        if winner is None:
            if other.leg is not None:
                other.leg.leave()
            return
        # The call itself is all that can be ended there.
        first = batch.member
        with self._lock:
            busy = any(open_.member is first for open_ in self._batches.values())
            if first is None or busy or first.leg is None:
                return
            leg, first.leg = first.leg, None
        leg.leave()

    # --- agents -------------------------------------------------------------------

    def _join(self, session: Session, leg: _native.Call | None = None) -> None:
        with self._lock:
            if self._closed.is_set() or session in self._of:
                return
            room, member = self._terms.room(session), Member(next(self._numbers), session)
            member.leg, member.away = leg, not session.attached
            member.slots = 0 if member.away else room
            self._of[session] = self._members[member.number] = member
            self._alive = [*self._alive, member]
            self.more += 2 * room
            decisions = self._placement.joined(member.number, member.slots)
        self._perform(decisions)

    def _addresses(self) -> tuple[str, ...]:
        # Somebody may be about to write the access file.
        with contextlib.suppress(ClutchError):
            self._known = self._agents.now()
        return self._known

    def _look(self) -> None:
        sessions = self._roster.look(self._addresses())
        for session in sessions:
            if session not in self._of and self._blobs.may_join(session):
                _logger.info("the agent at %s takes part in a call that runs", session.address)
                self._join(session)
        for member in self._alive:
            if member.session not in sessions and member.session.alive:
                # Its address was taken away.
                self._leaves(member)

    def _resize(self, member: Member) -> None:
        if member.away == member.session.attached:
            member.away = not member.away
            if member.away:
                with self._lock:
                    had = sum(batch.member is member for batch in self._batches.values())
                away(member.session, had)
        # What waits may go elsewhere, what it has may not: it runs there.
        taking = not (member.leaving or member.away)
        slots = self._terms.room(member.session) if taking else 0
        if slots != member.slots:
            member.slots = slots
            self._perform(self._placement.slots_are(member.number, slots))

    def _leaves(self, member: Member) -> bool:
        """Give a member no more; tell whether there are others."""
        with self._lock:
            member.leaving = True
            others = any(not other.leaving for other in self._alive)
        self._resize(member)
        return others

    def _lose(self, member: Member) -> None:
        with self._lock:
            if member.lost:
                return
            member.lost = True
            self._alive = [other for other in self._alive if other is not member]
            had = sum(batch.member is member for batch in self._batches.values())
            others = len(self._alive)
        if member.session.alive:
            # A result could not be fetched.
            member.session.lose("its data line broke")
        self._blobs.forget(member.session)
        if self._most > 0 and not member.session.ended and not self._closed.is_set():
            tell(member.session, had, others)
        self._perform(self._placement.lost(member.number))
        if not others and self._batches:
            self._search_soon()

    def _held(self, session: Session, blob_ids: list[int]) -> None:
        member = self._of.get(session)
        if member is not None:
            self._perform(self._placement.holds(member.number, blob_ids))

    def _dropped(self, blob_ids: list[int]) -> None:
        self._perform(self._placement.dropped(blob_ids))

    # --- on a thread of its own -----------------------------------------------------

    def _search_soon(self) -> None:
        with self._lock:
            if self._searching or self._alive or self._closed.is_set():
                return
            self._searching = True
        try:
            in_background(self._search, "clutch-reconnect")
        except RuntimeError as error:  # no thread to be had
            self._give_up(error, 0)

    def _search(self) -> None:
        begin = time.monotonic()
        error: Exception = cancelled()
        while not self._closed.is_set():
            addresses = self._addresses()
            try:
                self._roster.open(addresses)
            except Exception as failed:  # noqa: BLE001 - whatever it is, batches end of it
                error = failed
            self._look()
            if self._alive:
                break
            if time.monotonic() - begin > _SEARCH_SECONDS or self._closed.wait(0.3):
                break
        given_up: list[Batch] = []
        if not self._alive:
            given_up = self._give_up(error, time.monotonic() - begin)
        drain = self._drain
        # Whoever handled the endings may be gone.
        for batch in given_up:
            if drain is not None:
                drain(batch)
        with self._lock:
            self._searching = False
            if self._closed.is_set():
                self._drain = None
        if not given_up and self._placement.waiting:
            self._search_soon()

    def _give_up(self, error: Exception, seconds: float) -> list[Batch]:
        if self._closed.is_set():
            return self._end_waiting(cancelled())
        lost = max(self._members.values(), key=lambda member: member.number).session
        return self._end_waiting(none_took_its_place(lost, error, seconds))

    def _end_waiting(self, reason: ClutchError) -> list[Batch]:
        with self._lock:
            waiting = self._placement.take_waiting()
            batches = [self._batches[number] for number in waiting if number in self._batches]
        for batch in batches:
            batch.member = None
            self.post(batch, reason)
        return batches
