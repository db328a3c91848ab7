"""The private agent: found, started, watched and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from joblib_clutch.exceptions import AgentUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_START_TIMEOUT_SECONDS = 60
_STOP_TIMEOUT_SECONDS = 2
_LAST_WORDS_TIMEOUT_SECONDS = 2
_STDERR_TAIL_BYTES = 64 << 10
_MAX_SLOTS = 256

_ALWAYS_WARM = ("cloudpickle", "joblib", "joblib_clutch", "threadpoolctl")
_WARM_WHEN_IMPORTED = frozenset({"numpy", "pandas", "scipy", "sklearn"})
_WARM_MAX_DEPTH = 3
_TEST_COMPONENTS = frozenset({"conftest", "test", "tests"})


class PrivateAgent:
    """An agent that serves this process alone and dies with it.

    It is started at once and not waited for: it imports while the driver does
    other things.

    Parameters
    ----------
    python : str
        Interpreter that runs the tasks.

    Raises
    ------
    AgentUnavailableError
        It cannot be found, or not be run.
    """

    def __init__(self, python: str) -> None:
        binary = find_binary()
        # Flags win over a CLUTCH_LISTEN that is meant for an operator's agent.
        command = [binary, "agent", "--listen", "private", "--exit-with-parent"]
        command += ["--python", python]
        command += ["--warm", ",".join(_warm_modules())]
        # The machine is the driver's own: n_jobs may exceed its CPUs, as in joblib.
        command += ["--max-slots", str(_MAX_SLOTS)]
        try:
            # No shell, and the user names the binary.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C in the driver's terminal is the driver's to handle.
                start_new_session=True,
            )
        except OSError as error:
            raise _unavailable(f"cannot run {binary}: {error}") from error
        self._address: str | None = None
        self._stderr_tail = b""
        self._ready: Future[str | None] = Future()
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        assert self._process.stderr is not None  # noqa: S101 - asked for above
        self._listen(self._read_stdout, self._process.stdout)
        self._stderr_ended = self._listen(self._read_stderr, self._process.stderr)

    @property
    def address(self) -> str:
        """Where it listens; waits until it does.

        Raises
        ------
        AgentUnavailableError
            It ended before it listened, or took too long; it is gone then.
        """
        if self._address is None:
            try:
                self._address = self._wait_ready()
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
        return self._address

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def last_words(self) -> dict[str, Any]:
        """Say why it ended, waiting a moment for its end.

        Returns
        -------
        dict
            Evidence for a `ClutchError`; empty when it still runs.
        """
        try:
            code = self._process.wait(_LAST_WORDS_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return {}
        # Workers may hold its standard error open a little longer.
        self._stderr_ended.join(_LAST_WORDS_TIMEOUT_SECONDS)
        return {
            "pid": self._process.pid,
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "stderr_tail": self._stderr_tail.decode(errors="replace"),
        }

    def stop(self) -> None:
        """Ask it to end, and make it end."""
        if not self.alive:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_ready(self) -> str:
        try:
            address = self._ready.result(_START_TIMEOUT_SECONDS)
        except FutureTimeoutError:
            raise _unavailable(
                f"the agent did not listen within {_START_TIMEOUT_SECONDS} s",
                stderr_tail=self._stderr_tail.decode(errors="replace"),
            ) from None
        if address is None:
            raise _unavailable("the agent ended before it listened", **self.last_words())
        return address

    @staticmethod
    def _listen(target: Callable[[IO[bytes]], None], stream: IO[bytes]) -> threading.Thread:
        thread = threading.Thread(
            target=target, args=(stream,), name="clutch-agent-pipe", daemon=True
        )
        thread.start()
        return thread

    def _read_stdout(self, stream: IO[bytes]) -> None:
        # Reads on after the line it waits for: a full pipe would stop the agent.
        with stream:
            for line in stream:
                address = _ready_address(line)
                if address is not None and not self._ready.done():
                    self._ready.set_result(address)
        if not self._ready.done():
            self._ready.set_result(None)

    def _read_stderr(self, stream: IO[bytes]) -> None:
        show = "CLUTCH_LOG" in os.environ
        with stream:
            for line in stream:
                self._stderr_tail = (self._stderr_tail + line)[-_STDERR_TAIL_BYTES:]
                if show and sys.stderr is not None:
                    sys.stderr.write(line.decode(errors="replace"))


def find_binary() -> str:
    """Find the ``clutch`` program.

    Returns
    -------
    str
        Its path: ``CLUTCH_BINARY``, else the one of this installation.

    Raises
    ------
    AgentUnavailableError
        There is none.
    """
    configured = os.environ.get("CLUTCH_BINARY")
    if configured:
        return configured
    bundled = Path(__file__).with_name("_agent") / "clutch"
    if bundled.is_file():
        return str(bundled)
    raise _unavailable(
        f"this installation has no agent: {bundled} does not exist",
        advice="install the Linux wheel, set CLUTCH_BINARY, or name a running agent with agents=",
    )


def _unavailable(message: str, **evidence: object) -> AgentUnavailableError:
    return AgentUnavailableError(message, kind="AGENT_UNAVAILABLE", fault="AGENT", **evidence)


def _ready_address(line: bytes) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("event") != "ready":
        return None
    return str(event["address"])


def _warm_modules() -> list[str]:
    imported = {name for name in list(sys.modules) if _is_worth_warming(name)}
    return sorted(imported.union(_ALWAYS_WARM))


def _is_worth_warming(name: str) -> bool:
    components = name.split(".")
    return (
        components[0] in _WARM_WHEN_IMPORTED
        and len(components) <= _WARM_MAX_DEPTH
        and not any(part.startswith("_") for part in components)
        and _TEST_COMPONENTS.isdisjoint(components)
    )
