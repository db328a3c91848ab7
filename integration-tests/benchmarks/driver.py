"""A driver process: sets one backend up and runs scenarios as its standard input says.

Each command is a line of JSON with `scenario` and `size`; each answer is one with
`figures` or `failed`. Started by `fleet`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from typing import IO, Any

import backends
import scenarios
from joblib import Parallel, delayed
from model import N_JOBS
from workload import nothing


def main() -> None:
    """Run as ``driver.py BACKEND``."""
    answers = _take_standard_output()
    # What a backend warns of concerns its users, not its speed.
    warnings.simplefilter("ignore")
    backend = backends.BY_NAME[sys.argv[1]]
    backend.load()
    with backend.use(None):
        _say(answers, ready=True)
        for line in sys.stdin:
            command = json.loads(line)
            try:
                _say(answers, figures=_figures(command["scenario"], command["size"]))
            except Exception as error:
                _say(answers, failed=f"{type(error).__name__}: {error}")


def _figures(name: str, size: int) -> dict[str, float]:
    run = scenarios.BY_NAME[name].run
    assert run is not None, f"{name} has no work for a driver"
    # Starts workers that were stopped for being idle; all of them, so more than one task.
    Parallel(n_jobs=N_JOBS, batch_size=1)(delayed(nothing)(i) for i in range(2 * N_JOBS))
    gc.collect()
    return run(size)


def _take_standard_output() -> IO[str]:
    """Keep standard output for answers; what backends print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _say(answers: IO[str], **answer: Any) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
