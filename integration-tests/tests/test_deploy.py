"""What docs/install.md and docs/deploy say to do is what can be done."""

import configparser
import functools
import re
import shutil
import subprocess
import sys

import pytest
from support.agents import Agent, run_agent
from test_documents import ROOT, section, table

GUIDE = ROOT / "docs/install.md"
DEPLOY = ROOT / "docs/deploy"
UNIT = DEPLOY / "clutch-agent.service"
SLICE = DEPLOY / "clutch.slice"
SETTINGS = DEPLOY / "agent.toml"
# What an agent needs after the drain deadline: workers get three seconds to leave.
LEAVE_SECONDS = 4


@functools.cache
def help_of(subcommand):
    shown = run_agent(subcommand, "--help")
    assert shown.returncode == 0, f"there is no `clutch {subcommand}`: {shown.stderr}"
    return shown.stdout


def service():
    """Return the settings of the unit's section on its service."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def settings():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    return tomllib.loads(SETTINGS.read_text())


def commands():
    """Return each use of the command `clutch` in guide and units, as text."""
    text = "\n".join(path.read_text() for path in [GUIDE, *DEPLOY.iterdir()])
    text = text.replace("\\\n", " ")
    return re.findall(r"bin/clutch ([a-z].*)$", text, re.MULTILINE)


def test_the_units_are_understood_by_systemd(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    # It looks whether the program is there.
    unit = UNIT.read_text().replace("/opt/clutch/current/bin/clutch", shutil.which("true"))
    copy = tmp_path / UNIT.name
    copy.write_text(unit)
    shutil.copy(SLICE, tmp_path)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "SYSTEMD_LOG_LEVEL": "warning", "PATH": "/bin"},
    )
    complaints = [line for line in verified.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []
    assert verified.returncode == 0, verified.stderr


def test_every_command_and_flag_that_is_shown_exists():
    shown = commands()
    assert len(shown) >= 4
    for command in shown:
        subcommand, *words = command.split()
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        known = help_of(subcommand)
        assert [flag for flag in flags if flag not in known] == [], command


def test_an_agent_starts_with_the_settings_that_are_shown(tmp_path):
    shown = SETTINGS.read_text()
    changes = {
        "0.0.0.0:7077": f"unix:{tmp_path}/agent.sock",
        "/opt/clutch/current/bin/python": sys.executable,
        "/var/lib/clutch": str(tmp_path),
    }
    for old, new in changes.items():
        assert old in shown
        shown = shown.replace(old, new)
    copy = tmp_path / "agent.toml"
    copy.write_text(shown)
    with Agent("--settings", str(copy), address=f"unix:{tmp_path}/agent.sock") as agent:
        assert agent.ready["event"] == "ready"


def test_the_unit_waits_longer_than_the_agent_drains():
    assert int(service()["TimeoutStopSec"]) >= settings()["drain-seconds"] + LEAVE_SECONDS


def test_the_exit_codes_of_the_unit_are_those_of_the_agent():
    rows = table(section(ROOT / "docs/operations.md", "### Exit codes"))
    codes = {name: number for number, name, _ in rows}
    assert service()["SuccessExitStatus"] == codes["Killed"]
    lasting = {codes[name] for name in ("Usage", "Listen", "Settings")}
    assert set(service()["RestartPreventExitStatus"].split()) == lasting


def test_nothing_in_the_unit_stands_in_the_way_of_what_agents_do():
    unit = service()
    assert unit["Delegate"] == "yes"
    assert unit["KillMode"] == "mixed"
    assert unit["OOMPolicy"] == "continue"
    # Without these no compiler at run time, no device, no control group, no memory figures.
    harmful = {
        "MemoryDenyWriteExecute",
        "PrivateDevices",
        "PrivateNetwork",
        "PrivateUsers",
        "ProcSubset",
        "ProtectControlGroups",
        "RestrictNamespaces",
        "SystemCallFilter",
    }
    assert not harmful & unit.keys()


def test_the_guide_names_each_file_and_one_port():
    guide = GUIDE.read_text()
    for path in DEPLOY.iterdir():
        assert path.name in guide, path.name
    port = settings()["listen"].rpartition(":")[2]
    firewall = section(GUIDE, "### 3. Firewall")
    assert set(re.findall(r"port[= ](\d+)", firewall)) == {port}


def test_logs_are_rotated_as_logrotate_understands_it(tmp_path):
    if not (logrotate := shutil.which("logrotate", path="/usr/sbin:/sbin:/usr/bin")):
        pytest.skip("logrotate is not installed")
    rules = tmp_path / "clutch"
    log = tmp_path / "agent.log"
    log.write_text("something\n")
    rules.write_text(
        (DEPLOY / "clutch.logrotate").read_text().replace("/var/log/clutch", str(tmp_path))
    )
    force = [logrotate, "--force", "--state", str(tmp_path / "state"), str(rules)]
    subprocess.run(force, check=True, capture_output=True, timeout=60)
    assert log.read_text() == ""
    assert (tmp_path / "agent.log.1").read_text() == "something\n"


def test_the_exit_codes_in_the_guide_are_the_agents():
    rows = table(section(ROOT / "docs/operations.md", "### Exit codes"))
    codes = {number for number, *_ in rows}
    told = {
        code for row in table(section(GUIDE, "## Verify")) for code in re.findall(r"\d+", row[0])
    }
    assert told
    assert told <= codes
