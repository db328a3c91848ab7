"""A trivial program on test hosts, to know the network before agents use it."""

import json
import subprocess
import sys
from pathlib import Path

from support import peer_program
from support.hosts import Host

_PROGRAM = Path(peer_program.__file__)


class Listener:
    """A program on a host that counts, echoes or waits. Use it in a ``with`` block."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __enter__(self) -> "Listener":
        self._process = self._host.popen(
            [sys.executable, str(_PROGRAM), "serve"], stdout=subprocess.PIPE
        )
        assert self._process.stdout.readline() == "listening\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Caller:
    """A connection from a host to a `Listener`. Use it in a ``with`` block.

    It notices a peer that is gone within three seconds.
    """

    def __init__(self, host: Host, target: Host) -> None:
        self._command = [sys.executable, str(_PROGRAM), "call", target.address]
        self._host = host

    def __enter__(self) -> "Caller":
        self._process = self._host.popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._answer() == {"connected": True}
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def echo(self, times: int, pause: float = 0.0) -> list[float]:
        """Say one byte so many times and hear it; return how long each took."""
        return self._ask(echo=times, pause=pause)["seconds"]

    def send(self, size: int) -> float:
        """Send so many bytes; return how long until the peer has them."""
        return self._ask(send=size)["seconds"]

    def wait_for_end(self) -> str:
        """Wait until the connection breaks; return the kernel's reason."""
        return self._ask(wait=True)["error"]

    def _ask(self, **order: object) -> dict[str, object]:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, object]:
        return json.loads(self._process.stdout.readline())
