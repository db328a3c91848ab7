"""Looking at processes from outside, through /proc."""

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "CLUTCH_TEST_MARK"

_PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    return _state(pid) not in {"", "Z", "X"}


def parent_of(pid: int) -> int:
    """Return the parent's id; 0 when the process is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def children_of(pid: int) -> list[int]:
    """Return the living children."""
    return [child for child in _all_pids() if parent_of(child) == pid and is_alive(child)]


def zombies_of(pid: int) -> list[int]:
    """Return the children that are dead and not reaped."""
    return [child for child in _all_pids() if _state(child) == "Z" and parent_of(child) == pid]


def descendants_of(pid: int) -> list[int]:
    """Return the living children, their children, and so on."""
    found = children_of(pid)
    for child in list(found):
        found += descendants_of(child)
    return found


def name_of(pid: int) -> str:
    """Return the name of the process as the kernel knows it; empty when gone."""
    return _read(pid, "comm").strip()


def named(pids: list[int], name: str) -> list[int]:
    """Return those processes that have the name."""
    return [pid for pid in pids if name_of(pid) == name]


def marked(mark: str) -> dict[int, str]:
    """Return names by id of the living processes with the mark in their environment."""
    wanted = f"{MARK}={mark}"
    return {
        pid: name_of(pid)
        for pid in _all_pids()
        if wanted in _read(pid, "environ").split("\0") and is_alive(pid)
    }


def libraries_of(pid: int) -> set[str]:
    """Return the names of the files that the process has mapped."""
    lines = (line.split() for line in _read(pid, "maps").splitlines())
    return {Path(fields[5]).name for fields in lines if len(fields) > 5}


def maps_of(pid: int) -> str:
    """Return the process's memory maps as the kernel writes them; empty when it is gone."""
    return _read(pid, "maps")


def resident_bytes(pid: int) -> int:
    """Return the process's resident memory."""
    return int(_read(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private_bytes(pid: int) -> int:
    """Return the memory that the process shares with nobody."""
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the process used so far, without its children's."""
    user, system = _stat(pid)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def age_seconds(pid: int) -> float:
    """Return how long ago the process began; 0 when it is gone."""
    fields = _stat(pid)
    begun = int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else float("inf")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - begun)


def descriptors_of(pid: int) -> list[str]:
    """Return what the process's descriptors point to."""
    found = []
    for link in (_PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def unix_sockets() -> set[str]:
    """Return the names of all Unix sockets; abstract ones begin with ``@``."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return {fields[7] for fields in lines if len(fields) > 7}


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _read(pid: int, file: str) -> str:
    try:
        return (_PROC / str(pid) / file).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _stat(pid: int) -> list[str]:
    """Return the fields of ``stat`` from the state on: the name may hold anything."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""
