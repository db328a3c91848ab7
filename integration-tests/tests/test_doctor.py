"""What a machine can promise: `clutch doctor`, the ready line, and groups that are left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.agents import Agent, run_agent
from support.waiting import until

LABELS = {
    "memory": "memory",
    "cpus": "CPUs",
    "processes": "processes",
    "kill": "what a task leaves",
}


def doctor(*arguments):
    return run_agent("doctor", "--python", sys.executable, *arguments)


def test_the_doctor_says_what_the_ready_line_says():
    ended = doctor("--slots", "2")
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    told = {
        line[2:22].strip(): line[22:].split()[0] for line in ended.stdout.splitlines() if line[22:]
    }
    with Agent("--slots", "2") as agent:
        limits = agent.ready["limits"]
    assert {key: told[label] for key, label in LABELS.items()} == {
        key: limits[key] for key in LABELS
    }
    promised = ended.stdout.split("What is therefore not promised\n")[1].split("\n\n")[0]
    sentences = [line.removeprefix("  - ") for line in promised.splitlines()]
    assert sentences == (limits["cannot"] or ["  nothing"])


def test_without_control_groups_the_agent_samples_and_says_what_that_cannot_do():
    ended = doctor("--cgroups", "false", "--machine-share", "0.5")
    assert ended.returncode == 0, ended
    assert "  memory              sampling" in ended.stdout
    assert "by what it allocates in 50 ms before it is killed" in ended.stdout
    assert "control groups: not used, by `cgroups`" in ended.stdout


def test_a_bad_setting_is_named():
    ended = doctor("--memory-limit-bytes", "2GB")
    assert (ended.returncode, ended.stdout) == (78, ""), ended
    assert "setting `memory-limit-bytes` cannot be `2GB`" in ended.stderr


def groups_of(pid):
    """Return the groups that an agent made, in all hierarchies."""
    # Groups of others come and go meanwhile, which this walk does not mind.
    walk = os.walk("/sys/fs/cgroup")
    found = [Path(above, name) for above, names, _ in walk for name in names]
    return [path for path in found if path.name.startswith(f"clutch-{pid}-")]


def zygote_groups(agent):
    (zygote,) = until(agent.zygotes)
    return Path(f"/proc/{zygote}/cgroup").read_text()


@pytest.fixture
def shared():
    """Return an agent that has a part of the machine, by groups."""
    with Agent("--slots", "1", "--machine-share", "0.5") as agent:
        if "sampling" in agent.ready["limits"]["memory"]:
            pytest.skip("no control groups for memory here")
        yield agent


def test_a_part_of_the_machine_holds_for_zygotes_and_ends_with_the_agent(shared):
    # It is put there once it has been started.
    own = f"/clutch-{shared.pid}-"
    groups = until(lambda: zygote_groups(shared), lambda groups: own in groups)
    assert "/pool\n" in groups
    assert own not in Path(f"/proc/{shared.pid}/cgroup").read_text()
    shared.signal(signal.SIGTERM)
    assert shared.exit_code() == 0
    assert groups_of(shared.pid) == []


def test_what_a_killed_agent_left_is_removed_by_the_next_one(shared):
    until(shared.zygotes)
    groups = groups_of(shared.pid)
    # One that no parent's death ends, as a task could have left it.
    with subprocess.Popen(["sleep", "1000"]) as left:
        for group in groups:
            (group / "pool" / "cgroup.procs").write_text(str(left.pid))
        shared.process.kill()
        shared.process.wait()
        assert doctor().returncode == 0
        assert left.wait(10) == -signal.SIGKILL
    assert groups
    assert groups_of(shared.pid) == []
