"""Tasks that look where they should not, and say how far they got."""

import ctypes
import os
import tempfile
import time
from pathlib import Path

_ATTACH, _DETACH = 16, 17


def identity():
    """Return who we are to the kernel, and what we are allowed."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {
        "uid": status["Uid"].split(),
        "gid": status["Gid"].split(),
        "groups": status["Groups"].split(),
        "no_new_privs": status["NoNewPrivs"],
        "capabilities": [status[name] for name in ("CapPrm", "CapEff", "CapAmb")],
        "oom": Path("/proc/self/oom_score_adj").read_text().strip(),
        "home": os.environ["HOME"],
        "pid": os.getpid(),
        "leader": os.getsid(0) == os.getpid() == os.getpgrp(),
    }


def opened(*pids):
    """Return what of these processes we can open, list or trace."""
    libc = ctypes.CDLL(None, use_errno=True)
    seen = []
    for pid in pids:
        folder = Path("/proc") / str(pid)
        for file in ("environ", "mem", "maps", "fd", "map_files", "cwd", "root"):
            try:
                if file in ("environ", "mem", "maps"):
                    (folder / file).open("rb").close()
                else:
                    list((folder / file).iterdir())
            except PermissionError:
                continue
            seen.append((pid, file))
        if libc.ptrace(_ATTACH, pid, 0, 0) == 0:
            libc.ptrace(_DETACH, pid, 0, 0)
            seen.append((pid, "ptrace"))
        where = ctypes.create_string_buffer(8)
        local = (ctypes.c_void_p * 2)(ctypes.addressof(where), 8)
        if libc.process_vm_readv(pid, local, 1, local, 1, 0) > 0:
            seen.append((pid, "memory"))
    return seen


def readable(path):
    """Return whether we can read a file."""
    try:
        Path(path).read_bytes()
    except PermissionError:
        return False
    return True


def temporary():
    """Leave a file in our directory for temporary files; say where and whose that is."""
    folder = Path(tempfile.gettempdir())
    (folder / "left").write_text("behind")
    found = folder.stat()
    try:
        siblings = os.listdir(folder.parent)  # noqa: PTH208 - of a folder that is closed
    except PermissionError:
        siblings = None
    return {
        "folder": str(folder),
        "owner": found.st_uid,
        "mode": found.st_mode & 0o777,
        "siblings": siblings,
    }


def pid_when_there(path):
    """Say who we are in a file, and stay."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def spin():
    """Never end."""
    while True:
        pass
