"""Thousands of tasks while workers, zygotes and the agent are killed at random.

Every result must be right, none missing and none doubled; and no task may have run more
often than the report admits. What was drawn is decided by the seed; whom a kill finds at
what is not.
"""

import argparse
import collections
import logging
import random
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests")]

from joblib import Parallel  # noqa: E402
from killer import Killer  # noqa: E402
from schedule import MEAN_SECONDS, kills  # noqa: E402
from work import Job, Mill  # noqa: E402

import joblib_clutch  # noqa: E402
from joblib_clutch import exceptions  # noqa: E402

# Longest wait for one result, in seconds: whoever waits longer waits for ever.
PATIENCE_SECONDS = 60
# What a call may end with that is not run again.
GIVEN_UP = (exceptions.WorkerKilledError, exceptions.AgentUnavailableError)


@dataclass
class Tally:
    """What happened, added up."""

    calls: int = 0
    given_up: int = 0
    tasks: int = 0
    runs: int = 0
    admitted: int = 0
    wrong: list[str] = field(default_factory=list)
    sorts: collections.Counter[str] = field(default_factory=collections.Counter)


def run_job(job: Job, folder: Path, tally: Tally, killer: Killer) -> None:
    """Run a job to its end, and look at its results and at how often its tasks ran."""
    before = killer.killed.copy()
    tally.calls += 1
    tally.sorts[job.kind] += 1
    complete = True
    try:
        run = Parallel(n_jobs=2, backend="clutch", timeout=PATIENCE_SECONDS, **job.options)
        job.check(list(run(job.tasks)))
    except GIVEN_UP:
        if job.options["retries"]:
            raise
        tally.given_up += 1
        complete = False
    tally.tasks += len(job.tasks)
    runs = collections.Counter(int(path.name.partition(".")[0]) for path in folder.iterdir())
    report = joblib_clutch.last_report()
    admitted = sum((row.attempts - 1) * row.tasks for row in report.rows)
    tally.runs += runs.total()
    tally.admitted += admitted
    if complete and len(runs) != len(job.tasks):
        raise AssertionError(f"{len(runs)} tasks of {len(job.tasks)} ran")
    if job.options["retries"] == 0 and runs and max(runs.values()) > 1:
        raise AssertionError(f"with retries=0 a task ran {max(runs.values())} times")
    during = killer.killed - before
    if during["agent"]:
        # What it had run again already, nobody can tell any more.
        admitted += during["worker"] * max((row.tasks for row in report.rows), default=0)
    if complete and runs.total() - len(runs) > admitted:
        raise AssertionError(
            f"{runs.total() - len(runs)} runs too many, and {admitted} are admitted"
        )


def run(given: argparse.Namespace, seed: int) -> int:
    """Run jobs until there were enough tasks or it took too long; return the exit code."""
    print(f"seed {seed}", flush=True)
    tasks, seconds = given.tasks, given.seconds
    means = {kind: getattr(given, f"{kind}_seconds") for kind in MEAN_SECONDS}
    mill = Mill(random.Random(seed))
    tally = Tally()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="clutch-test-") as home:
        with Killer(kills(seed, means)) as killer:
            while tally.tasks < tasks and time.monotonic() - begin < seconds:
                folder = Path(home) / str(tally.calls)
                folder.mkdir()
                job = mill.job(folder, tasks - tally.tasks)
                try:
                    run_job(job, folder, tally, killer)
                except Exception:
                    tally.wrong.append(traceback.format_exc())
                    print(f"call {tally.calls}, {job.kind} {job.options}:", flush=True)
                    print(tally.wrong[-1], flush=True)
        took = time.monotonic() - begin
    killed = ", ".join(f"{killer.killed[kind]} {kind}s" for kind in MEAN_SECONDS)
    sorts = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.sorts.items()))
    print(
        f"{tally.tasks} tasks in {tally.calls} calls ({sorts}), {took:.1f} s\n"
        f"killed: {killed}\n"
        f"{tally.runs} runs of tasks; {tally.admitted} more than tasks are admitted\n"
        f"{tally.given_up} calls with retries=0 ended early\n"
        f"{len(tally.wrong)} calls went wrong"
    )
    return 1 if tally.wrong else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what decides; drawn when absent")
    parser.add_argument("--tasks", type=int, default=6000, help="end after so many")
    parser.add_argument("--seconds", type=float, default=100, help="end after so long")
    for kind, mean in MEAN_SECONDS.items():
        parser.add_argument(f"--{kind}-seconds", type=float, default=mean, metavar="MEAN")
    given = parser.parse_args()
    # That batches are run again is what this is about.
    warnings.simplefilter("ignore", UserWarning)
    logging.disable()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    return run(given, seed)


if __name__ == "__main__":
    sys.exit(main())
