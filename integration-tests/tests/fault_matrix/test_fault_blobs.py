"""Rows S12 to S18: blobs that cannot be harmed, and what a session may have."""

import os
import pickle
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import tasks
from clutch_wire.clutch.v1 import failure_pb2
from joblib import Parallel, delayed
from support import processes
from support.agents import LIGHT_WARM, Agent
from support.conversations import Conversation
from support.pickles import plain_batch
from support.waiting import until

from joblib_clutch import exceptions as errors
from joblib_clutch.session import Session
from joblib_clutch.settings import Lease

MEGABYTE = 1 << 20


def test_s12_a_blob_on_disk_has_no_name_by_which_it_could_be_changed(tmp_path, gate):
    """There is no check of its bytes: who can reach them could change the check as well."""
    flags = ["--blob-memory-bytes", "4096", "--spill-directory", str(tmp_path)]
    with Agent("--slots", "2", *flags, warm=(*LIGHT_WARM, "numpy")) as agent:

        def wait_and_sum(array, gate):
            return tasks.wait_for(gate, float(array.sum()))

        array = np.ones(2 * MEGABYTE)
        run = Parallel(2, backend="clutch", agents=agent.address, return_as="generator")
        results = run(delayed(wait_and_sum)(array, gate) for _ in range(2))
        until(agent.busy, lambda busy: len(busy) == 2)
        assert agent.status().blobs.spilled_bytes == array.nbytes
        assert list(tmp_path.iterdir()) in ([], [Path(gate)])
        # Not by its descriptor either, but by those who may trace the agent.
        owner = {Path(f"/proc/{agent.pid}/fd").stat().st_uid}
        assert owner == {os.geteuid()}
        tasks.open_gate(gate)
        assert list(results) == [array.sum()] * 2


@pytest.mark.parametrize("how", ["write", "truncate", "grow"])
def test_s13_a_task_cannot_harm_the_blob_of_others(how):
    def harm(array, how):
        """Go behind NumPy's back to the memory itself."""
        import numpy as np

        begin = array.__array_interface__["data"][0]
        for line in Path("/proc/self/maps").read_text().splitlines():
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            if low <= begin < high:
                path = f"/proc/self/map_files/{low:x}-{high:x}"
        try:
            if how == "write":
                np.memmap(path, mode="r+", dtype=np.uint8)[:] = 0
            else:
                os.truncate(path, 4096 if how == "truncate" else 1 << 26)
        except (OSError, ValueError) as error:
            return type(error).__name__
        return "done"

    with Agent("--slots", "2", warm=(*LIGHT_WARM, "numpy")) as agent:
        array = np.ones(2 * MEGABYTE)
        run = Parallel(2, backend="clutch", agents=agent.address)
        assert run([delayed(harm)(array, how)])[0] in {"PermissionError", "OSError"}
        assert run([delayed(np.sum)(array)] * 2) == [array.sum()] * 2


def wait(path):
    """As `tasks.wait_for`, for workers that do not know that module."""
    import time

    while not Path(path).exists():
        time.sleep(0.005)


def name_of(failure):
    return failure_pb2.FailureKind.Name(failure.kind).removeprefix("FAILURE_KIND_")


cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_s18_waiting_batches_have_a_bound_that_is_named(gate):
    with (
        Agent("--slots", "1", "--max-open-batches", "3") as agent,
        Conversation(agent.address) as greedy,
        Conversation(agent.address) as other,
    ):
        for number in range(1, 6):
            greedy.submit(number, plain_batch(wait, gate))
        refused = [greedy.hear("batch_ended") for _ in range(2)]
        assert [ended.batch_id for ended in refused] == [4, 5]
        for ended in refused:
            assert name_of(ended.failure) == "QUOTA_EXCEEDED"
            assert "max-open-batches" in ended.failure.message
        tasks.open_gate(gate)
        other.submit(1, plain_batch(len, "abc"))
        assert pickle.loads(other.hear("batch_ended").value.payload) == [3]


def test_s18_sessions_have_a_bound_that_is_named():
    with Agent("--max-sessions", "1") as agent, Conversation(agent.address) as first:
        with pytest.raises(errors.QuotaExceededError, match="max-sessions"):
            Session(agent.address, Lease(), dict)
        first.submit(1, plain_batch(len, "abc"))
        assert pickle.loads(first.hear("batch_ended").value.payload) == [3]


def test_s18_results_have_a_bound_that_is_named():
    with Agent("--slots", "2", "--max-batch-bytes", "100000") as agent:
        run = Parallel(2, backend="clutch", agents=agent.address, batch_size=1)
        with pytest.raises(errors.QuotaExceededError, match="max-batch-bytes") as caught:
            run(delayed(bytes)(count) for count in (1, 200_000))
        assert processes.is_alive(caught.value.pid), "its worker lives on"
        assert run(delayed(bytes)(1) for _ in range(2)) == [b"\0", b"\0"]
