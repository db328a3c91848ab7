"""The examples of the documentation run, and say what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.agents import clean_environment

EXAMPLES = Path(__file__).parents[2] / "docs/examples"

# What must appear in each example's output.
PROMISES = {
    "explain_a_crash": [
        r"^what: worker \d+ was killed by SIGSEGV \(11\) while it ran task \d+ of \d+",
        r"^function: <function step at ",
        r"^process: \d+ on ",
        r"^signal: SIGSEGV$",
        r"^exit code: None$",
        r'^ +File ".*explain_a_crash\.py", line \d+ in step$',
        r"^advice: .",
        r"^\[0, 1, 2\]$",
    ],
    "grid_search_with_time_limit": [
        r"^without scaling: task \d+ ran longer than its limit of 3 s",
        r"^with scaling: \{'svc__C': .*\}, accuracy 0\.9\d+$",
    ],
    "limit_memory": [
        r"limit of 400\.0 MB",
        r"^  limit: 400\.0 MB, peak: \d",
        r"^\d+ MB of 400 MB, fault: TASK$",
        r"^\[\(1, 1\.\d+\), .*, \(60, \d\.\d+\)\]$",
        r"^process \d+ had \d+ MB at most: OK$",
    ],
    "share_a_large_array": [
        r"^tasks were given: memmap; medians: \[1\. 2\. 3\. 4\.\]$",
        r"^24 tasks in 12 batches on [12] workers, 0 failed;",
        r"^76 MiB, \d+\.\d{4} s to hand over a batch$",
    ],
    "ship_your_code": [
        r"^\[2\.0, 3\.0\]$",
        r"^a copy: True$",
        r"^\['READ ON THE WORKER!', 'READ ON THE WORKER!'\]$",
    ],
    "use_several_agents": [r"^21253400 computed by 2 agents, 0 failed$"],
    "stream_results": [
        r"^1: seed \d+ gave [+-]\d",
        r"gave \+[1-9]",
        r"^\d{1,2} of 1000 tasks reported back$",
    ],
    "use_an_agent_on_tcp": [
        r"^agents: True$",
        r"^<clutch agents of .*/cluster\.json>$",
        r"^task 3 ran below process of the agent$",
        r"^127\.0\.0\.1:\d+ .* serving +2 ",
    ],
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == PROMISES.keys()


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_the_example_keeps_its_promise(name, tmp_path):
    ran = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    missing = [p for p in PROMISES[name] if not re.search(p, ran.stdout, re.MULTILINE)]
    assert missing == [], ran.stdout
