"""Control groups, as the kernel shows them."""

import os
from pathlib import Path

from clutch_wire.clutch.v1 import executor_pb2 as wire

ROOT = Path("/sys/fs/cgroup")


def of_agent(pid: int) -> list[Path]:
    """Return the groups that an agent made for its workers together, in all hierarchies."""
    # Groups come and go meanwhile, which `os.walk` does not mind.
    return [
        Path(folder) / name
        for folder, names, _ in os.walk(ROOT)
        for name in names
        if name.startswith(f"clutch-{pid}-")
    ]


def of_workers(pid: int) -> list[Path]:
    """Return the groups that an agent made for one worker each."""
    return [path for group in of_agent(pid) for path in group.glob("w*") if path.is_dir()]


def memory_mechanism(status: wire.GetStatusResponse) -> str:
    """Return what holds the memory limit of an agent's workers, for example ``CGROUPS_V1``."""
    return wire.Mechanism.Name(status.enforcement.memory).removeprefix("MECHANISM_")
