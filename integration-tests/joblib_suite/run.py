"""Runs joblib's own tests of ``Parallel`` on Clutch, for several versions of joblib."""

import argparse
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from prepare import ROOT, SUITES, environment, suite

VERSIONS = ["1.3.2", "1.4.2", "1.5.3", "1.6.0"]
AT_ONCE = 2
TEST_TIMEOUT_SECONDS = 60
ENDINGS = ["passed", "failed", "excluded", "skipped", "others"]


class Outcome(NamedTuple):
    """What a run came to."""

    version: str
    counts: dict[str, int]
    seconds: float
    succeeded: bool
    log: Path


class Prepared(NamedTuple):
    """What a run needs."""

    version: str
    python: Path
    folder: Path


def run(prepared: Prepared, keyword: str) -> Outcome:
    """Run the tests with one version of joblib."""
    version, python, folder = prepared
    counts, log = folder / "counts.json", folder / "pytest.log"
    counts.unlink(missing_ok=True)
    paths = [Path(__file__).parent, ROOT / "python-shim" / "src"]
    variables = {
        "JOBLIB_TESTS_DEFAULT_PARALLEL_BACKEND": "clutch",
        # Also for the scripts that the tests start.
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    command = [python, "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider"]
    command += ["--rootdir", folder, "--counts", counts, "--timeout", str(TEST_TIMEOUT_SECONDS)]
    command += ["-q", "-rfEs", "--durations=10", "-k", keyword, *SUITES]
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seconds = time.monotonic() - begin
    numbers = json.loads(counts.read_text()) if counts.is_file() else {}
    if process.returncode != 0:
        # A run that broke off may not have counted what broke it.
        numbers["failed"] = max(numbers.get("failed", 0), 1)
    return Outcome(version, numbers, seconds, process.returncode == 0, log)


def report(outcomes: list[Outcome]) -> bool:
    """Print what failed, a table, and the sum; tell whether all is well."""
    for outcome in outcomes:
        if not outcome.succeeded:
            lines = outcome.log.read_text(errors="replace").splitlines()
            failures = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
            print(f"\njoblib {outcome.version}: see {outcome.log.relative_to(ROOT)}")
            print("\n".join(failures or lines[-20:]))
    print("\njoblib " + "".join(f"{ending:>10}" for ending in ENDINGS) + "   seconds")
    for outcome in outcomes:
        numbers = "".join(f"{outcome.counts.get(ending, 0):>10}" for ending in ENDINGS)
        print(f"{outcome.version:<7}{numbers}{outcome.seconds:>10.0f}")
    print(
        "excluded: listed in exclusions.toml; skipped: by joblib's suite; others: cases of"
        " other backends, not run\n"
    )
    total = {ending: sum(o.counts.get(ending, 0) for o in outcomes) for ending in ENDINGS}
    skipped = total["excluded"] + total["skipped"]
    print(f"{total['passed']} passed, {total['failed']} failed, {skipped} skipped")
    return all(outcome.succeeded for outcome in outcomes)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="versions of joblib")
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="only these tests")
    arguments = parser.parse_args()
    prepared = [Prepared(v, environment(v), suite(v)) for v in arguments.versions]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(run, prepared, [arguments.k] * len(prepared)))
    return 0 if report(outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
