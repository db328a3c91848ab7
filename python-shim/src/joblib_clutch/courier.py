"""A thread that runs callbacks, for as long as there may be some."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("joblib_clutch")


class Courier:
    """Runs what is posted to it, in order, on one thread of its own.

    joblib's callbacks take joblib's lock and consume the user's iterators, so
    neither the caller of ``submit`` nor the reader of a session may run them.

    Parameters
    ----------
    name : str
        Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._posts: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._running = False
        self._closed = False

    def post(self, action: Callable[[], object]) -> None:
        """Run `action` later on the courier's thread. Never blocks.

        Parameters
        ----------
        action : callable
            What to run; what it raises is logged.
        """
        with self._changed:
            self._posts.append(action)
            if self._running:
                self._changed.notify()
                return
            self._running = True
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Let the thread end once nothing is left to run.

        What is posted afterwards still runs, on a new thread.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._posts and not self._closed:
                    self._changed.wait()
                if not self._posts:
                    self._running = False
                    return
                action = self._posts.popleft()
            try:
                action()
            except BaseException:
                _logger.exception("a joblib callback failed")
            # An idle thread must not keep the last results alive.
            del action
