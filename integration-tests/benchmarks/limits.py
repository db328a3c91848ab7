"""What nothing on this machine can beat, measured in a process of its own.

Run as a script, it prints its figures as JSON.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import backends
from measure import median, seconds_of
from model import N_JOBS
from processes import FOLDER, ProcessFailedError, Talker
from service import Service
from workload import nothing

if TYPE_CHECKING:
    from collections.abc import Callable

_CAP_SECONDS = 60
_COPY_BYTES = 400_000_000
_FORKED_BYTES = 100_000_000
_REPEATS = 7
_ROUND_TRIPS = 2_000


@dataclass(frozen=True)
class Limit:
    """A physical limit: its name, what it is, and its unit."""

    name: str
    title: str
    unit: str


ALL = (
    Limit("memcpy", "copy in memory", "GB/s"),
    Limit("fresh_shared_copy", "copy into fresh shared memory", "GB/s"),
    Limit("shared_copy_of_800_mb", "... of 800 MB", "s"),
    Limit("argument_mb", "one copy of the argument", "MB"),
    Limit("unix_round_trip", "round trip of a byte, Unix socket", "µs"),
    Limit("tcp_round_trip", "round trip of a byte, loopback TCP", "µs"),
    Limit("fork", "fork of a process with 100 MB, until its exit", "ms"),
    Limit("pickle", "pickling a batch of one task", "µs"),
    Limit("unpickle", "unpickling it", "µs"),
    Limit("joblib_callback", "joblib alone, batches of one, results by callback", "tasks/s"),
    Limit("joblib_blocking", "joblib alone, batches of one, results waited for", "tasks/s"),
    Limit("grpc_round_trip", "gRPC call of Python to an agent", "µs"),
)


def measure() -> tuple[dict[str, float], list[str]]:
    """Return the limits by name, and notes about those that could not be measured."""
    limits, notes = {}, []
    talker = Talker([sys.executable, str(FOLDER / "limits.py")])
    try:
        limits = talker.answer(_CAP_SECONDS)
    except ProcessFailedError as error:
        notes.append(f"physical limits: {error}")
    finally:
        talker.end()
    try:
        limits["grpc_round_trip"] = _grpc_round_trip_us()
    except ImportError as error:
        notes.append(f"gRPC call of Python: not measured, {error}")
    except ProcessFailedError as error:
        notes.append(f"gRPC call of Python: {error}")
    return limits, notes


def _main() -> None:
    fresh = _COPY_BYTES / _fresh_shared_copy_seconds()
    figures = {
        "memcpy": _COPY_BYTES / _copy_seconds() / 1e9,
        "fresh_shared_copy": fresh / 1e9,
        "shared_copy_of_800_mb": 800e6 / fresh,
        "argument_mb": 800.0,
        "unix_round_trip": _round_trip_us(*socket.socketpair()),
        "tcp_round_trip": _round_trip_us(*_tcp_pair()),
        "pickle": _each_us(lambda: pickle.dumps(_BATCH, protocol=5)),
        "unpickle": _each_us(lambda: pickle.loads(_PICKLED)),
        "fork": _fork_ms(),
        "joblib_callback": _joblib_rate("floor"),
        "joblib_blocking": _joblib_rate("floor-blocking"),
    }
    print(json.dumps(figures), flush=True)


def _median_seconds(work: Callable[[], object]) -> float:
    work()
    return median([seconds_of(work) for _ in range(_REPEATS)])


def _copy_seconds() -> float:
    import numpy as np

    source, target = np.ones(_COPY_BYTES, np.uint8), np.zeros(_COPY_BYTES, np.uint8)
    return _median_seconds(lambda: np.copyto(target, source))


def _fresh_shared_copy_seconds() -> float:
    import numpy as np

    source = np.ones(_COPY_BYTES, np.uint8)

    def copy() -> None:
        with mmap.mmap(-1, _COPY_BYTES) as shared:
            target = np.frombuffer(shared, np.uint8)
            np.copyto(target, source)
            # The map cannot be closed while the array looks into it.
            del target

    return _median_seconds(copy)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def _round_trip_us(near: socket.socket, far: socket.socket) -> float:
    pid = os.fork()
    if pid == 0:
        # The copy of our end would keep the connection open.
        near.close()
        while byte := far.recv(1):
            far.send(byte)
        os._exit(0)
    far.close()

    def round_trip() -> None:
        near.send(b"x")
        near.recv(1)

    trips = [seconds_of(round_trip) for _ in range(_ROUND_TRIPS)]
    near.close()
    os.waitpid(pid, 0)
    return median(trips) * 1e6


def _fork_ms() -> float:
    # Written, so that there are pages to give away.
    ballast = bytearray(b"x") * _FORKED_BYTES

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    seconds = _median_seconds(fork)
    del ballast
    return seconds * 1e3


_BATCH: list[tuple[object, tuple[int], dict[str, object]]] = [(nothing, (1,), {})]
_PICKLED = pickle.dumps(_BATCH, protocol=5)


def _each_us(work: Callable[[], object]) -> float:
    times = 10_000

    def many() -> None:
        for _ in range(times):
            work()

    return _median_seconds(many) / times * 1e6


def _joblib_rate(backend: str) -> float:
    from joblib import Parallel, delayed

    tasks = 4_000
    with backends.BY_NAME[backend].use(None):
        calls = [delayed(nothing)(i) for i in range(tasks)]
        return tasks / _median_seconds(lambda: Parallel(n_jobs=N_JOBS, batch_size=1)(calls))


def _grpc_round_trip_us() -> float:
    import grpc

    with Service(backends.BY_NAME["clutch"]) as service:
        # Bytes in, bytes out: an empty message is an empty request.
        channel = grpc.insecure_channel(
            service.address, options=[("grpc.default_authority", "localhost")]
        )
        with contextlib.closing(channel):
            ask: Any = channel.unary_unary("/clutch.v1.Executor/GetStatus")
            deadline = time.monotonic() + _CAP_SECONDS
            trips: list[float] = []
            try:
                while len(trips) < _ROUND_TRIPS and time.monotonic() < deadline:
                    trips.append(seconds_of(lambda: ask(b"", timeout=_CAP_SECONDS)))
            except grpc.RpcError as error:
                raise ProcessFailedError(str(error)) from error
    return median(trips[len(trips) // 10 :]) * 1e6


if __name__ == "__main__":
    assert threading.active_count() == 1, "forks need a single thread"
    _main()
