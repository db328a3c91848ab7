"""docs/install.md, followed to the letter on two clean machines."""

import functools
import os
import re
import shutil
import subprocess
import sys

import pytest
from support import machines
from support.environments import ROOT
from support.machines import Machine
from test_documents import section
from test_wheel import wheel_or_skip

GUIDE = ROOT / "docs/install.md"
DEPLOY = ROOT / "docs/deploy"
# Of the machines, not ours.
PYTHON = "3.11"
KIT = "/root/kit"
PORT = 7077

pytestmark = [
    pytest.mark.skipif(
        "CLUTCH_TEST_THOROUGH" not in os.environ, reason="takes minutes: `make test-network`"
    ),
    pytest.mark.timeout(900),
]


def steps(heading):
    """Return the shell commands below a heading of the guide, block by block."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section(GUIDE, heading), re.MULTILINE | re.DOTALL)
    assert blocks, heading
    return blocks


@functools.cache
def kit():
    """Return a folder with all that the guide has people bring."""
    folder = ROOT / ".cache/kit"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("joblib_clutch-*.whl"):
        old.unlink()
    shutil.copy(wheel_or_skip(), folder)
    for file in DEPLOY.iterdir():
        shutil.copy(file, folder)
    wanted = ["numpy", "scikit-learn", "joblib", "cloudpickle", "threadpoolctl"]
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    fetch += ["--only-binary=:all:", f"--python-version={PYTHON}", *wanted]
    fetched = subprocess.run(fetch, capture_output=True, text=True, timeout=300, check=False)
    if fetched.returncode:
        pytest.skip(f"packages for the machines cannot be had: {fetched.stderr[-300:]}")
    return folder


@pytest.fixture
def pair(network):
    """Return two clean machines, with the kit."""
    if reason := machines.why_not():
        pytest.skip(reason)
    hosts = [network.host("one"), network.host("two")]
    with Machine(hosts[0]) as one, Machine(hosts[1]) as two:
        for machine in (one, two):
            shutil.copytree(kit(), machine.root / KIT.lstrip("/"))
            known = "".join(f"{host.address} {host.name}\n" for host in hosts)
            (machine.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{known}")
        yield one, two


def follow(machine, heading, *, block=0, **changes):
    """Do what a block of the guide says, but for what the kit has already."""
    script = steps(heading)[block]
    # In the root already; there is no mirror in the test network.
    script = re.sub(r"^apt install .*\n", "", script, flags=re.MULTILINE)
    for old, new in changes.pop("replace", {}).items():
        assert old in script, (heading, old)
        script = script.replace(old, new)
    return machine.run(script, folder=KIT)


def test_the_guide_leads_to_a_cluster_on_clean_machines(pair, network):
    one, two = pair
    for machine in pair:
        follow(machine, "### 1. User and package")
        follow(machine, "### 2. Settings and units", block=0)
        doctor = follow(machine, "### 2. Settings and units", block=1)
        assert "What holds limits here" in doctor
