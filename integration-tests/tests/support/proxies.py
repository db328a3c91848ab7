"""A tunnel to an agent, such as people make: bytes go through, descriptors do not."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from support.agents import some_address

_PIECE_BYTES = 1 << 20


class Proxy:
    """Forwards connections to an agent. Use it in a ``with`` block.

    Parameters
    ----------
    target : str
        The agent's address.
    most_sent : int or None
        Bytes to the agent after which it breaks down; None: never.
    bytes_per_second : float or None
        How fast it sends to the agent; None: as fast as it can.

    Attributes
    ----------
    address : str
        Where it listens.
    sent : int
        Bytes that went to the agent so far.
    received : int
        Bytes that came from the agent so far.
    """

    def __init__(
        self,
        target: str,
        most_sent: int | None = None,
        bytes_per_second: float | None = None,
    ) -> None:
        self.address = some_address()
        self.sent = 0
        self.received = 0
        self._most_sent = most_sent
        self._bytes_per_second = bytes_per_second
        self._target = _name(target)
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(_name(self.address))
        self._listener.listen()
        self._start(self._accept)

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up(self._listener)
        # Accepts no more; now its connections are all there are.
        self._threads[0].join()
        for end in self._ends:
            self._hang_up(end)
        for thread in self._threads[1:]:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                driver, _ = self._listener.accept()
            except OSError:
                return
            agent = socket.socket(socket.AF_UNIX)
            self._ends += [driver, agent]
            try:
                agent.connect(self._target)
            except OSError:
                # The agent is gone; so is the connection to it.
                self._hang_up(driver)
                continue
            self._start(self._forward, driver, agent, self._count_sent)
            self._start(self._forward, agent, driver, self._count_received)

    def _forward(
        self, source: socket.socket, target: socket.socket, count: Callable[[int], None]
    ) -> None:
        # Whoever reads plainly from a Unix socket lets descriptors fall.
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                count(len(piece))
                if self._most_sent is not None and self.sent > self._most_sent:
                    break
                target.sendall(piece)
        self._hang_up(source)
        self._hang_up(target)

    def _count_sent(self, length: int) -> None:
        if self._bytes_per_second is not None:
            time.sleep(length / self._bytes_per_second)
        with self._lock:
            self.sent += length

    def _count_received(self, length: int) -> None:
        with self._lock:
            self.received += length

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _hang_up(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _name(address: str) -> str:
    kind, _, name = address.partition(":")
    return name if kind == "unix" else "\0" + name
