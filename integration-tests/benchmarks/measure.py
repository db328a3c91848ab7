"""Reads what processes use: CPU time, memory, and the tree that they form."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.02


def seconds_of(work: Callable[[], Any]) -> float:
    """Run the work and return the wall time that it took."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


# --- processes ----------------------------------------------------------------


def tree(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def agent_of(pids: Sequence[int]) -> int | None:
    """Return the agent among processes; its zygotes and workers have other arguments."""
    for pid in pids:
        arguments = _read(pid, "cmdline").split("\0")
        if Path(arguments[0]).name == "clutch" and "agent" in arguments[1:2]:
            return pid
    return None


# --- CPU time -----------------------------------------------------------------


def own_cpu_seconds() -> float:
    """Return the CPU time of this process alone."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process alone, in the kernel's full precision.

    Zero when the process is gone.
    """
    # The clock of a process by its id; see clock_getcpuclockid(3).
    clock = (~pid << 3) | 2
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def tree_cpu_seconds(root: int) -> float:
    """Return the CPU time of a tree, with that of its dead whose parents waited for them."""
    return sum(cpu_seconds(pid) + _reaped_cpu_seconds(pid) for pid in tree(root))


def _reaped_cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) / _TICKS_PER_SECOND if fields else 0.0


# --- memory -------------------------------------------------------------------


class MemoryWatch:
    """Watches the memory of this process's tree while its ``with`` block runs.

    What the tree holds is the proportional share of its processes in anonymous
    memory and in files, plus all shared memory of the machine, mapped or not.

    Attributes
    ----------
    growth_bytes : int
        How much more was held at the peak than before the block.
    """

    def __init__(self) -> None:
        self.growth_bytes = 0
        self._before = 0
        self._anonymous_bytes: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._before = self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def anonymous_bytes(self, pids: Sequence[int]) -> int:
        """Return the most anonymous memory that one of these processes had at a time."""
        return max((self._anonymous_bytes.get(pid, 0) for pid in pids), default=0)

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.growth_bytes = max(self.growth_bytes, self._sample() - self._before)

    def _sample(self) -> int:
        held = _kilobytes(_PROC / "meminfo").get("Shmem", 0)
        for pid in tree(os.getpid()):
            rollup = _kilobytes(_PROC / str(pid) / "smaps_rollup")
            anonymous = rollup.get("Pss_Anon", 0)
            held += anonymous + rollup.get("Pss_File", 0)
            self._anonymous_bytes[pid] = max(self._anonymous_bytes.get(pid, 0), anonymous)
        return held


def _kilobytes(path: Path) -> dict[str, int]:
    """Return the fields of a file of the kernel that are given in kB, in bytes."""
    return dict(_kilobyte_lines(path))


def _kilobyte_lines(path: Path) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[2] == "kB":
                yield words[0].rstrip(":"), int(words[1]) << 10


def _stat(pid: int) -> list[str]:
    # The name, in parentheses, may contain anything; state is the first field after it.
    return _read(pid, "stat").rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""
