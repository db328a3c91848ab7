"""The sessions of this process, one per agent and environment."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from joblib_clutch.agent import PrivateAgent
from joblib_clutch.exceptions import AgentUnavailableError
from joblib_clutch.session import Session

if TYPE_CHECKING:
    from joblib_clutch.settings import Settings


class _Connection:
    """One agent as this process sees it: a session, renewed when lost."""

    def __init__(self, address: str | None, python: str | None) -> None:
        self._address = address
        self._python = python
        self._lock = threading.Lock()
        self._agent: PrivateAgent | None = None
        self._session: Session | None = None

    def session(self) -> Session:
        session = self._session
        if session is not None and session.alive:
            return session
        with self._lock:
            if self._session is None or not self._session.alive:
                if self._session is not None:
                    self._session.close()
                self._session = self._connect()
            return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        if self._agent is not None:
            self._agent.stop()

    def _connect(self) -> Session:
        if self._address is not None:
            return Session(self._address, self._python, _no_evidence)
        if self._agent is not None and self._agent.alive:
            try:
                return self._connect_private(self._agent)
            except AgentUnavailableError:
                # It may be about to die of what took the last session.
                if not self._agent.last_words():
                    raise
        self._agent = PrivateAgent(self._python or sys.executable)
        return self._connect_private(self._agent)

    def _connect_private(self, agent: PrivateAgent) -> Session:
        return Session(agent.address, self._python, agent.last_words)


class _Registry:
    def __init__(self) -> None:
        self._connections: dict[tuple[str | None, str | None], _Connection] = {}
        self._lock = threading.Lock()
        self._abandoned: list[Any] = []

    def session(self, address: str | None, python: str | None) -> Session:
        with self._lock:
            connection = self._connections.get((address, python))
            if connection is None:
                connection = _Connection(address, python)
                self._connections[address, python] = connection
        return connection.session()

    def close(self) -> None:
        with self._lock:
            connections = list(self._connections.values())
            self._connections.clear()
        for connection in connections:
            connection.close()

    def forget(self) -> None:
        # In a forked child the parent's channels must neither be used nor
        # finalized, so they are kept. The lock may be held by a thread that
        # does not exist here.
        self._abandoned.append(self._connections)
        self._connections = {}
        self._lock = threading.Lock()


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.forget)
atexit.register(_registry.close)


def session_for(settings: Settings) -> Session:
    """Give the live session for these settings, opening it when needed.

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
    return _registry.session(settings.agents, settings.env)


def close_all() -> None:
    """End all sessions of this process and stop its private agents."""
    _registry.close()


def _no_evidence() -> dict[str, Any]:
    return {}
