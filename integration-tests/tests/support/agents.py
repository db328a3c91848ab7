"""Real agents, started and watched from outside."""

import getpass
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub

from joblib_clutch import connections
from joblib_clutch.agent import find_binary
from support import processes
from support.channels import open_channel
from support.waiting import until

LIGHT_WARM = ("cloudpickle", "joblib", "joblib_clutch", "threadpoolctl")
# Nobody else may be able to read the interpreter that runs the tests.
AS_OURSELVES = ("--worker-user", getpass.getuser())
START_SECONDS = 60
_LEAVE_SECONDS = 5

_names = itertools.count(1)


def binary() -> str:
    """Return the path of the ``clutch`` program that is tested."""
    return find_binary()


def some_address() -> str:
    """Make up an address that nobody else uses."""
    return f"unix-abstract:clutch-test-{os.getpid()}-{next(_names)}-{uuid.uuid4().hex[:8]}"


def clean_environment(**changes: str) -> dict[str, str]:
    """Return our environment without settings of the agent, and with changes."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLUTCH_")}
    return {**kept, "CLUTCH_BINARY": binary(), **changes}


class Agent:
    """One agent process. Use it in a ``with`` block: it is ended at the end.

    Parameters
    ----------
    *arguments : str
        More flags of ``clutch agent``.
    address : str or None
        Where to listen; None: somewhere unique.
    pythons : sequence of str
        Interpreters to serve; empty: ours.
    warm : sequence of str
        Modules to import ahead.
    learns : bool
        Whether its zygotes are replaced by some that know more.
    environment : dict or None
        Environment of the agent; None: a clean one. It gets a mark, which every
        process that comes of it inherits.
    become : sequence of str
        A program that runs it, with arguments; empty: nothing in between.
    stderr : int or None
        Descriptor for its standard error; None: what `stderr()` returns.
    """

    def __init__(
        self,
        *arguments: str,
        address: str | None = None,
        pythons: tuple[str, ...] = (sys.executable,),
        warm: tuple[str, ...] = LIGHT_WARM,
        learns: bool = False,
        environment: dict[str, str] | None = None,
        become: tuple[str, ...] = (),
        stderr: int | None = None,
    ) -> None:
        self.address = address or some_address()
        self.mark = uuid.uuid4().hex
        command = [*become, binary(), "agent", "--listen", self.address, "--warm", ",".join(warm)]
        command += ["--learn-modules", str(learns).lower()]
        for python in pythons:
            command += ["--python", python]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr if stderr is None else stderr,
            env={**(environment or clean_environment()), processes.MARK: self.mark},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._lines: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._ready: dict[str, Any] | None = None

    def __enter__(self) -> "Agent":
        try:
            _ = self.ready
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Politely first: workers that are told to leave tidy up after themselves.
        forget(self.address)
        self.process.terminate()
        try:
            self.process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._stderr.close()

    @property
    def ready(self) -> dict[str, Any]:
        """The ready line."""
        if self._ready is None:
            line = until(
                lambda: self._lines[0] if self._lines else self.process.poll(),
                lambda seen: seen is not None,
                seconds=START_SECONDS,
                what="the ready line",
            )
            assert isinstance(line, bytes), f"exited with {line}: {self.stderr()}"
            self._ready = json.loads(line)
        return self._ready

    def stderr(self) -> str:
        """Return what it wrote to standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode()

    def status(self) -> wire.GetStatusResponse:
        """Ask it what it does."""
        with open_channel(self.address) as channel:
            return ExecutorStub(channel).GetStatus(wire.GetStatusRequest(), timeout=5)

    def drain(self) -> int:
        """Ask it to take nothing new; return the batches that were open."""
        with open_channel(self.address) as channel:
            return ExecutorStub(channel).Drain(wire.DrainRequest(), timeout=5).open_batches

    def workers(self) -> list[int]:
        """Return the ids of its worker processes, as it says."""
        return [worker.pid for worker in self.status().workers]

    def busy(self) -> list[int]:
        """Return the ids of its workers that run a batch."""
        return [worker.pid for worker in self.status().workers if worker.busy]

    def zygotes(self) -> list[int]:
        """Return the ids of its zygotes, as the kernel says."""
        return processes.named(processes.children_of(self.pid), "clutch-zygote")

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def exit_code(self, seconds: float = 10) -> int:
        """Wait for its end."""
        return self.process.wait(seconds)

    def _read(self) -> None:
        with self.process.stdout as stream:
            for line in stream:
                self._lines.append(line)


def blobs_in_use(status: wire.GetStatusResponse) -> int:
    """Return how many blobs some session or batch has; others are kept in case."""
    return status.blobs.count - status.blobs.cached


def forget(agent: str | Path) -> None:
    """End this process's sessions on an agent: by its address, or its access file."""
    registry = connections._registry
    keys = [key for key in registry._connections if key[0] is not None]
    for key in keys:
        if str(agent) in (*key[0].addresses, key[0].access):
            registry._connections.pop(key).close()


def run_agent(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``clutch`` with arguments that end it at once."""
    return subprocess.run(
        [binary(), *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
