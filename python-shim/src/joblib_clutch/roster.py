"""Sessions on several agents: those that are there, and those that are looked for."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import warnings
from typing import TYPE_CHECKING, Protocol

from joblib_clutch.access import Agents
from joblib_clutch.connections import connection_for, in_background, session_for
from joblib_clutch.exceptions import (
    AccessDeniedError,
    AgentUnavailableError,
    ClutchError,
    ClutchWarning,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joblib_clutch.session import Session
    from joblib_clutch.settings import Lease, Settings

# How long a call waits at its start for agents that do not answer, once one has.
_PATIENCE_SECONDS = 5.0
# How long to wait before an agent is tried again that was not there: at first, and
# at most.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
# How many agents are connected to at the same time.
_MOST_CONNECTING = 16
# How often those who watch are told to look.
_TICK_SECONDS = 0.25

_logger = logging.getLogger("joblib_clutch")


class Watcher(Protocol):
    """Is told from time to time to look around."""

    def tick(self) -> None:
        """Look. Never raises."""


class _Entry:
    """What is known of one agent."""

    __slots__ = ("error", "next_try", "pause", "session", "told", "trying")

    def __init__(self) -> None:
        self.session: Session | None = None
        self.error: Exception | None = None
        self.trying = False
        self.next_try = 0.0
        self.pause = _FIRST_PAUSE_SECONDS
        # The user was told that it is not there.
        self.told = False

    @property
    def alive(self) -> bool:
        return self.session is not None and self.session.alive


class Roster:
    """The sessions on agents, by address. Safe to use from any thread.

    Parameters
    ----------
    access : str or None
        Path of the access file that agents on TCP ask for.
    lease : Lease
        What the sessions ask them for.
    """

    def __init__(self, access: str | None, lease: Lease) -> None:
        self._agents = Agents(access=access)
        self._lease = lease
        self._entries: dict[str, _Entry] = {}
        # Reentrant, as for `Session`.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[str] = []
        self._connecting = 0

    def look(self, addresses: Sequence[str]) -> list[Session]:
        """Give the sessions that are there, and look for the others in the background.

        Parameters
        ----------
        addresses : sequence of str
            The agents.

        Returns
        -------
        list of Session
            Those that were alive a moment ago, in the order of their addresses.
        """
        with self._changed:
            entries = [self._entry(address) for address in addresses]
            self._try_missing(addresses)
            return [entry.session for entry in entries if entry.session and entry.alive]

    def open(self, addresses: Sequence[str]) -> list[Session]:
        """Give the sessions that are there; waits for agents that were not tried yet.

        Parameters
        ----------
        addresses : sequence of str
            The agents.

        Returns
        -------
        list of Session
            At least one that was alive a moment ago; last, those that cannot be reached.

        Raises
        ------
        ClutchError
            No agent is there.

        Warns
        -----
        ClutchWarning
            Some are not.
        """
        if not addresses:
            raise AgentUnavailableError(
                "there is no agent to run on: the list of their addresses is empty",
                kind="AGENT_UNAVAILABLE",
                fault="DRIVER",
                advice="give the address of at least one agent",
            )
        begin = time.monotonic()
        with self._changed:
            entries = {address: self._entry(address) for address in addresses}
            if not any(entry.alive for entry in entries.values()):
                for entry in entries.values():
                    entry.next_try = 0.0
            self._try_missing(addresses)
            while not _settled(list(entries.values()), time.monotonic() - begin):
                # Comes back for signals, and to see whether patience is over.
                self._changed.wait(0.1)
            sessions = [
                entry.session for entry in entries.values() if entry.session and entry.alive
            ]
            missing = [
                (address, entry)
                for address, entry in entries.items()
                if not entry.alive and not (sessions and entry.told)
            ]
            for _, entry in missing:
                entry.told = bool(sessions)
        if not sessions:
            raise _none_there(missing)
        # The first has the call opened on it, which may wait for its answers.
        sessions.sort(key=lambda session: not session.attached)
        for address, entry in missing:
            why = entry.error.args[0] if entry.error is not None else "it has not answered yet"
            warnings.warn(
                f"the agent at {address} is not there; the call runs on the others, and on it"
                f" once it is: {why}",
                ClutchWarning,
                stacklevel=2,
            )
        return sessions

    # --- with the lock ------------------------------------------------------------

    def _entry(self, address: str) -> _Entry:
        entry = self._entries.get(address)
        if entry is None:
            entry = self._entries[address] = _Entry()
        return entry

    def _try_missing(self, addresses: Sequence[str]) -> None:
        now = time.monotonic()
        for address in addresses:
            entry = self._entries[address]
            if not entry.alive and not entry.trying and now >= entry.next_try:
                entry.trying = True
                self._waiting.append(address)
        while self._waiting and self._connecting < _MOST_CONNECTING:
            self._connecting += 1
            try:
                in_background(self._connect, "clutch-connect")
            except RuntimeError:  # no thread to be had
                self._connecting -= 1
                if self._connecting == 0:
                    for address in self._waiting:
                        self._entries[address].trying = False
                    self._waiting.clear()
                return

    # --- on threads of their own --------------------------------------------------

    def _connect(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._connecting -= 1
                    return
                address = self._waiting.pop(0)
            session, error = None, None
            try:
                session = connection_for(self._agents.one(address), self._lease).session()
            except Exception as failed:  # noqa: BLE001 - whatever it is, it is told
                error = failed
            with self._changed:
                entry = self._entries[address]
                entry.trying, entry.error = False, error
                if session is not None:
                    entry.session = session
                    entry.pause, entry.told = _FIRST_PAUSE_SECONDS, False
                else:
                    entry.next_try = time.monotonic() + entry.pause
                    entry.pause = min(2 * entry.pause, _LONGEST_PAUSE_SECONDS)
                self._changed.notify_all()


def _settled(entries: list[_Entry], waited: float) -> bool:
    if not any(entry.trying for entry in entries):
        return True
    return waited >= _PATIENCE_SECONDS and any(entry.alive for entry in entries)


def _none_there(missing: list[tuple[str, _Entry]]) -> Exception:
    # Credentials that do not do are the more useful thing to know.
    address, entry = min(missing, key=lambda item: not isinstance(item[1].error, AccessDeniedError))
    error = entry.error
    if error is None:
        error = AgentUnavailableError(
            f"the agent at {address} was lost at once", kind="AGENT_UNAVAILABLE", fault="AGENT"
        )
    if len(missing) == 1:
        return error
    kind = AccessDeniedError if isinstance(error, AccessDeniedError) else AgentUnavailableError
    return kind(
        f"none of {len(missing)} agents can be used; one of them: {error.args[0]}",
        kind="AGENT_UNAVAILABLE",
        fault=getattr(error, "fault", "AGENT"),
        advice=error.advice if isinstance(error, ClutchError) else "",
    )


class _Watch:
    """Tells watchers to look, on one thread, while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: list[Watcher] = []
        self._running = False
        self._ended = threading.Event()
        self.rosters: dict[tuple[str | None, Lease], Roster] = {}
        self.abandoned: list[object] = []

    def add(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.append(watcher)
            start, self._running = not self._running, True
        if start:
            try:
                threading.Thread(target=self._run, name="clutch-agents", daemon=True).start()
            except RuntimeError:  # no thread to be had: agents that join are not seen
                with self._lock:
                    self._running = False

    def remove(self, watcher: Watcher) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._watchers.remove(watcher)

    def roster(self, access: str | None, lease: Lease) -> Roster:
        with self._lock:
            roster = self.rosters.get((access, lease))
            if roster is None:
                roster = self.rosters[access, lease] = Roster(access, lease)
            return roster

    def forget(self) -> None:
        # In a forked child, as for sessions.
        self.abandoned.append((self.rosters, self._watchers))
        self._lock = threading.Lock()
        self._watchers, self._running, self.rosters = [], False, {}

    def _run(self) -> None:
        while True:
            time.sleep(_TICK_SECONDS)
            with self._lock:
                watchers = list(self._watchers)
                if not watchers:
                    self._running = False
                    return
            for watcher in watchers:
                try:
                    watcher.tick()
                except Exception:
                    _logger.exception("looking for agents failed")
            del watchers, watcher


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.forget)


def roster_for(agents: Agents, lease: Lease) -> Roster:
    """Give this process's roster for agents, and for what is asked of them."""
    return _watch.roster(agents.access, lease)


def sessions_for(settings: Settings) -> list[Session]:
    """Give the live sessions for these settings, opening those that are needed.

    Parameters
    ----------
    settings : Settings
        Which agents and environment.

    Returns
    -------
    list of Session
        At least one that was alive a moment ago.

    Raises
    ------
    ClutchError
        No agent can be started or reached, or all refused.
    """
    agents = settings.agents
    if agents is None or not agents.several:
        return [session_for(settings)]
    return roster_for(agents, settings.lease).open(agents.now())


def watch(watcher: Watcher) -> None:
    """Have somebody told to look around, several times a second."""
    _watch.add(watcher)


def unwatch(watcher: Watcher) -> None:
    """Have somebody told no more."""
    _watch.remove(watcher)
