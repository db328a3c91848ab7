"""Rows L16 to L20: what the machine does not have, and what a killed agent leaves there."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bad_tasks
import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed
from support import groups, processes
from support.agents import LIGHT_WARM, Agent
from support.mechanisms import agent_by
from support.oracle import Oracle
from support.waiting import until

from joblib_clutch import exceptions as errors

MEGABYTE = 1 << 20


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of a size on a folder."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "clutch-test", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_l16_a_full_disk_fails_its_batch_and_leaves_no_file(tmp_path):
    flags = ["--slots", "2", "--blob-memory-bytes", str(MEGABYTE)]
    with (
        small_disk(tmp_path / "small", 16 * MEGABYTE) as folder,
        Agent(*flags, "--spill-directory", str(folder), warm=(*LIGHT_WARM, "numpy")) as agent,
        Oracle(agent) as oracle,
    ):
        with pytest.raises(errors.ClutchError, match=r"(?i)no space|full"):
            oracle.call([delayed(np.sum)(np.ones(8 * MEGABYTE))] * 2)
        assert list(folder.iterdir()) == []
        total = oracle.call([delayed(np.sum)(np.ones(MEGABYTE))] * 2)
        assert total == [MEGABYTE] * 2


def test_l17_a_blob_over_every_bound_is_refused_and_nobody_gets_sigbus(oracle):
    """Room is taken before it is written: see also the bounds of big data."""
    with (
        Agent("--blob-memory-bytes", "1048576", "--spill-bytes", "0") as agent,
        Oracle(agent) as small,
        pytest.raises(errors.QuotaExceededError),
    ):
        small.call([delayed(np.sum)(np.ones(8 * MEGABYTE))] * 2)


def test_l19_without_control_groups_the_agent_says_so_and_limits_hold():
    with agent_by("sampling") as agent, Oracle(agent) as oracle:
        enforcement = agent.status().enforcement
        assert groups.memory_mechanism(agent.status()) == "SAMPLING"
        assert enforcement.cannot, "what is not promised must be said"
        error = oracle.raised(delayed(bad_tasks.hog)(3 << 30, 60), memory_limit="256MiB")
        assert type(error) is errors.MemoryLimitError
        assert groups.of_agent(agent.pid) == []


def test_l20_what_a_killed_agent_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    def use(agent: Agent) -> None:
        run = Parallel(
            2,
            backend="clutch",
            agents=agent.address,
            memory_limit="256MiB",
            process_limit=50,
            scratch_limit="1MiB",
        )
        run(delayed(tasks.pid)() for _ in range(2))

    flags = ("--scratch-directory", str(tmp_path))
    with agent_by("groups", *flags) as first:
        use(first)
        left = groups.of_agent(first.pid)
        assert left
        strangers = [left[0].parent / name for name in ("clutch-test-1-1", "clutch-1-x")]
        for stranger in strangers:
            stranger.mkdir()
        (tmp_path / "clutch-precious").touch()
        try:
            family = processes.descendants_of(first.pid)
            processes.kill(first.pid)
            until(lambda: [pid for pid in family if processes.is_alive(pid)], lambda pids: not pids)
            assert groups.of_agent(first.pid) == left, "a killed agent cannot tidy up"
            with agent_by("groups", *flags) as second:
                until(lambda: groups.of_agent(first.pid), lambda found: not found, seconds=3)
                assert list(tmp_path.glob(f"clutch-{first.pid}-*")) == []
                assert all(stranger.is_dir() for stranger in strangers)
                assert (tmp_path / "clutch-precious").exists()
                use(second)
            assert groups.of_agent(second.pid) == [], "an orderly end tidies up"
        finally:
            for stranger in strangers:
                stranger.rmdir()
