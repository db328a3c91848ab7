"""The test hosts themselves: what other tests do to links does happen."""

import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import namespaces
from support.callers import Caller, Listener
from support.hosts import Network
from support.waiting import Stopwatch, until

MEGABYTE = 1_000_000
# When a caller notices that its peer is gone; see `peer_program`.
NOTICED_SECONDS = 3


@pytest.fixture
def pair(network):
    return network.hosts("host", 2)


@pytest.fixture
def wired(network):
    return network.host("near"), network.host("far", cable=True)


def test_hosts_reach_each_other_and_nobody_else(pair):
    one, other = pair
    with Listener(other), Caller(one, other) as caller:
        assert len(caller.echo(3)) == 3
    devices = {line.split()[1].rstrip(":") for line in one.run("ip", "-o", "link").splitlines()}
    assert {device.partition("@")[0] for device in devices} == {"lo", "eth0"}
    assert "default" not in one.run("ip", "route")


def test_a_slow_link_is_as_slow_as_it_should_be(pair):
    one, other = pair
    with Listener(other), Caller(one, other) as caller:
        unbound = caller.send(20 * MEGABYTE)
        other.link.bandwidth("40mbit")
        # The bucket of 256 KiB is not counted, headers are: between 4.5 and 5 MB/s.
        assert 1.7 < caller.send(10 * MEGABYTE) < 3.5
        other.link.bandwidth(None)
        assert unbound < 2 and caller.send(20 * MEGABYTE) < 2


@pytest.mark.parametrize("direction", ["both", "from"])
def test_a_cut_is_silent_noticed_by_keepalive_and_heals(pair, direction):
    one, other = pair
    with Listener(other):
        with Caller(one, other) as caller, Stopwatch() as watch:
            caller.echo(1)
            other.link.cut(direction)
            assert caller.wait_for_end() == "TimeoutError"
            assert 1 < watch.seconds < NOTICED_SECONDS
            assert other.link.dropped() > 0
        other.link.heal()
        with Caller(one, other) as caller:
            caller.echo(1)


def test_a_short_cut_costs_time_only(pair):
    one, other = pair
    with Listener(other), Caller(one, other) as caller:
        other.link.cut()
        with ThreadPoolExecutor() as background, Stopwatch() as watch:
            echoes = background.submit(caller.echo, 3)
            until(other.link.dropped, what="something on its way")
            other.link.heal()
            assert len(echoes.result(NOTICED_SECONDS)) == 3
        assert watch.seconds < 2


def test_lost_packets_are_counted_and_sent_again(pair):
    one, other = pair
    with Listener(other), Caller(one, other) as caller:
        other.link.lose(0.02)
        caller.send(5 * MEGABYTE)
        dropped = other.link.dropped()
        traffic = other.link.traffic()
        other.link.heal()
        assert other.link.dropped() == 0
    # 3,500 packets of data; a loss on the way in is none of the device's counts.
    assert 0.01 < dropped / (traffic.sent_packets + traffic.received_packets) < 0.04


def test_a_reset_ends_a_connection_at_once_for_both_sides(pair):
    one, other = pair
    with Listener(other), Caller(one, other) as caller:
        with Stopwatch() as watch:
            assert other.link.reset() == 1
            assert caller.wait_for_end() == "ConnectionResetError"
        assert watch.seconds < 1
    with Listener(other), Caller(one, other) as caller:
        caller.echo(1)


def test_the_kernel_counts_what_passes_a_link(pair):
    one, other = pair
    with Listener(other), Caller(one, other) as caller:
        before = one.link.traffic()
        caller.send(5 * MEGABYTE)
        after = one.link.traffic()
    assert 5.0 < (after.sent_bytes - before.sent_bytes) / MEGABYTE < 5.5
    assert (after.received_bytes - before.received_bytes) / MEGABYTE < 0.5


def test_a_cable_delays_both_ways(wired):
    near, far = wired
    with Listener(far), Caller(near, far) as caller:
        assert statistics.median(caller.echo(20)) < 0.02
        far.cable.set(delay=0.05, jitter=0.01)
        taken = caller.echo(20)
        assert min(taken) > 0.08
        assert 0.09 < statistics.median(taken) < 0.16
        far.cable.set()
        assert statistics.median(caller.echo(20)) < 0.02


def test_a_cable_loses_doubles_and_counts(wired):
    near, far = wired
    with Listener(far), Caller(near, far) as caller:
        far.cable.set(delay=0.001, loss=0.05, duplicate=0.2)
        caller.echo(100)
        counts = far.cable.counts()
    assert counts.carried > 150
    assert 0.01 < counts.lost / (counts.carried + counts.lost) < 0.12
    assert 0.1 < counts.duplicated / counts.carried < 0.3
    assert counts.overflowed == 0


def test_a_link_with_a_cable_can_be_cut_too(wired):
    near, far = wired
    with Listener(far), Caller(near, far) as caller:
        far.cable.set(delay=0.01)
        far.link.cut()
        assert caller.wait_for_end() == "TimeoutError"


def test_a_program_on_a_host_has_the_machines_control_groups(network):
    host = network.host("host")
    ours = Path("/proc/self/cgroup").read_text()
    assert host.run("cat", "/proc/self/cgroup") == ours
    assert set(host.run("ls", "/sys/fs/cgroup").split()) == names_in(Path("/sys/fs/cgroup"))


def test_nothing_remains_of_a_network_whatever_happened():
    with pytest.raises(KeyError), Network() as network:
        host = network.host("host", cable=True)
        sleeper = host.popen(["sleep", "600"])
        # Another run of tests may have some of its own.
        ours = {space for space in spaces() if f"-{os.getpid()}-" in space}
        raise KeyError
    assert sleeper.wait(5)
    assert len(ours) == 2
    assert not ours & spaces()


def test_what_a_killed_test_run_left_is_swept():
    script = """
import sys, time
from support.hosts import Network
with Network() as network:
    network.host("host").popen(["sleep", "600"])
    print(network.host("other").become[1], flush=True)
    time.sleep(600)
"""
    run = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    left = Path(run.stdout.readline().decode().strip().removeprefix("--net="))
    assert left.exists()
    # It lives: not ours to sweep.
    namespaces.sweep()
    assert left.exists()
    run.kill()
    run.wait()
    run.stdout.close()
    namespaces.sweep()
    until(lambda: not left.exists(), what="the sweep")
    assert not [name for name in spaces() if f"-{run.pid}-" in name]


def spaces():
    return names_in(Path("/run/netns"))


def names_in(folder):
    return {entry.name for entry in folder.iterdir()}
