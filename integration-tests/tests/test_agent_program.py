"""The `clutch agent` program: settings, exit codes, ready line, address."""

import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tasks
from joblib import Parallel, delayed
from support.agents import Agent, binary, run_agent
from support.waiting import until

from joblib_clutch.version import __version__


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--slots", "0"], "setting `slots` cannot be `0`"),
        (["--slots", "2", "--max-workers", "2"], "setting `max-workers` cannot be `2`"),
        (["--drain-seconds=-1"], "setting `drain-seconds` cannot be `-1`"),
        (["--worker-idle-seconds", "nan"], "setting `worker-idle-seconds` cannot be `NaN`"),
        (["--listen", "0.0.0.0:80"], "setting `listen` cannot be `0.0.0.0:80`"),
        (["--listen", "unix:here"], "setting `listen` cannot be `unix:here`"),
        (["--python", "/no/such/python"], "setting `python` cannot be `/no/such/python`"),
        (["--python", "/bin/false"], "`/bin/false` is not a usable Python interpreter"),
        (["--warm", "os; evil"], "setting `warm` cannot be `os; evil`"),
        (["--interpreter-library", "/no/host.so"], "`/no/host.so` is not there"),
        (["--settings", "/no/file.toml"], "settings file `/no/file.toml`"),
        (["--log", "=="], "=="),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_setting_ends_the_agent_with_its_name_and_value(arguments, named):
    given = ["--python", sys.executable, *arguments]
    if "--python" in arguments:
        given = arguments
    ended = run_agent("agent", *given)
    assert (ended.returncode, ended.stdout) == (78, ""), ended
    assert named in ended.stderr, ended.stderr


def test_a_bad_setting_in_the_environment_or_the_file_is_named_too(tmp_path):
    ended = run_agent("agent", "--python", sys.executable, CLUTCH_MAX_SESSIONS="0")
    assert ended.returncode == 78, ended
    assert "setting `max-sessions` cannot be `0`" in ended.stderr
    file = tmp_path / "clutch.toml"
    file.write_text("slotz = 3\n")
    ended = run_agent("agent", "--settings", str(file))
    assert ended.returncode == 78, ended
    assert "slotz" in ended.stderr
    assert str(file) in ended.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["agnet"], ["agent", "--sluts", "2"], ["agent", "--slots", "two"]]
)
def test_a_command_line_that_is_not_understood_is_told_apart(arguments):
    ended = run_agent(*arguments)
    assert ended.returncode == 64, ended
    assert ended.stderr


def test_help_and_version_are_not_errors():
    ended = run_agent("--version")
    assert (ended.returncode, ended.stdout) == (0, f"clutch {__version__}\n")
    ended = run_agent("agent", "--help")
    assert ended.returncode == 0
    assert "--worker-max-growth-bytes" in ended.stdout


def test_the_ready_line_says_where_and_what():
    with Agent("--slots", "3") as agent:
        version = ".".join(map(str, sys.version_info[:3]))
        limits = agent.ready.pop("limits")
        assert limits.keys() == {"memory", "cpus", "processes", "kill", "cannot"}
        assert agent.ready == {
            "event": "ready",
            "address": agent.address,
            "pid": agent.pid,
            "slots": 3,
            "protocol": "1.1",
            "version": __version__,
            "environments": [{"python": sys.executable, "version": version}],
        }


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    from support.agents import clean_environment

    file = tmp_path / "clutch.toml"
    file.write_text("slots = 3\nmax-workers = 30\ndrain-seconds = 1.5\n")
    environment = clean_environment(CLUTCH_SETTINGS=str(file), CLUTCH_SLOTS="4")
    with Agent(environment=environment) as agent:
        assert agent.ready["slots"] == 4
    with Agent("--slots", "5", environment=environment) as agent:
        assert agent.ready["slots"] == 5


def test_an_agent_without_an_address_makes_one_up_that_nobody_can_guess():
    addresses = set()
    for _ in range(2):
        agent = subprocess.Popen(
            [binary(), "agent", "--python", sys.executable], stdout=subprocess.PIPE
        )
        with agent:
            addresses.add(json.loads(agent.stdout.readline())["address"])
            agent.kill()
    assert len(addresses) == 2
    for address in addresses:
        assert address.startswith("unix-abstract:clutch-")
        assert len(address.removeprefix("unix-abstract:clutch-")) >= 16


def test_a_second_agent_at_the_same_path_is_refused_and_the_first_unharmed(tmp_path):
    address = f"unix:{tmp_path}/agent.sock"
    with Agent(address=address) as first:
        second = run_agent("agent", "--listen", address, "--python", sys.executable)
        assert second.returncode == 69, second
        assert f"cannot listen on `{address}`: somebody listens there already" in second.stderr
        run = Parallel(n_jobs=2, backend="clutch", agents=address)
        assert set(run(delayed(tasks.parent_pid)() for _ in range(2))) == {first.pid}


def test_a_socket_file_that_nobody_listens_on_is_replaced(tmp_path):
    path = tmp_path / "agent.sock"
    address = f"unix:{path}"
    with Agent(address=address) as killed:
        killed.process.kill()
        killed.exit_code()
    assert path.is_socket(), "a killed agent cannot clean up"
    with Agent(address=address) as agent:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        run = Parallel(n_jobs=2, backend="clutch", agents=address)
        assert set(run(delayed(tasks.parent_pid)() for _ in range(2))) == {agent.pid}
        agent.signal()
        assert agent.exit_code() == 0
    assert not path.exists()


def test_a_file_that_is_no_socket_is_not_removed(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    ended = run_agent("agent", "--listen", f"unix:{path}", "--python", sys.executable)
    assert ended.returncode == 69, ended
    assert path.read_text() == "data"


# Connects, sends what a gRPC client sends first, and tells what came back.
STRANGER = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
try:
    s.connect("\\0" + sys.argv[1])
    s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    print(len(s.recv(100)))
except ConnectionError:
    print(0)
"""


def test_another_user_is_refused():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not (setpriv := shutil.which("setpriv")):
        pytest.skip("there is no setpriv to become another user with")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("there is no interpreter that every user can run")
    nobody = pwd.getpwnam("nobody")
    identity = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    with Agent("--log", "warn") as agent:
        command = ["/usr/bin/python3", "-c", STRANGER, agent.address.partition(":")[2]]
        answered = [
            int(subprocess.run([*become, *command], capture_output=True, check=True).stdout)
            for become in ([], [setpriv, *identity])
        ]
        assert answered[0] > 0, "our own user must get an answer, else this test shows nothing"
        assert answered[1] == 0, "another user got an answer"
        until(agent.stderr, lambda text: "another user" in text)


def test_a_connection_that_says_nothing_harms_nobody(shared_agent):
    strangers = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for stranger in strangers:
            stranger.connect("\0" + shared_agent.address.partition(":")[2])
            stranger.sendall(b"PRI * HT")
        run = Parallel(n_jobs=2, backend="clutch", agents=shared_agent.address)
        assert run(delayed(tasks.double)(i) for i in range(4)) == [0, 2, 4, 6]
        assert shared_agent.status().pid == shared_agent.pid
    finally:
        for stranger in strangers:
            stranger.close()
