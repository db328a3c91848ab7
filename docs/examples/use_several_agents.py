"""One call on two agents, the second of which comes while the call runs."""

import os
import subprocess
import sys
import time
from pathlib import Path

from joblib import Parallel, delayed, parallel_config

import joblib_clutch


def start(name):
    """Start an agent on this machine. On others, an operator or systemd does."""
    address = f"unix-abstract:{name}-{os.getpid()}"
    clutch = Path(sys.executable).with_name("clutch")
    command = [clutch, "agent", "--listen", address, "--slots", "2", "--python", sys.executable]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own program
    agent.stdout.readline()  # It prints a line once it listens.
    return agent, address


def work(number):
    """Take a while."""
    time.sleep(0.05)
    return number * number


first, address = start("first")
started = [first]
agents = [address]
try:
    # The batches of one that is lost run on the others. Copies of what takes long at
    # the end: only for tasks that may run twice.
    with parallel_config("clutch", n_jobs=-1, agents=agents, speculative=True):
        results = Parallel(batch_size=1, return_as="generator")(
            delayed(work)(number) for number in range(400)
        )
        total = next(results)
        second, address = start("second")
        started.append(second)
        agents.append(address)  # The list is looked at again while the call runs.
        total += sum(results)
finally:
    for agent in started:
        agent.terminate()

summary = joblib_clutch.last_report().summary()
print(total, "computed by", summary["agents"], "agents,", summary["batches_failed"], "failed")
