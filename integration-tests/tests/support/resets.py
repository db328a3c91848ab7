"""A way to an agent on TCP on which the first connections are reset."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

# Closing then resets.
_AT_ONCE = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def resetting(target: str, count: int) -> Iterator[str]:
    """Forward connections to an agent, but for the first ones.

    Parameters
    ----------
    target : str
        The agent's address.
    count : int
        Connections that are reset as soon as they say something.

    Yields
    ------
    str
        Where it listens.
    """
    host, port = target.rsplit(":", 1)
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
        ends: list[socket.socket] = []

        def accept() -> None:
            for number in range(1000):
                try:
                    driver, _ = listener.accept()
                except OSError:
                    return
                if number < count:
                    driver.recv(1)
                    driver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    driver.close()
                    continue
                agent = socket.create_connection((host, int(port)))
                ends.extend((driver, agent))
                for one, other in ((driver, agent), (agent, driver)):
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for end in ends:
                _pass_end_on(end)
                end.close()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    _pass_end_on(other)


def _pass_end_on(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
