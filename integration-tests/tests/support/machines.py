"""Test hosts that boot a Debian of their own, with systemd: for what a guide tells people.

Thorough tests only: the first one makes the root with debootstrap, which takes a minute and
a package mirror. It is kept in ``.cache/roots``; each machine has its changes elsewhere.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support import processes
from support.environments import ROOT
from support.hosts import Host
from support.namespaces import ToolError, run
from support.waiting import until

_CACHE = ROOT / ".cache/roots"
_SUITE = "bookworm"
_PACKAGES = (
    "ca-certificates,iproute2,libpython3.11,logrotate,nftables,procps,python3,python3-venv,systemd"
)
_TOOLS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container"}
# systemd-nspawn makes them in its own group.
_GROUPS = ("payload", "supervisor")


def why_not() -> str:
    """Return why no machine can be booted here; empty when it can."""
    if missing := sorted(package for tool, package in _TOOLS.items() if not shutil.which(tool)):
        return f"not installed: {', '.join(missing)}"
    try:
        base()
    except (ToolError, subprocess.SubprocessError) as error:
        return f"no clean root can be made here: {error}"
    return ""


@functools.cache
def base() -> Path:
    """Return the root of a Debian, made when there is none."""
    root = _CACHE / _SUITE
    if not root.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=_CACHE, prefix="draft-"))
        draft.chmod(0o755)
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(draft)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if made.returncode:
            shutil.rmtree(draft)
            raise ToolError(f"debootstrap: {made.stdout[-500:]}")
        draft.rename(root)
    return root


class Machine:
    """A clean Debian on a test host. Use it in a ``with`` block.

    Parameters
    ----------
    host : Host
        Whose network it has; its name becomes the machine's.

    Attributes
    ----------
    root : Path
        Its root directory.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._undo = contextlib.ExitStack()
        self.root = Path()
        self._leader = 0

    def __enter__(self) -> "Machine":
        with contextlib.ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="clutch-test-")))
            for name in ("changes", "work", "root"):
                (folder / name).mkdir()
            self.root = folder / "root"
            layers = f"lowerdir={base()},upperdir={folder}/changes,workdir={folder}/work"
            run("mount", "-t", "overlay", "-o", layers, "clutch-test", str(self.root))
            undo.callback(run, "umount", "--lazy", str(self.root))
            (self.root / "etc/machine-id").unlink(missing_ok=True)
            (self.root / "etc/hostname").write_text(f"{self.host.name}\n")
            undo.callback(_remove_groups, str(folder))
            self._boot(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def run(self, script: str, *, seconds: float = 120, folder: str = "/") -> str:
        """Run a shell script here to its good end; return what it printed."""
        enter = ["nsenter", f"--target={self._leader}", "--all", "--", "/usr/bin/env", "-i"]
        enter += [f"--chdir={folder}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        # Nothing is fetched: there is no way out of the test network.
        enter += ["PIP_NO_INDEX=1", f"PIP_FIND_LINKS={folder}", "PIP_ROOT_USER_ACTION=ignore"]
        done = subprocess.run(
            [*enter, "bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        what = f"{script}\non {self.host.name}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert not done.returncode, what
        return done.stdout

    def _boot(self, undo: contextlib.ExitStack) -> None:
        command = [*self.host.become, "systemd-nspawn", "--quiet", f"--directory={self.root}"]
        command += [f"--machine={self.host.name}-{os.getpid()}", f"--hostname={self.host.name}"]
        command += ["--register=no", "--keep-unit", "--boot", "--console=pipe"]
        console = self.root.parent / "console"
        with console.open("w") as log:
            supervisor = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        undo.callback(supervisor.wait)
        undo.callback(supervisor.kill)
        found = until(
            lambda: (
                processes.named(processes.children_of(supervisor.pid), "systemd")
                or supervisor.poll()
            ),
            seconds=30,
            what=f"{self.host.name} to boot",
        )
        assert isinstance(found, list), f"systemd-nspawn: {console.read_text()}"
        (self._leader,) = found
        # Its end is that of all that runs there.
        undo.callback(supervisor.wait)
        undo.callback(processes.kill, self._leader)
        until(
            lambda: self.run("systemctl is-system-running || true").strip(),
            lambda state: state in {"running", "degraded"},
            seconds=60,
            what=f"{self.host.name} to be up",
        )


def _remove_groups(folder: str) -> None:
    """Remove the groups of a machine that is gone, if no other one is there."""
    tops = [top for group in _GROUPS for top in Path("/sys/fs/cgroup").glob(f"*/{group}")]

    def removed() -> bool:
        for top in tops:
            for group in [*sorted(top.rglob("**/"), reverse=True), top]:
                # Busy for a moment yet, or another machine's.
                with contextlib.suppress(OSError):
                    group.rmdir()
        return not any(top.exists() for top in tops)

    if not _others_run(folder):
        until(removed, what="the groups of a machine to go")


def _others_run(folder: str) -> bool:
    mounts = Path("/proc/mounts").read_text().splitlines()
    return any(line.startswith("clutch-test ") and folder not in line for line in mounts)
