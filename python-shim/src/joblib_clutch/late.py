"""Batches whose large arguments must get to their agent first."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from joblib_clutch.connections import in_background

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.batch import Batch
    from joblib_clutch.member import Member, Twin

    _Send = Callable[[Member, Batch | Twin], object]


class LateBatches:
    """Sends such batches, on one thread for each agent that is to get some.

    An agent that takes its time holds up nobody else, least of all who submits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # An agent is in here while a thread sends to it.
        self._waiting: dict[int, deque[Batch | Twin]] = {}

    def put(self, member: Member, token: Batch | Twin, send: _Send) -> None:
        """Send a batch after those that wait for the same agent. Never blocks.

        Parameters
        ----------
        member : Member
            Who gets it.
        token : Batch or Twin
            The batch, or a copy of one.
        send : callable
            Sends it, with what it needs; must not raise.
        """
        with self._lock:
            waiting = self._waiting.get(member.number)
            if waiting is not None:
                waiting.append(token)
                return
            self._waiting[member.number] = deque([token])
        try:
            in_background(partial(self._run, member, send), "clutch-upload")
        except RuntimeError:  # no thread to be had
            self._run(member, send)

    def _run(self, member: Member, send: _Send) -> None:
        while True:
            with self._lock:
                waiting = self._waiting[member.number]
                if not waiting:
                    del self._waiting[member.number]
                    return
                token = waiting.popleft()
            send(member, token)
            del token
