"""A call on eight agents whose links fail: it ends in time, with each task run once (N01 to N05)."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support.agent_hosts import NOTICED_SECONDS, Cluster
from support.links import Direction
from support.waiting import Stopwatch, until
from test_broken_links import BACK, BROKE, CALL, SLACK_SECONDS

AGENTS = 8
# Of them, so many at once.
STRUCK = 3
TASKS = AGENTS * 40
# Two at a time on each, 0.1 s each; and eight agents that start workers on two cores.
IDEAL_SECONDS = 2 + 4
CUT_SECONDS = 8

pytestmark = [
    pytest.mark.skipif(
        "CLUTCH_TEST_THOROUGH" not in os.environ, reason="takes minutes: `make test-network`"
    ),
    pytest.mark.timeout(300),
]


@dataclass(frozen=True)
class Trouble:
    """What happens to several agents at once.

    Parameters
    ----------
    happen : callable
        Does it, when tasks run; returns once it is over.
    seconds : float
        How much longer the call may take.
    told : bool
        Whether the log tells of connections that broke and came back.
    """

    happen: Callable[[Cluster], object]
    seconds: float
    told: bool


def cut(direction: Direction) -> Callable[[Cluster], None]:
    """Cut several agents off, and let them come back."""

    def happen(cluster: Cluster) -> None:
        links = [host.link for host in cluster.hosts[:STRUCK]]
        for link in links:
            link.cut(direction)
        with Stopwatch() as watch:
            until(lambda: watch.seconds > CUT_SECONDS, seconds=CUT_SECONDS + 1)
        for link in links:
            link.heal()

    return happen


def lose(cluster: Cluster) -> None:
    for host in cluster.hosts:
        host.link.lose(0.02)


def reset(cluster: Cluster) -> None:
    assert sum(host.link.reset() for host in cluster.hosts[:STRUCK]) >= STRUCK


TROUBLES = {
    "N01 cut": Trouble(cut("both"), CUT_SECONDS + SLACK_SECONDS, told=True),
    "N01 half open, nothing comes from them": Trouble(
        cut("from"), CUT_SECONDS + SLACK_SECONDS, told=True
    ),
    "N01 half open, nothing comes to them": Trouble(
        cut("to"), CUT_SECONDS + SLACK_SECONDS, told=True
    ),
    "N03 reset": Trouble(reset, SLACK_SECONDS, told=True),
    "N05 two percent are lost": Trouble(lose, SLACK_SECONDS, told=False),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_call_on_many_agents_goes_on_once_their_links_do(network, trouble):
    with Cluster(network, AGENTS) as cluster, cluster.driver(CALL, str(TASKS), "-1") as driver:
        cluster.began(4 * AGENTS)
        trouble.happen(cluster)
        said = driver.finish()
        log = driver.stderr()
        assert said["right"]
        assert said["took"] < IDEAL_SECONDS + trouble.seconds
        assert said["retries"] == 0, log
        assert cluster.runs() == dict.fromkeys(range(TASKS), 1)
        assert (BROKE in log and BACK in log) == trouble.told, log


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_n05_a_long_way_to_many_agents_costs_time_only(network, loss):
    with Cluster(network, AGENTS, cable=True) as cluster:
        # There and back.
        cluster.home.cable.set(delay=0.05, loss=loss)
        with cluster.driver(CALL, str(TASKS), "-1") as driver:
            said = driver.finish()
            assert BROKE not in driver.stderr()
        assert said["right"] and said["retries"] == 0
        # To connect and to send code takes some ways; a packet that is lost 0.2 s and more.
        assert said["took"] < IDEAL_SECONDS + SLACK_SECONDS + (10 if loss else 0)
        assert cluster.runs() == dict.fromkeys(range(TASKS), 1)
        assert bool(cluster.home.cable.counts().lost) == bool(loss)


def test_n01_several_agents_that_do_not_come_back_are_replaced_by_the_others(network):
    silence = 2
    with (
        Cluster(network, AGENTS, silence=silence) as cluster,
        cluster.driver(CALL, str(TASKS), "-1") as driver,
    ):
        cluster.began(4 * AGENTS)
        for host in cluster.hosts[:STRUCK]:
            host.link.cut()
        said = driver.finish()
        assert said["right"]
        assert said["took"] < IDEAL_SECONDS * 2 + NOTICED_SECONDS + silence + SLACK_SECONDS
        runs = cluster.runs()
        assert set(runs) == set(range(TASKS))
        # What they had, at most, and the report tells of each.
        assert 0 < runs.total() - TASKS <= said["retries"]
