"""Room for large things: one copy of each, given back in time, and bounds that are told."""

import hashlib
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import tasks
from joblib import delayed
from support import processes
from support.agents import Agent, forget
from support.proxies import Proxy
from support.waiting import until
from support.ways import WAYS, Way, open_way

from joblib_clutch import exceptions

MEGABYTE = 1 << 20
BIG = 200 * MEGABYTE
# What Python, NumPy and the task itself may take besides.
SLACK = 30 * MEGABYTE


@pytest.fixture(scope="module")
def big_agent():
    """Return an agent that only this module uses, so that its books are ours."""
    with Agent("--slots", "2", warm=("numpy", "cloudpickle", "joblib")) as agent:
        yield agent


def memory_of_blobs():
    """Return what this process's maps of blobs take: their length, and its share of their memory."""
    length = share = 0
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-", line):
            ours = "memfd:clutch-blob" in line
        elif ours and line.startswith("Size:"):
            length += int(line.split()[1])
        elif ours and line.startswith("Pss:"):
            share += int(line.split()[1])
    return length * 1024, share * 1024


def meet(folder, number):
    """Wait until another task with another number is here too."""
    Path(folder, str(number)).touch()
    deadline = time.monotonic() + 30
    while len(list(Path(folder).iterdir())) < 2:
        assert time.monotonic() < deadline, "nobody came"
        time.sleep(0.005)


def sum_and_memory(array, folder, number):
    total = float(array.sum())
    before, after = Path(folder, "before"), Path(folder, "after")
    meet(before, number)
    memory = memory_of_blobs()
    # Nobody leaves before the other has looked.
    meet(after, number)
    return os.getpid(), total, *memory


