"""The clocks of driver and agent jump, and nothing depends on it (rows C01 and C02)."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import Agent, clean_environment
from support.drivers import Driver
from support.waiting import until

HOUR = 3600
# Some milliseconds are lost on a busy machine, a jump would be an hour.
SLACK_SECONDS = 3

# Tells its wall clock before each jump and after it, so that a jump is seen to be one.
SCRIPT = """
    import select

    run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1], batch_size=1, task_timeout=1.5)

    def task(number):
        # Python's sleep and faketime do not go together.
        select.select([], [], [], 0.05)
        return number, time.time()

    for turn in range(3):
        begun = time.monotonic()
        done = run(delayed(task)(i) for i in range(20))
        took = time.monotonic() - begun
        say(**{
            f"turn {turn}": {
                "right": [number for number, _ in done] == list(range(20)),
                "took": took,
                "driver": time.time(),
                "worker": done[-1][1],
            }
        })
        phases = ("queued", "transfer", "unpickled", "pickled")
        durations = sorted(
            seconds
            for row in joblib_clutch.last_report().rows
            for seconds in (*row.ran_seconds, *(getattr(row, f"{p}_seconds") for p in phases))
        )
        say(**{f"durations {turn}": (durations[0], durations[-1])})
        sys.stdin.readline()

    # Jumps in the middle of a task that is too long: it is still killed when it is time.
    def too_long(started):
        open(started, "w").close()
        select.select([], [], [], 30)

    begun = time.monotonic()
    try:
        run([delayed(too_long)(sys.argv[2])])
    except exceptions.TimeLimitError:
        say(killed_after=time.monotonic() - begun)
"""


class Clock:
    """A wall clock that can be set, for programs that are started with it."""

    def __init__(self, folder: Path) -> None:
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self._file = folder / "clock"
        self.set(0)
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: int) -> None:
        """Let the clock show so many seconds more than the machine's."""
        other = self._file.with_suffix(".new")
        other.write_text(f"{offset:+d}")
        other.replace(self._file)


@pytest.fixture
def clock(tmp_path):
    if not list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")):
        pytest.skip("faketime is not installed; see integration-tests/tools/system-packages.sh")
    return Clock(tmp_path)


@contextlib.contextmanager
def agent_of(clock: Clock) -> Iterator[Agent]:
    environment = clean_environment(**clock.variables)
    with Agent("--slots", "2", environment=environment) as agent:
        yield agent


@pytest.mark.parametrize("whose", ["driver", "agent", "both"])
def test_c01_a_wall_clock_that_jumps_changes_nothing(clock, tmp_path, whose):
    jumping = clock.variables if whose != "agent" else {}
    started = tmp_path / "started"
    agent = agent_of(clock) if whose != "driver" else Agent("--slots", "2")
    with agent as agent, Driver(SCRIPT, agent.address, str(started), **jumping) as driver:
        before = check_turn(driver, 0)
        clock.set(HOUR)
        driver.go_on()
        forth = check_turn(driver, 1)
        clock.set(-HOUR)
        driver.go_on()
        back = check_turn(driver, 2)
        for one in ("driver", "worker"):
            jumps = whose == "both" or whose == {"driver": "driver", "worker": "agent"}[one]
            assert abs(forth[one] - before[one] - HOUR * jumps) < 60, one
            assert abs(back[one] - forth[one] + 2 * HOUR * jumps) < 60, one
        driver.go_on()
        until(started.exists, what="a task that is too long")
        clock.set(HOUR)
        assert 1.4 < driver.fact("killed_after") < 1.5 + SLACK_SECONDS
        driver.finish()


def test_c02_agent_and_driver_need_not_have_the_same_monotonic_clock(tmp_path):
    own = ("unshare", "--time", "--monotonic", "100000", "--boottime", "200000")
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("time namespaces are not permitted here")
    with (
        Agent("--slots", "2", become=own) as agent,
        Driver(SCRIPT, agent.address, str(tmp_path / "started")) as driver,
    ):
        for turn in range(3):
            check_turn(driver, turn)
            driver.go_on()
        assert 1.4 < driver.fact("killed_after") < 1.5 + SLACK_SECONDS
        driver.finish()


def check_turn(driver, turn):
    said = driver.fact(f"turn {turn}")
    assert said["right"]
    # Twenty tasks of 50 ms, two at a time.
    assert 0.5 <= said["took"] < 0.5 + SLACK_SECONDS
    shortest, longest = driver.fact(f"durations {turn}")
    assert 0 <= shortest <= longest < 0.5 + SLACK_SECONDS
    return said
