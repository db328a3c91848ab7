"""A driver's link to its agent fails in the middle of a call (rows N01 to N07)."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support import processes
from support.agent_hosts import NOTICED_SECONDS, Cluster
from support.links import Link
from support.waiting import Stopwatch, until

TASKS = 40
# Two at a time, 0.1 s each.
IDEAL_SECONDS = TASKS * 0.1 / 2
# A busy machine, and the pauses between attempts to connect again.
SLACK_SECONDS = 4

BROKE = "broke"
BACK = "is back"

CALL = """
    access, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    jobs = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    log = os.path.join(folder, "log")

    def task(number):
        # First, so that a run which nobody waits for any more counts too.
        with open(log, "a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.1)
        return number * 2

    with parallel_config("clutch", agents=access, n_jobs=jobs):
        begun = time.monotonic()
        results = Parallel(batch_size=1)(delayed(task)(number) for number in range(count))
    say(
        right=results == [number * 2 for number in range(count)],
        took=time.monotonic() - begun,
        retries=joblib_clutch.last_report().summary()["retries"],
    )
"""


@dataclass(frozen=True)
class Fault:
    """What happens to the link of the agent's host, and what the user may notice.

    Parameters
    ----------
    happen : callable
        Does it, when tasks run; returns once it is over.
    seconds : float
        How much longer the call may take.
    told : bool
        Whether the log tells of a connection that broke and came back.
    """

    happen: Callable[[Link], object]
    seconds: float
    told: bool


def cut_for(seconds: float, direction: str = "both") -> Callable[[Link], None]:
    """Cut the link for a while."""

    def happen(link: Link) -> None:
        link.cut(direction)
        with Stopwatch() as watch:
            until(lambda: watch.seconds > seconds, seconds=seconds + 1)
        link.heal()

    return happen


THOROUGH = "CLUTCH_TEST_THOROUGH" in os.environ

FAULTS = {
    "N02 cut for two seconds": Fault(cut_for(2), 2 + SLACK_SECONDS, told=False),
    "N01 cut until both have noticed": Fault(cut_for(8), 8 + SLACK_SECONDS, told=True),
    "N01 half open, nothing comes from the agent": Fault(
        cut_for(8, "from"), 8 + SLACK_SECONDS, told=True
    ),
    "N03 reset": Fault(Link.reset, SLACK_SECONDS, told=True),
    "N05 two percent of the packets are lost": Fault(
        lambda link: link.lose(0.02), SLACK_SECONDS, told=False
    ),
}
# More of the same kinds, which take their time.
MORE_FAULTS = {
    "N01 half open, nothing comes to the agent": Fault(
        cut_for(8, "to"), 8 + SLACK_SECONDS, told=True
    ),
    "N03 reset, three times": Fault(
        lambda link: [cut_for(0.5)(link) or link.reset() for _ in range(3)],
        3 + SLACK_SECONDS,
        told=True,
    ),
}
if THOROUGH:
    FAULTS |= MORE_FAULTS


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_goes_on_once_its_link_does(network, fault):
    with Cluster(network, 1) as cluster, cluster.driver(CALL, str(TASKS)) as driver:
        cluster.began(6)
        fault.happen(cluster.hosts[0].link)
        said = driver.finish()
        assert said["right"]
        assert said["took"] < IDEAL_SECONDS + fault.seconds
        assert said["retries"] == 0, driver.stderr()
        # Nothing ran twice, nothing was left out.
        assert cluster.runs() == dict.fromkeys(range(TASKS), 1)
        log = driver.stderr()
        assert (BROKE in log and BACK in log) == fault.told, log


def test_n05_a_long_link_that_loses_and_doubles_costs_time_only(network):
    with Cluster(network, 1, cable=True) as cluster:
        cluster.home.cable.set(delay=0.05, jitter=0.01, loss=0.02, duplicate=0.05)
        with cluster.driver(CALL, str(TASKS)) as driver:
            said = driver.finish()
            assert BROKE not in driver.stderr()
        assert said["right"]
        # Each way takes 0.05 s, a packet that is lost 0.2 s and more.
        assert said["took"] < IDEAL_SECONDS + TASKS / 2 * 0.2 + SLACK_SECONDS
        assert cluster.runs() == dict.fromkeys(range(TASKS), 1)
        assert cluster.home.cable.counts().lost > 0


def test_n04_a_slow_link_is_not_taken_for_a_dead_one(network):
    script = """
        import numpy as np

        array = np.random.default_rng(0).random(500_000)
        with parallel_config("clutch", agents=sys.argv[1], n_jobs=2):
            begun = time.monotonic()
            sums = Parallel()(delayed(np.sum)(array) for _ in range(4))
        say(right=[float(each) for each in sums] == [float(array.sum())] * 4)
        say(took=time.monotonic() - begun)
    """
    with Cluster(network, 1) as cluster:
        # Four megabytes take eight seconds, longer than silence may last.
        cluster.home.link.bandwidth("4mbit")
        with cluster.driver(script) as driver:
            said = driver.finish()
            assert BROKE not in driver.stderr()
        assert said["right"]
        assert NOTICED_SECONDS < said["took"] < 8 + 2 * SLACK_SECONDS


def test_n06_a_driver_that_is_killed_leaves_its_agent_at_once(network):
    with Cluster(network, 1) as cluster, cluster.driver(CALL, "10000") as driver:
        cluster.began(4)
        assert len(cluster.workers(0)) == 2
        driver.process.kill()
        until(lambda: not cluster.workers(0), seconds=3, what="the end of its workers")


def test_n07_a_driver_whose_machine_vanishes_is_given_up_at_the_end_of_its_lease(network):
    silence = 3
    with Cluster(network, 1, silence=silence) as cluster, cluster.driver(CALL, "10000"):
        cluster.began(4)
        (worker, _) = cluster.workers(0)
        cluster.home.link.cut()
        with Stopwatch() as watch:
            until(lambda: not cluster.workers(0), seconds=30, what="the end of its workers")
        assert silence < watch.seconds < silence + NOTICED_SECONDS + 1
        assert not processes.is_alive(worker)


def test_n01_an_agent_that_does_not_come_back_is_an_error_in_time(network):
    script = """
        def task(folder, number):
            with open(os.path.join(folder, "log"), "a") as file:
                file.write(f"{number}\\n")
            time.sleep(0.1)

        run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1], batch_size=1, retries=0,
                       silence_limit=2)
        try:
            run(delayed(task)(sys.argv[2], number) for number in range(10_000))
        except exceptions.AgentUnavailableError as error:
            say(error=str(error), at=time.monotonic())
    """
    with Cluster(network, 1) as cluster, cluster.driver(script) as driver:
        cluster.began(4)
        cluster.hosts[0].link.cut()
        with Stopwatch() as watch:
            error = driver.fact("error", seconds=40)
        # Noticed, waited for as long as the session lasts, and then tried once more.
        assert watch.seconds < NOTICED_SECONDS + 2 + 2 * SLACK_SECONDS
        assert cluster.hosts[0].address in error
        driver.finish()


@pytest.mark.parametrize("direction", ["from", "both"] if THOROUGH else ["from"])
def test_n01_what_an_agent_had_that_is_cut_off_runs_on_the_others(network, direction):
    agents, silence = 3, 2
    with (
        Cluster(network, agents, silence=silence) as cluster,
        cluster.driver(CALL, str(3 * TASKS), "-1") as driver,
    ):
        cluster.began(4 * agents)
        cluster.hosts[0].link.cut(direction)
        said = driver.finish()
        assert said["right"]
        # The same time for three times as many tasks; then it is noticed and waited for.
        assert said["took"] < 2 * IDEAL_SECONDS + NOTICED_SECONDS + silence + SLACK_SECONDS
        runs = cluster.runs()
        assert set(runs) == set(range(3 * TASKS))
        # Only what was lost ran once more, and the report tells of it.
        assert said["retries"] > 0
        assert runs.total() - 3 * TASKS <= said["retries"]
        # In the end nobody works there for a driver that is gone.
        until(lambda: not cluster.workers(0), seconds=NOTICED_SECONDS + silence + SLACK_SECONDS)


TWO_CALLS = """
    access, folder, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])

    def task(number):
        with open(os.path.join(folder, "log"), "a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.1)
        return number, os.environ["CLUTCH_TEST_MARK"]

    with parallel_config("clutch", agents=access, n_jobs=jobs):
        run = Parallel(batch_size=1)
        say(first=len({mark for _, mark in run(delayed(task)(number) for number in range(12))}))
        sys.stdin.readline()
        begun = time.monotonic()
        done = run(delayed(task)(number) for number in range(12, 32))
    say(
        right=[number for number, _ in done] == list(range(12, 32)),
        second=len({mark for _, mark in done}),
        took=time.monotonic() - begun,
    )
"""


@pytest.mark.parametrize("others", [1, 0] if THOROUGH else [1])
def test_an_agent_whose_connection_broke_gets_nothing_until_it_is_back(network, others):
    agents = 1 + others
    with (
        Cluster(network, agents) as cluster,
        cluster.driver(TWO_CALLS, str(2 * agents)) as driver,
    ):
        assert driver.fact("first") == agents
        cluster.hosts[0].link.cut()
        until(lambda: BROKE in driver.stderr(), seconds=NOTICED_SECONDS + 1)
        driver.go_on()
        if others:
            # The others do it all, long before the connection is given up.
            assert driver.fact("took") < 1 + SLACK_SECONDS
        else:
            # Longer than a call looks for agents when it has none.
            cut_for(7)(cluster.hosts[0].link)
            assert 7 < driver.fact("took") < 7 + 1 + SLACK_SECONDS
        said = driver.finish()
        assert said["right"] and said["second"] == 1
        assert cluster.runs() == dict.fromkeys(range(32), 1)
        assert "nothing was lost" in driver.stderr() or others


def test_n01_with_copies_a_call_does_not_wait_for_an_agent_that_is_cut_off(network):
    script = CALL.replace("n_jobs=jobs", "n_jobs=jobs, speculative=True")
    with Cluster(network, 2) as cluster, cluster.driver(script, str(2 * TASKS), "-1") as driver:
        cluster.began(8)
        cluster.hosts[0].link.cut()
        with Stopwatch() as watch:
            said = driver.finish()
        # It is cut off for good, and its session would be waited for.
        assert watch.seconds < 2 * IDEAL_SECONDS + SLACK_SECONDS
        assert said["right"]
        runs = cluster.runs()
        assert set(runs) == set(range(2 * TASKS))
        # Copies of what it had: two that ran, and some that were on their way.
        assert runs.total() - 2 * TASKS <= 8
