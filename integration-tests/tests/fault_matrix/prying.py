"""Tasks that look where they should not, and say how far they got."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
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


def looked_into(*pids):
    """Return which of these processes show us anything of theirs. Traces none: that stops it."""
    # Root is shown variables and maps by another right, to measure performance.
    files = ["cwd", "root", "exe", "mem", *(["environ", "maps"] if os.geteuid() else [])]
    seen = []
    for pid in pids:
        for file in files:
            path = Path("/proc") / str(pid) / file
            with contextlib.suppress(PermissionError):
                path.open("rb").close() if file in ("mem", "environ", "maps") else path.readlink()
                seen.append(pid)
                break
    return seen


def signalled(*pids, number=0):
    """Return which of these processes we can send a signal, by number or by descriptor."""
    reached = []
    for pid in pids:
        descriptor = os.pidfd_open(pid)
        sends = (
            lambda pid=pid: os.kill(pid, number),
            lambda descriptor=descriptor: signal.pidfd_send_signal(descriptor, number),
        )
        for send in sends:
            try:
                send()
            except PermissionError:
                continue
            reached.append(pid)
            break
        os.close(descriptor)
    return reached


def kill_own():
    """Kill a child and one in a group of its own; say how they ended, and whether we can."""
    one = subprocess.Popen(["sleep", "60"])
    one.terminate()
    group = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    os.killpg(group.pid, signal.SIGKILL)
    os.kill(os.getpid(), 0)
    return [one.wait(), group.wait(), signalled(os.getpid()) == [os.getpid()]]


def connected(name):
    """Return whether we can connect to an abstract socket."""
    with socket.socket(socket.AF_UNIX) as ours:
        try:
            ours.connect("\0" + name)
        except PermissionError:
            return False
    return True


def over_tcp(port):
    """Return what of binding a port and connecting to one we can do."""
    done = []
    for what, address in (("bind", ("127.0.0.1", 0)), ("connect", ("127.0.0.1", port))):
        with socket.socket() as ours:
            try:
                getattr(ours, what)(address)
            except PermissionError:
                continue
            done.append(what)
    return done


def nested_loky(count):
    """Return squares that processes of joblib's own made."""
    from joblib import Parallel, delayed

    return Parallel(2, backend="loky")(delayed(pow)(i, 2) for i in range(count))


def managed():
    """Return a dictionary that another process kept."""
    import multiprocessing

    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        shared["a"] = 1
        return dict(shared)
