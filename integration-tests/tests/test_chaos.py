"""A short chaos run; `make chaos` is the long one."""

import subprocess
import sys
import uuid
from pathlib import Path

from support import processes
from support.agents import clean_environment
from support.waiting import until

RUN = Path(__file__).parents[1] / "chaos" / "run.py"


def test_every_result_is_right_whoever_dies():
    mark = uuid.uuid4().hex
    # Kills of the agent are rare, and this run is short: it shall have some.
    often = ["--worker-seconds", "0.2", "--zygote-seconds", "2", "--agent-seconds", "5"]
    ended = subprocess.run(
        [sys.executable, str(RUN), "--seed", "4", "--tasks", "800", "--seconds", "20", *often],
        env=clean_environment(**{processes.MARK: mark}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    until(lambda: processes.marked(mark), lambda left: not left, seconds=5)
