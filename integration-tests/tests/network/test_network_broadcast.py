"""A big argument crosses the driver's link about once, however many agents there are."""

import os

import pytest
from support.agent_hosts import Cluster

THOROUGH = "CLUTCH_TEST_THOROUGH" in os.environ
AGENTS = 8 if THOROUGH else 3
MEGABYTE = 1_000_000
SIZE = (400 if THOROUGH else 24) * MEGABYTE

# Each agent has to run some of the tasks, so each task takes a while.
SCRIPT = """
    import numpy as np

    def task(array, number):
        time.sleep(0.3)
        return float(array[number]), os.environ["CLUTCH_TEST_MARK"]

    size, agents = int(sys.argv[3]), int(sys.argv[4])
    array = np.random.default_rng(0).random(size // 8)
    # Workers are up before the time is taken.
    run = Parallel(n_jobs=-1, backend="clutch", agents=sys.argv[1], batch_size=1)
    run(delayed(time.sleep)(0.2) for _ in range(4 * agents))
    begun = time.monotonic()
    results = run(delayed(task)(array, number) for number in range(4 * agents))
    say(
        took=time.monotonic() - begun,
        right=[value for value, _ in results] == list(array[: 4 * agents]),
        agents=len({agent for _, agent in results}),
    )
"""


def broadcast(network, agents, rate):
    """Send it to so many agents; return what the script said and the bytes that left."""
    with Cluster(network, agents) as cluster:
        for host in (cluster.home, *cluster.hosts):
            if rate:
                host.link.bandwidth(rate)
        before = cluster.home.link.traffic().sent_bytes
        with cluster.driver(SCRIPT, str(SIZE), str(agents)) as driver:
            said = driver.finish(300)
        assert said["right"]
        assert said["agents"] == agents
        return said, cluster.home.link.traffic().sent_bytes - before


def test_a_big_argument_leaves_the_driver_about_once(network):
    _, sent = broadcast(network, AGENTS, "1gbit" if THOROUGH else None)
    # Headers, and what else drivers say.
    assert SIZE <= sent < 1.3 * SIZE


@pytest.mark.skipif(not THOROUGH, reason="takes a minute: `make test-network`")
@pytest.mark.timeout(600)
def test_many_agents_have_it_hardly_later_than_one(network):
    # All agents share our CPUs, which others may want too.
    one, many = (
        min(broadcast(network, count, "1gbit")[0]["took"] for _ in range(3))
        for count in (1, AGENTS)
    )
    assert many < 1.6 * one
