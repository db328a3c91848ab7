"""docs/install.md, followed to the letter on two clean machines."""

import functools
import os
import re
import shutil
import subprocess
import sys

import pytest
from support import machines
from support.agent_hosts import KEEPALIVE
from support.drivers import Driver
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


def secure(machine):
    """Close the machine but for what the guide opens, on the test network."""
    machine.run("nft -f /etc/nftables.conf && nft add chain inet filter input '{ policy drop; }'")
    machine.run("nft add rule inet filter input ct state established,related accept")
    follow(machine, "### 3. Firewall", replace={"10.0.0.0/24": "10.77.0.0/24"})


CALL = """
    def task(number):
        time.sleep(0.2)
        return number, os.environ["INVOCATION_ID"], os.getuid()

    rounds = int(sys.argv[2])
    with parallel_config("clutch", n_jobs=-1, agents=sys.argv[1]):
        for turn in range(rounds):
            done = Parallel(batch_size=1)(delayed(task)(number) for number in range(16))
            say(turn=turn)
    say(
        right=[number for number, _, _ in done] == list(range(16)),
        units=len({unit for _, unit, _ in done}),
        users=sorted({user for _, _, user in done}),
    )
"""


def test_the_guide_leads_to_a_cluster_on_clean_machines(pair, network, tmp_path):
    one, two = pair
    for machine in pair:
        follow(machine, "### 1. User and package")
        follow(machine, "### 2. Settings and units", block=0)
        # The driver's machine, which is neither of them, knows no names.
        reached = f'advertise = "{machine.host.address}:{PORT}"'
        machine.run(f"sed -i 's/^# advertise = .*/{reached}/' /etc/clutch/agent.toml")
        doctor = follow(machine, "### 2. Settings and units", block=1)
        assert "What holds limits here" in doctor
        secure(machine)

    follow(one, "## The access file", block=0)
    (two.root / "root/kit/cluster.json").write_bytes(
        (one.root / "var/lib/clutch/cluster.json").read_bytes()
    )
    follow(two, "## The access file", block=1, replace={"scp one": "true; : scp one"})
    addresses = {f"{machine.host.name}:": f"{machine.host.address}:" for machine in pair}
    follow(one, "## The access file", block=2, replace=addresses)
    access = tmp_path / "driver.json"
    access.touch(mode=0o600)
    access.write_bytes((one.root / "root/kit/driver.json").read_bytes())

    status = follow(one, "## Verify")
    assert "active (running)" in status
    home = network.host("driver")
    open_ports = "import socket; socket.create_connection(('{}', {}), timeout=2)"
    home.run(sys.executable, "-c", open_ports.format(one.host.address, PORT))
    with Driver(CALL, str(access), "1", become=home.become, **KEEPALIVE) as driver:
        said = driver.finish(120)
        log = driver.stderr()
    assert said["right"]
    assert said["units"] == 2, log
    assert said["users"] == [int(one.run("id -u clutch"))]

    # While a driver goes on, one machine is upgraded.
    with Driver(CALL, str(access), "12", become=home.become, **KEEPALIVE) as driver:
        driver.fact("turn", seconds=60)
        before = one.run("systemctl show --property=InvocationID --value clutch-agent")
        name = '"$(hostname)"'
        upgrade = {"joblib_clutch-0.2.0": "joblib_clutch-0.1.0", name: one.host.address}
        follow(one, "## Upgrade", replace=upgrade)
        assert one.run("systemctl show --property=InvocationID --value clutch-agent") != before
        assert "/opt/clutch/0.2.0" in one.run("readlink -f /opt/clutch/current")
        assert driver.finish(240)["right"]

    follow(one, "## Uninstall")
    assert (
        one.run("ls /opt /etc/systemd/system; ls -d /var/lib/clutch* || true").count("clutch") == 0
    )
    assert "clutch" not in one.run("ps -e -o comm=")
