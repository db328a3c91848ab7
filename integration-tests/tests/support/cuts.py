"""A network between driver and agent that breaks when it is told to."""

import array
import contextlib
import enum
import fcntl
import socket
import termios
import threading
import time
from collections.abc import Callable, Iterator

from support.agents import some_address
from support.waiting import until

_PIECE_BYTES = 1 << 16
_FRAME_HEAD_BYTES = 9
_GOAWAY = 7


class State(enum.Enum):
    """What becomes of bytes and of new connections."""

    OPEN = "they go through"
    HELD = "they wait, and nobody is told"
    DOWN = "they are dropped at once"


class _Framing:
    """Finds the places between the frames of an HTTP/2 connection."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def split(self, data: bytes) -> int | None:
        """Take data in; return where in it the first frame begins, if one does."""
        first = None
        position = 0
        while position < len(data):
            if self._left == 0 and not self._head and first is None:
                first = position
            if self._left == 0:
                wanted = _FRAME_HEAD_BYTES - len(self._head)
                self._head += data[position : position + wanted]
                position += wanted
                if len(self._head) == _FRAME_HEAD_BYTES:
                    self._left = int.from_bytes(self._head[:3], "big")
                    self._head = b""
            else:
                taken = min(self._left, len(data) - position)
                self._left -= taken
                position += taken
        return first


class _Pair:
    """One connection of a driver, and ours to the agent for it."""

    def __init__(self, driver: socket.socket, agent: socket.socket, budget: int | None) -> None:
        self.driver = driver
        self.agent = agent
        self.left = budget
        self.lock = threading.Lock()

    def spend(self, length: int) -> int:
        """Take from the bytes that may still go through; return how many go."""
        with self.lock:
            if self.left is None:
                return length
            goes = min(length, self.left)
            self.left -= goes
            return goes

    def hang_up(self) -> None:
        for end in (self.driver, self.agent):
            _hang_up(end)


class Network:
    """Forwards connections to an agent. Use it in a ``with`` block.

    Parameters
    ----------
    target : str
        The agent's address.
    budgets : iterator of int or None
        Bytes, both ways together, after which each next connection breaks; once it has
        ended, and with None, they do not.

    Attributes
    ----------
    address : str
        Where drivers find the agent.
    connections : int
        Connections so far.
    rate : int or None
        Bytes in a second that come from the agent; None: as many as can.
    """

    def __init__(self, target: str, budgets: Iterator[int] | None = None) -> None:
        self.address = some_address()
        self.connections = 0
        self.rate: int | None = None
        self._farewell = b""
        self._target = _name(target)
        self._budgets = budgets or iter(())
        self._state = State.OPEN
        self._changed = threading.Condition()
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listener = self._listen()

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        _hang_up(self._listener)
        for pair in self._pairs:
            pair.hang_up()
        for thread in self._threads:
            thread.join()
        for pair in self._pairs:
            pair.driver.close()
            pair.agent.close()
        self._listener.close()

    def cut(self) -> None:
        """Close all connections, at both ends."""
        for pair in self._pairs:
            pair.hang_up()

    def hold(self) -> None:
        """Let nothing through, and tell nobody."""
        self._set(State.HELD)

    def down(self, *, agent_hears: bool = False, refuses: bool = False) -> None:
        """Close the drivers' connections and drop new ones.

        Parameters
        ----------
        agent_hears : bool
            Whether the agent's ends are closed too; else they stay, and say nothing.
        refuses : bool
            Whether new connections are refused, as if nobody listened.
        """
        self._set(State.DOWN)
        if refuses:
            _hang_up(self._listener)
            self._acceptor.join()
            self._listener.close()
        for pair in self._pairs:
            _hang_up(pair.driver)
            if agent_hears:
                _hang_up(pair.agent)

    def reset(self) -> None:
        """Have the agent's connection break rather than end; the network is down."""
        # A Unix socket that is closed before all was read resets its peer.
        pairs = until(
            lambda: [pair for pair in self._pairs if _unread(pair.agent)],
            seconds=30,
            what="something from the agent",
        )
        for pair in pairs:
            pair.agent.close()

    def say_goodbye(self, last_stream: int) -> None:
        """Have the agent seem to say that it ends the connection, and serves its streams up
        to a number, ahead of what it says next.
        """
        body = last_stream.to_bytes(4, "big") + bytes(4)
        head = len(body).to_bytes(3, "big") + bytes([_GOAWAY, 0]) + bytes(4)
        self._farewell = head + body

    def heal(self) -> None:
        """Let everything through again."""
        self._set(State.OPEN)

    def _set(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(_name(self.address))
        listener.listen()
        self._acceptor = self._start(self._accept, listener)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                driver, _ = listener.accept()
            except OSError:
                return
            if self._state is State.DOWN:
                driver.close()
                continue
            agent = socket.socket(socket.AF_UNIX)
            pair = _Pair(driver, agent, next(self._budgets, None))
            self._pairs.append(pair)
            self.connections += 1
            try:
                agent.connect(self._target)
            except OSError:
                pair.hang_up()
                continue
            self._start(self._forward, pair, driver, agent)
            self._start(self._forward, pair, agent, driver)

    def _forward(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        framing = _Framing()
        with contextlib.suppress(OSError):
            # What is not to go through stays unread.
            while source.recv(1, socket.MSG_PEEK) and self._may_read():
                piece = source.recv(self.rate // 10 if self.rate else _PIECE_BYTES)
                if source is pair.agent:
                    piece = self._as_from_agent(framing, piece)
                goes = pair.spend(len(piece))
                target.sendall(piece[:goes])
                if goes < len(piece):
                    break
        # What was severed on purpose stays as it is at its other end.
        if self._state is State.OPEN or self._closed:
            pair.hang_up()

    def _as_from_agent(self, framing: _Framing, piece: bytes) -> bytes:
        if self.rate:
            time.sleep(0.1)
        begin = framing.split(piece)
        if begin is None or not self._farewell:
            return piece
        farewell, self._farewell = self._farewell, b""
        return piece[:begin] + farewell + piece[begin:]

    def _may_read(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._state is not State.HELD or self._closed)
            return self._state is not State.DOWN and not self._closed

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()
        return thread


def _unread(end: socket.socket) -> int:
    if end.fileno() < 0:
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(end.fileno(), termios.FIONREAD, count)
    return count[0]


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _name(address: str) -> str:
    kind, _, name = address.partition(":")
    return name if kind == "unix" else "\0" + name
