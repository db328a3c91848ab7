"""What a worker says when a task speaks in its name; pickled by value."""

import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

BYTES = 100

# Fields of `BatchReport` after the batch, those of `Leftovers` included, each one byte when 0.
_REST_OF_REPORT = 15


def answer(make: Callable[[], list[int]]) -> None:
    """Answer for batch 1 with a result whose one buffer has `BYTES` bytes, and stay."""
    _say_done(make())
    time.sleep(600)


def answer_and_die(number: int) -> None:
    """Answer for batch 1 with a whole result, and end the process at once."""
    _say_done(whole())
    os.kill(os.getpid(), number)
    time.sleep(600)


def nothing() -> list[int]:
    """Make no descriptor."""
    return []


def whole() -> list[int]:
    """Make what a worker makes."""
    return [_sealed(BYTES)]


def too_many() -> list[int]:
    """Make more descriptors than a worker has batches."""
    return [_sealed(BYTES) for _ in range(3)]


def too_short() -> list[int]:
    """Make a file that ends before its buffer does."""
    return [_sealed(BYTES - 1)]


def unsealed() -> list[int]:
    """Make shared memory that can shrink under whoever maps it."""
    descriptor = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, BYTES)
    return [descriptor]


def pipe() -> list[int]:
    """Make something that is no file."""
    return [os.pipe()[0]]


def _say_done(descriptors: list[int]) -> None:
    # `FromWorker::Done`, the batch, zeroes for the rest of its report, and one length.
    header = bytes([2, 1, *([0] * _REST_OF_REPORT), 1, BYTES])
    frame = len(header).to_bytes(4, "little") + bytes(8) + header
    socket.send_fds(_task_line(), [frame], descriptors)


def _sealed(size: int) -> int:
    descriptor = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def _task_line() -> socket.socket:
    """Find the one socket of a worker."""
    numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    for number in numbers:
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            continue
    raise AssertionError(f"no socket among {numbers}")
