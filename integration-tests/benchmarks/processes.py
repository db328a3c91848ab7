"""Starts processes of the suite, talks to them in lines, and ends them with all they started."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import tree

FOLDER = Path(__file__).parent
_LEAVE_SECONDS = 10
_LAST_WORDS_CHARACTERS = 300


class ProcessFailedError(Exception):
    """A process did not do what it was asked."""


class Talker:
    """A process that answers in lines of JSON.

    Parameters
    ----------
    command : list of str
        What to run.
    variables : dict
        Changes to the environment.
    """

    def __init__(self, command: list[str], variables: dict[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._buffer = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment() | (variables or {}),
            start_new_session=True,
        )

    def send(self, command: dict[str, Any]) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ProcessFailedError(self._last_words()) from error

    def answer(self, seconds: float) -> dict[str, Any]:
        """Wait for the next line of JSON; other lines are skipped.

        Raises
        ------
        ProcessFailedError
            It ended, or took longer than so many seconds.
        """
        deadline = time.monotonic() + seconds
        while True:
            line = self._line(deadline, seconds)
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    return answer

    def end(self, *, politely: bool = True) -> None:
        """End it, politely by closing its input, and kill whatever of its tree is left."""
        family = tree(self._process.pid)
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        if politely:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LEAVE_SECONDS)
        if self._process.poll() is None:
            family, politely = tree(self._process.pid), False
            self._process.kill()
        self._process.wait()
        for pid in family[1:]:
            # After a while only ours: an id that was given anew has another session.
            with contextlib.suppress(OSError):
                if not politely or os.getsid(pid) == self._process.pid:
                    os.kill(pid, signal.SIGKILL)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _line(self, deadline: float, seconds: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ProcessFailedError(f"no answer within {seconds:.0f} s")
                more = os.read(self._process.stdout.fileno(), 1 << 16)
                if not more:
                    raise ProcessFailedError(self._last_words())
                self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        # Of a traceback, the last line names the error.
        last = next((line.strip() for line in reversed(lines) if line.strip()), "silently")
        return f"ended: {last[:_LAST_WORDS_CHARACTERS]}"


def environment() -> dict[str, str]:
    """Return our environment with the suite's folder importable, in workers too."""
    paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
