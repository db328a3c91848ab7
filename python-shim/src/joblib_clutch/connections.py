"""The sessions of this process, one per agent and lease."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from joblib_clutch.agent import PrivateAgent
from joblib_clutch.exceptions import AccessDeniedError, AgentUnavailableError
from joblib_clutch.office import close_office
from joblib_clutch.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.access import Agents
    from joblib_clutch.settings import Lease, Settings


# How long to wait, in seconds, before each further attempt to reach an agent that
# was lost: an operator's takes a moment to be started again.
_PAUSES = (0.1, 0.3, 1.0, 3.0)
# How long the process waits at its end for those who look for an agent.
_SEARCH_TIMEOUT_SECONDS = 2


# What makes a session another one.
_Key: TypeAlias = "tuple[Agents | None, Lease]"


class _Connection:
    """One agent as this process sees it: a session, renewed when lost."""

    def __init__(self, agents: Agents | None, lease: Lease) -> None:
        self._agents = agents
        self._lease = lease
        self._lock = threading.Lock()
        self._agent: PrivateAgent | None = None
        self._session: Session | None = None
        self._closed = False

    @property
    def unused(self) -> bool:
        """Whether nothing was ever started or opened here."""
        return self._agent is None and self._session is None

    def prepare(self) -> None:
        """Start the private agent ahead of its first use, which tells what went wrong."""
        with self._lock:
            if not self.unused or self._closed:
                return
            with contextlib.suppress(AgentUnavailableError, RuntimeError):
                self._agent = PrivateAgent(self._lease.python or sys.executable)
        # Closed meanwhile, maybe before there was anything to stop.
        if self._closed and self._agent is not None:
            self._agent.stop()

    def session(self) -> Session:
        session = self._session
        if session is not None and session.alive:
            return session
        with self._lock:
            if self._session is None or not self._session.alive:
                if self._session is not None:
                    self._session.close()
                self._session = self._connect()
            session = self._session
        if self._closed:
            # Closed meanwhile, maybe before there was anything to close.
            self.close()
            raise _closed()
        return session

    def close(self) -> None:
        # Without the lock: whoever holds it may wait for an agent for minutes.
        self._closed = True
        if self._session is not None:
            self._session.close()
        if self._agent is not None:
            self._agent.stop()

    def _connect(self) -> Session:
        if self._agents is not None:
            address = self._agents.now()[0]
            access = self._agents.access_of(address)
            return Session(address, self._lease, _no_evidence, access)
        if self._agent is not None and self._agent.alive:
            try:
                return self._connect_private(self._agent)
            except AgentUnavailableError:
                # It may be about to die of what took the last session.
                if not self._agent.last_words():
                    raise
        try:
            return self._start_private()
        except AgentUnavailableError:
            # One that somebody killed says nothing of the next one.
            if self._agent is None or self._agent.last_words().get("signal") != signal.SIGKILL:
                raise
        return self._start_private()

    def _start_private(self) -> Session:
        self._agent = PrivateAgent(self._lease.python or sys.executable)
        return self._connect_private(self._agent)

    def _connect_private(self, agent: PrivateAgent) -> Session:
        return Session(agent.address, self._lease, agent.last_words)


class _Registry:
    def __init__(self) -> None:
        self._connections: dict[_Key, _Connection] = {}
        self._lock = threading.Lock()
        self._abandoned: list[Any] = []
        self._searches: set[threading.Thread] = set()
        self.forked = False

    def connection(self, key: _Key) -> _Connection:
        with self._lock:
            connection = self._connections.get(key)
            if connection is None:
                connection = _Connection(*key)
                self._connections[key] = connection
        return connection

    def close(self) -> None:
        with self._lock:
            connections = list(self._connections.values())
            self._connections.clear()
        for connection in connections:
            connection.close()
        close_office()
        # Native code must not come back to an interpreter that is gone.
        deadline = time.monotonic() + _SEARCH_TIMEOUT_SECONDS
        for search in list(self._searches):
            search.join(max(deadline - time.monotonic(), 0))

    def known(self, key: _Key) -> _Connection:
        with self._lock:
            connection = self._connections.get(key)
        if connection is None:
            raise _closed()
        return connection

    def start(self, target: Callable[[], object], name: str) -> None:
        def run() -> None:
            try:
                target()
            finally:
                self._searches.discard(thread)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._searches.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._searches.discard(thread)
            raise

    def forget(self) -> None:
        # In a forked child the parent's channels must neither be used nor
        # finalized, so they are kept. The lock may be held by a thread that
        # does not exist here.
        self._abandoned.append(self._connections)
        self._connections = {}
        self._searches = set()
        self._lock = threading.Lock()
        self.forked = True


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.forget)
atexit.register(_registry.close)


def session_for(settings: Settings) -> Session:
    """Give the live session for settings that name no list, opening it when needed.

    Parameters
    ----------
    settings : Settings
        Which agent and environment.

    Returns
    -------
    Session
        A session that was alive a moment ago.

    Raises
    ------
    ClutchError
        The agent cannot be started or reached, or refused.
    """
    return _registry.connection(_key(settings)).session()


def connection_for(agent: Agents, lease: Lease) -> _Connection:
    """Give the connection to an agent, which renews its session when that is lost.

    Parameters
    ----------
    agent : Agents
        One agent.
    lease : Lease
        What sessions ask it for.

    Returns
    -------
    _Connection
        The same one each time.
    """
    return _registry.connection((agent, lease))


def session_again(settings: Settings, ended: threading.Event) -> Session:
    """Give a live session in the place of one that was lost.

    A private agent is started anew. A named one is tried for a few seconds.

    Parameters
    ----------
    settings : Settings
        Which agent and environment.
    ended : Event
        Set when nobody wants the session any more.

    Returns
    -------
    Session
        A session that was alive a moment ago.

    Raises
    ------
    ClutchError
        The agent cannot be started or reached, or refused, or this process
        has closed its connections.
    """
    # What killed the agent may have killed its successor too; that is all there is
    # to wait for where we start it.
    for pause in _PAUSES if settings.agents is not None else _PAUSES[:2]:
        connection = _registry.known(_key(settings))
        try:
            return connection.session()
        except AccessDeniedError:
            # A moment does not mend that.
            raise
        except AgentUnavailableError:
            if ended.wait(pause):
                raise
    return _registry.known(_key(settings)).session()


def in_background(target: Callable[[], object], name: str) -> None:
    """Run something on a thread of its own, which the end of the process waits for a little.

    Parameters
    ----------
    target : callable
        What to run; must not raise.
    name : str
        Name of the thread.

    Raises
    ------
    RuntimeError
        There is no thread to be had.
    """
    _registry.start(target, name)


def prepare(settings: Settings) -> None:
    """Start the private agent for these settings, if there is none yet.

    In the background: it imports while the driver goes on. Never blocks and
    never raises; what goes wrong is told by `session_for`. Processes that are
    somebody's workers start an agent only when they use it.

    Parameters
    ----------
    settings : Settings
        Which agent and environment.
    """
    if settings.agents is not None or _registry.forked or multiprocessing.parent_process():
        return
    connection = _registry.connection(_key(settings))
    if connection.unused:
        # No thread to be had: the first use starts it.
        with contextlib.suppress(RuntimeError):
            threading.Thread(
                target=connection.prepare, name="clutch-agent-start", daemon=True
            ).start()


def close_all() -> None:
    """End all sessions of this process and stop its private agents."""
    _registry.close()


def _key(settings: Settings) -> _Key:
    return settings.agents, settings.lease


def _closed() -> AgentUnavailableError:
    return AgentUnavailableError(
        "this process has closed its connections to agents",
        kind="AGENT_UNAVAILABLE",
        fault="DRIVER",
    )


def _no_evidence() -> dict[str, Any]:
    return {}
