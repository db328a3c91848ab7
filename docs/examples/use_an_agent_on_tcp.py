"""Tasks on an agent that listens on TCP: here on this machine, and elsewhere just the same."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

from joblib import Parallel, delayed

import joblib_clutch


def where(number: int) -> str:
    """Say what ran where."""
    return f"task {number} ran below process {os.getppid()}"


# On the agent's host: `clutch agent --listen 0.0.0.0:5125 --access-file cluster.json`. It makes
# certificates and a token when the file is not there. Copy the file to whoever is to use it.
# Tasks run as the worker-user: here as you, and as `nobody` when root's agent is told nothing.
clutch = [sys.executable, "-m", "joblib_clutch"]
access = Path("cluster.json")
agent = subprocess.Popen(  # noqa: S603 - our own command
    [*clutch, "agent", "--listen", "127.0.0.1:0", "--access-file", access, "--slots", "2",
     "--python", sys.executable, "--worker-user", getpass.getuser()],
    stdout=subprocess.PIPE,
)  # fmt: skip
with agent:
    ready = json.loads(agent.stdout.readline())
    print("agents:", json.loads(access.read_text())["agents"] == [ready["address"]])

    # On the driver's.
    with joblib_clutch.connect(access) as cluster:
        print(cluster)
        for line in Parallel(n_jobs=-1)(delayed(where)(number) for number in range(4)):
            print(line.replace(str(ready["pid"]), "of the agent"))

    subprocess.run([*clutch, "status", "--access-file", access], check=True)  # noqa: S603 - as above
    agent.terminate()