def test_two_workers_and_the_agent_have_one_copy(way, tmp_path):
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    array = np.ones(BIG // 8)
    agents_own = processes.private_bytes(way.agent.pid)
    with way.parallel() as run:
        first, second = run(delayed(sum_and_memory)(array, tmp_path, i) for i in range(2))
        assert first[0] != second[0], "one worker ran both"
        assert (first[1], second[1]) == (array.size, array.size)
        assert first[2] == second[2] == BIG, "each has it mapped once"
        assert first[3] + second[3] <= 1.1 * BIG, "and shares it with the other"
    # Its own memory, that is: it handed the bytes on in small pieces.
    assert processes.private_bytes(way.agent.pid) - agents_own <= SLACK
    # Their own memory, and nothing of the blob is mapped any more.
    for pid in (first[0], second[0]):
        until(lambda pid=pid: processes.private_bytes(pid), lambda size: size <= 3 * SLACK)
        until(lambda pid=pid: "clutch-blob" in processes.maps_of(pid), lambda found: not found)


def test_the_memory_is_given_back_when_the_call_has_ended(big_agent):
    def used():
        return big_agent.status().blobs.memory_bytes

    array, before = np.ones(BIG // 8), used()
    for way in open_way(big_agent, WAYS[0]):
        way.parallel()(delayed(np.sum)(array) for _ in range(4))
        until(used, lambda size: size <= before, seconds=2)
        results = way.parallel()(delayed(np.ones)(BIG // 16) for _ in range(2))
        # The driver has them now; the agent has nothing.
        assert [result.size for result in results] == [BIG // 16] * 2
        until(used, lambda size: size <= before, seconds=2)


def test_results_that_are_dropped_leave_the_driver(way):
    run = way.parallel()
    run(delayed(np.ones)(MEGABYTE) for _ in range(2))
    before = processes.resident_bytes(os.getpid())
    for _ in range(5):
        run(delayed(np.ones)(BIG // 16) for _ in range(2))
    assert processes.resident_bytes(os.getpid()) - before <= 4 * SLACK
    assert "clutch-result" not in processes.maps_of(os.getpid())


def test_the_same_content_is_not_sent_twice(big_agent):
    array = np.random.default_rng(1).random(4 * MEGABYTE)
    with Proxy(big_agent.address) as first, Proxy(big_agent.address) as second:
        try:
            sent = []
            for proxy in (first, first, second):
                before = proxy.sent
                run = Way(big_agent, proxy.address, shares_memory=False).parallel()
                assert run(delayed(digest)(array) for _ in range(4)) == [digest(array)] * 4
                sent.append(proxy.sent - before)
        finally:
            forget(first.address)
            forget(second.address)
    assert array.nbytes <= sent[0] <= 1.01 * array.nbytes, sent
    # Another call, and another session.
    assert max(sent[1:]) <= 100_000, sent


def digest(array):
    return hashlib.blake2b(array).hexdigest()


# Bounds.


@pytest.fixture(params=WAYS)
def small_way(request, tmp_path):
    """Return a way to an agent with little memory and little disk, and where that is."""
    spill = tmp_path / "spill"
    spill.mkdir()
    options = ["--blob-memory-bytes", str(8 * MEGABYTE), "--spill-bytes", str(32 * MEGABYTE)]
    options += ["--spill-directory", str(spill)]
    with Agent("--slots", "2", *options, warm=("numpy", "cloudpickle", "joblib")) as agent:
        yield from open_way(agent, request.param)
        assert list(spill.iterdir()) == []


@pytest.mark.parametrize("kind", WAYS)
def test_the_next_call_has_the_room_of_the_last(kind):
    options = ["--blob-memory-bytes", str(8 * MEGABYTE), "--spill-bytes", "0"]
    array = np.ones(5 * MEGABYTE // 8)
    with Agent("--slots", "2", *options, warm=("numpy", "cloudpickle", "joblib")) as agent:
        for way in open_way(agent, kind):
            for number in range(20):
                array[0] = number
                seen = way.parallel()(delayed(tasks.first)(array) for _ in range(2))
                assert seen == [number, number]


def spilled(agent):
    return agent.status().blobs.spilled_bytes


def where_it_is(array, gate=os.devnull):
    tasks.wait_for(gate)
    maps = Path("/proc/self/maps").read_text()
    return float(array.sum()), "memfd:clutch-blob" in maps, "/spill/" in maps


def test_what_has_no_room_in_memory_goes_to_disk(small_way, gate):
    array = np.random.default_rng(2).random(2 * MEGABYTE)
    with small_way.parallel(return_as="generator") as run:
        gates = [os.devnull] * 10 + [gate] + [os.devnull] * 10
        seen = run(delayed(where_it_is)(array, gate) for gate in gates)
        assert next(seen) == (array.sum(), False, True)
        assert spilled(small_way.agent) == array.nbytes
        tasks.open_gate(gate)
        assert set(seen) == {(array.sum(), False, True)}
    if small_way.shares_memory:
        until(lambda: spilled(small_way.agent), lambda size: size == 0)


def test_results_that_have_no_room_in_memory_arrive(small_way):
    results = small_way.parallel()(delayed(np.full)(MEGABYTE // 2, i) for i in range(24))
    assert [int(result.sum()) for result in results] == [i * MEGABYTE // 2 for i in range(24)]


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_an_argument_over_all_bounds_is_refused_with_the_bounds(small_way, return_as):
    array = np.ones(6 * MEGABYTE)
    with pytest.raises(exceptions.QuotaExceededError) as caught:
        list(small_way.parallel(return_as=return_as)(delayed(np.sum)(array) for _ in range(2)))
    for part in ("`blob-memory-bytes`", "`spill-bytes`", str(array.nbytes), str(8 * MEGABYTE)):
        assert part in str(caught.value), part
    assert caught.value.kind == "QUOTA_EXCEEDED"
    assert caught.value.advice
    # What fits is taken, on the same session.
    assert small_way.parallel()([delayed(np.sum)(array[:MEGABYTE])]) == [MEGABYTE]


def test_arguments_that_together_pass_the_bounds_are_refused(small_way, gate):
    arrays = [np.full(MEGABYTE, i) for i in range(12)]
    with pytest.raises(exceptions.QuotaExceededError, match="spill-bytes"):
        # All are needed at once: no task ends before all have begun.
        small_way.parallel(pre_dispatch="all")(
            delayed(tasks.wait_for)(gate, array) for array in arrays
        )
    until(small_way.used_blobs, lambda used: used == 0)
    # One after the other they fit.
    sums = small_way.parallel(pre_dispatch=2)(delayed(np.sum)(array) for array in arrays)
    assert sums == [i * MEGABYTE for i in range(12)]


def larger(array, times):
    return np.ones(times * array.size)


def test_a_result_over_all_bounds_is_refused_and_its_worker_lives(small_way):
    run = small_way.parallel()
    # With this in memory, results go to disk.
    array = np.ones(MEGABYTE)
    with pytest.raises(exceptions.QuotaExceededError) as caught:
        run([delayed(larger)(array, 6)])
    for part in (str(6 * array.nbytes), "`spill-bytes`"):
        assert part in str(caught.value), part
    assert run([delayed(os.getpid)()]) == [caught.value.pid]
    (result,) = run([delayed(larger)(array, 2)])
    assert result.sum() == 2 * MEGABYTE


def test_a_full_disk_is_an_error_that_names_it(tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()
    options = ["--blob-memory-bytes", "4096", "--spill-directory", str(directory)]
    with Agent("--slots", "2", *options, warm=("numpy", "cloudpickle", "joblib")) as agent:
        for kind in WAYS:
            for way in open_way(agent, kind):
                directory.rmdir()
                with pytest.raises(exceptions.ClutchError, match=str(directory)):
                    way.parallel()([delayed(np.sum)(np.ones(MEGABYTE))])
                directory.mkdir()
                assert way.parallel()([delayed(np.sum)(np.ones(MEGABYTE))]) == [MEGABYTE]
