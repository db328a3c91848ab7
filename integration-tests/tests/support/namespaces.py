"""Network namespaces: made with a name that tells whose they are, and always removed."""

import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

from support.waiting import until

_PREFIX = "clutch-net"
_FOLDER = Path("/run/netns")
_NEEDED = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux"}

_numbers = itertools.count(1)


class ToolError(RuntimeError):
    """A program that sets up the network refused."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a program that sets up the network; return what it printed."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise ToolError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def why_not() -> str:
    """Return why there can be no test hosts here; empty when there can."""
    if os.geteuid():
        return "network namespaces need root"
    missing = {package for tool, package in _NEEDED.items() if not shutil.which(tool)}
    if missing:
        tool = "integration-tests/tools/system-packages.sh"
        return f"not installed: {', '.join(sorted(missing))}; run {tool}"
    name = _name("probe")
    try:
        run("ip", "netns", "add", name)
    except ToolError as error:
        return f"network namespaces are not permitted here: {error}"
    try:
        run("ip", "-n", name, "link", "add", "bridge", "type", "bridge")
        inside(name, "nft", "add table bridge probe")
    except ToolError as error:
        return f"no bridge with filters can be made here: {error}"
    finally:
        remove(name)
    return ""


def sweep() -> None:
    """Remove what test runs left whose process is gone."""
    names = [entry.name for entry in _FOLDER.iterdir()] if _FOLDER.is_dir() else []
    for name in names:
        parts = name.removeprefix(f"{_PREFIX}-").split("-")
        if name.startswith(f"{_PREFIX}-") and not _lives(parts[0], parts[1]):
            remove(name)


def make(what: str) -> str:
    """Make a namespace, with its loopback up; return its name."""
    name = _name(what)
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    return name


def entering(name: str) -> tuple[str, ...]:
    """Return the beginning of a command that runs in a namespace.

    Not ``ip netns exec``: that hides the control groups behind another ``/sys``.
    """
    return ("nsenter", f"--net={_FOLDER / name}", "--")


def inside(name: str, *command: str) -> str:
    """Run a program that sets up the network in a namespace; return what it printed."""
    return run(*entering(name), *command)


def link_facts(name: str, device: str) -> dict[str, Any]:
    """Return what the kernel tells of a network device."""
    (facts,) = json.loads(run("ip", "-n", name, "-j", "-s", "link", "show", device))
    return facts


def remove(name: str) -> None:
    """Kill what runs in a namespace, and remove it with all its devices."""
    if not (_FOLDER / name).exists():
        return
    until(functools.partial(_killed, name), what=f"the processes in {name} to end")
    with contextlib.suppress(ToolError):
        run("ip", "netns", "del", name)


def _killed(name: str) -> bool:
    pids = run("ip", "netns", "pids", name).split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    return not pids


def _name(what: str) -> str:
    pid = os.getpid()
    return f"{_PREFIX}-{pid}-{_begun(pid)}-{next(_numbers)}-{what}-{uuid.uuid4().hex[:4]}"


def _lives(pid: str, begun: str) -> bool:
    return bool(begun) and _begun(int(pid)) == begun


def _begun(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[19]
