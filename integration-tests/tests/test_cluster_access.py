"""Agents on TCP with their drivers: access files, certificates, tokens."""

import json
import os
import re
import signal
import socket
import ssl
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tasks
from joblib import Parallel, delayed
from support import processes
from support.agents import AS_OURSELVES, Agent, run_agent
from support.authorities import Authority
from support.drivers import Driver
from support.resets import resetting
from support.tcp_agents import (
    ClusterAgent,
    access_file,
    clutch,
    identity_file,
)
from support.waiting import Stopwatch, until

import joblib_clutch
from joblib_clutch import exceptions

BIG = 3_000_000


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterAgent]:
    """Return an agent on TCP that made its access file."""
    with ClusterAgent(
        tmp_path_factory.mktemp("cluster") / "cluster.json", "--log", "clutch_executor=trace,warn"
    ) as agent:
        yield agent


def run(agents: object) -> list[int]:
    """Make a call."""
    return Parallel(n_jobs=2, backend="clutch", agents=agents)(delayed(abs)(-1) for _ in range(2))


def denied(agents: object) -> str:
    """Make a call that is refused, and at once; return why."""
    with Stopwatch() as watch, pytest.raises(exceptions.AccessDeniedError) as caught:
        run(agents)
    assert watch.seconds < 3
    assert caught.value.advice
    return str(caught.value)


def double(array: np.ndarray) -> np.ndarray:
    """Return a big result for a big argument."""
    return array * 2


def test_big_arguments_and_results_go_through_tls(agent):
    array = np.arange(BIG, dtype=float)
    with joblib_clutch.connect(agent.access) as cluster:
        assert cluster.addresses == (agent.address,)
        results = Parallel(n_jobs=2)(delayed(double)(array) for _ in range(2))
    for result in results:
        np.testing.assert_array_equal(result, array * 2)


def test_after_disconnecting_calls_are_as_before(agent):
    cluster = joblib_clutch.connect(agent.access)
    assert set(Parallel(n_jobs=2)(delayed(os.getppid)() for _ in range(2))) == {agent.pid}
    cluster.disconnect()
    assert set(Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2))) == {os.getpid()}


def test_the_file_is_private_and_has_the_address_while_the_agent_lives(tmp_path):
    access = tmp_path / "cluster.json"
    with ClusterAgent(access) as first, ClusterAgent(access) as second:
        assert stat.S_IMODE(access.stat().st_mode) == 0o600
        assert first.contents["agents"] == [first.address, second.address]
        assert run(access) == [1, 1]
        assert run([second.address, str(access)]) == [1, 1]
    assert json.loads(access.read_text())["agents"] == []


def test_an_agent_for_other_hosts_gives_them_a_name_to_reach_it_by(tmp_path):
    with ClusterAgent(tmp_path / "a.json", listen="0.0.0.0:0") as agent:
        host, port = agent.address.rsplit(":", 1)
        assert (host, agent.contents["agents"]) == (socket.gethostname(), [agent.address])
        assert listening(agent.pid) == {("00000000", int(port))}
    with ClusterAgent(tmp_path / "b.json", "--advertise", "localhost:0", listen="[::]:0") as agent:
        assert agent.address.startswith("localhost:")
        assert run(agent.access) == [1, 1]


def test_an_agent_listens_where_it_was_told_and_nowhere_else(agent):
    port = int(agent.address.rpartition(":")[2])
    assert listening(agent.pid) == {("0100007F", port)}
    with Agent() as local:
        assert listening(local.pid) == set()


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the TCP addresses on which a process listens, as the kernel writes them."""
    inodes = set(re.findall(r"socket:\[(\d+)\]", " ".join(processes.descriptors_of(pid))))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--listen", "0.0.0.0:0"], "mutual TLS and a token"),
        (["--listen", "[::]:0"], "mutual TLS and a token"),
        (["--listen", "127.0.0.1:0"], "`access-file`"),
        (["--listen", "0.0.0.0:0", "--token-file", "/t"], "`tls-certificate`"),
        (["--listen", "127.0.0.1:0", "--token-file", "/no/token"], "`/no/token`"),
        (["--listen", "127.0.0.1:0", "--access-file", "/etc/passwd"], "others than its owner"),
        (["--listen", "127.0.0.1:0", "--access-file", "/a", "--token-file", "/t"], "not both"),
        (["--keepalive-seconds", "0"], "`keepalive-seconds` cannot be `0`"),
        (["--max-connections", "0"], "`max-connections` cannot be `0`"),
        (["--allow-group", "no-such-group"], "`allow-group` cannot be `no-such-group`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_agent_without_the_secrets_that_it_needs_does_not_start(arguments, named):
    ended = run_agent("agent", "--python", sys.executable, *AS_OURSELVES, *arguments)
    assert (ended.returncode, ended.stdout) == (78, ""), ended
    assert named in ended.stderr, ended.stderr


def test_secrets_are_nowhere_but_in_the_file(agent):
    assert run(agent.access) == [1, 1]
    keys = [agent.contents[who]["key"].splitlines()[1] for who in ("agent", "driver")]
    secrets = [agent.token, *keys]
    family = [agent.pid, *agent.zygotes(), *agent.workers()]
    assert len(family) >= 3
    for pid in family:
        for file in ("environ", "cmdline"):
            text = Path(f"/proc/{pid}/{file}").read_text(errors="replace")
            assert not any(secret in text for secret in secrets), (pid, file)
    assert not any(secret in agent.stderr() for secret in secrets)


def test_zygotes_and_workers_have_no_connection_of_the_agents(agent):
    assert run(agent.access) == [1, 1]
    inodes = set()
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        inodes |= {line.split()[9] for line in lines}
    for pid in [*agent.zygotes(), *agent.workers()]:
        held = re.findall(r"socket:\[(\d+)\]", " ".join(processes.descriptors_of(pid)))
        assert not inodes & set(held), pid
        assert str(agent.access) not in processes.descriptors_of(pid)


def changed(agent: ClusterAgent, folder: Path, **changes: object) -> Path:
    """Write the agent's access file with changes."""
    contents = {**agent.contents, **changes}
    kept = {name: value for name, value in contents.items() if value is not None}
    return access_file(folder / "changed.json", kept)


def test_a_wrong_token_is_told_at_once(agent, tmp_path):
    assert "does not accept the token" in denied(changed(agent, tmp_path, token="0" * 64))


def test_plain_text_to_a_port_with_tls_is_told(agent, tmp_path):
    why = denied(changed(agent, tmp_path, authority=None))
    assert "no certificates" in why


def test_another_clusters_file_does_not_do(agent, tmp_path):
    with ClusterAgent(tmp_path / "other.json") as other:
        others = {**other.contents, "agents": [agent.address]}
    why = denied(access_file(tmp_path / "mixed.json", others))
    assert "certificate is not accepted" in why


def test_tcp_without_an_access_file_is_told(agent):
    assert "needs an access file" in denied(agent.address)


def test_a_file_that_others_may_read_is_not_used(agent, tmp_path):
    access = changed(agent, tmp_path)
    access.chmod(0o644)
    assert "chmod 600" in denied(access)


def test_a_file_that_names_no_agent_says_so(agent, tmp_path):
    assert "names no agent" in denied(changed(agent, tmp_path, agents=[]))


def test_drivers_work_with_their_copy_and_cannot_pass_for_an_agent(agent, tmp_path):
    copy = tmp_path / "drivers.json"
    made = clutch("access", "--for-drivers", agent.access, "--output", copy)
    assert made.returncode == 0, made
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert run(copy) == [1, 1]
    contents = json.loads(copy.read_text())
    assert "agent" not in contents
    assert contents["agents"] == [agent.address]
    named = ("--agent", "one:7077", "--agent", "two:7077")
    told = clutch("access", "--for-drivers", agent.access, *named)
    assert json.loads(told.stdout)["agents"] == ["one:7077", "two:7077"]
    # Whoever has no more than a driver serves as an agent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity_file(contents["driver"], tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        server = threading.Thread(target=serve_once, args=(listener, context))
        server.start()
        why = denied(access_file(tmp_path / "lured.json", {**contents, "agents": [address]}))
        server.join()
    assert "certificate is not accepted" in why
    assert "server authentication" in why


def serve_once(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Take one connection and do the handshake."""
    peer, _ = listener.accept()
    try:
        context.wrap_socket(peer, server_side=True).close()
    except OSError:
        peer.close()


@pytest.mark.parametrize(
    ("agent_days", "driver_days", "why"),
    [
        (1, 1, None),
        (-1, 1, "certificate is not accepted: .*expired"),
        (1, -1, "does not accept the certificate: .*[Ee]xpired"),
    ],
)
def test_certificates_of_an_own_authority_do_until_they_expire(
    tmp_path, agent_days, driver_days, why
):
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.sign("agent", days=agent_days)
    own = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    own += ["--tls-authority", str(authority.certificate), "--token-file", str(authority.token)]
    access = tmp_path / "drivers.json"
    with Agent(*own, *AS_OURSELVES, address="127.0.0.1:0") as agent:
        certificate, key = authority.sign("driver", days=driver_days)
        shown = ["--tls-certificate", certificate, "--tls-key", key]
        shown += ["--tls-authority", authority.certificate, "--token-file", authority.token]
        made = clutch("access", *shown, "--agent", agent.ready["address"], "--output", access)
        assert made.returncode == 0, made
        if why is None:
            assert run(access) == [1, 1]
        else:
            assert re.search(why, denied(access))


def test_on_loopback_a_token_does(tmp_path):
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("cd" * 32)
    access = tmp_path / "drivers.json"
    with Agent("--token-file", str(token), *AS_OURSELVES, address="127.0.0.1:0") as agent:
        address = agent.ready["address"]
        made = clutch("access", "--token-file", token, "--agent", address, "--output", access)
        assert made.returncode == 0, made
        assert run(access) == [1, 1]
        wrong = {**json.loads(access.read_text()), "token": "0" * 64}
        assert "token" in denied(access_file(tmp_path / "wrong.json", wrong))


def test_an_agent_that_was_started_again_elsewhere_is_found_by_the_file(tmp_path):
    access = tmp_path / "cluster.json"
    with ClusterAgent(access) as first:
        assert run(access) == [1, 1]
        first.signal()
        first.exit_code()
        with ClusterAgent(access):
            assert run(access) == [1, 1]


def test_status_tells_of_every_agent_and_session(agent, tmp_path):
    assert run(agent.access) == [1, 1]
    told = clutch("status", "--access-file", agent.access)
    assert told.returncode == 0, told
    assert re.search(rf"{agent.address} .* serving ", told.stdout), told.stdout
    assert f"{socket.gethostname()}:{os.getpid()}" in told.stdout
    gone = changed(agent, tmp_path, agents=[agent.address, "127.0.0.1:1"])
    told = clutch("status", "--access-file", gone)
    assert told.returncode == 69, told
    assert "127.0.0.1:1 " in told.stdout
    with Agent() as local:
        told = clutch("status", "--address", local.address)
    assert (told.returncode, local.address in told.stdout) == (0, True), told


def test_drain_asks_which_agent_is_meant(agent, tmp_path):
    told = clutch("drain", "--access-file", changed(agent, tmp_path, agents=["a:1", "b:2"]))
    assert told.returncode == 64, told
    assert "--agent" in told.stderr
    assert clutch("drain").returncode == 64


def test_drain_empties_an_agent_and_waits_for_its_end(tmp_path, gate):
    with ClusterAgent(tmp_path / "cluster.json", "--slots", "2") as agent:
        run = Parallel(n_jobs=2, backend="clutch", agents=agent.access, return_as="generator")
        results = run(delayed(tasks.wait_for)(gate, number) for number in range(2))
        until(lambda: len(agent.busy()) == 2)
        told = []
        drain = threading.Thread(
            target=lambda: told.append(clutch("drain", "--access-file", agent.access))
        )
        drain.start()
        until(lambda: told or agent.status().draining)
        Path(gate).touch()
        drain.join()
        assert list(results) == [0, 1]
        assert told[0].returncode == 0, told
        assert "has ended" in told[0].stdout
        assert agent.exit_code() == 0


def test_drain_all_empties_those_that_are_there_and_names_the_others(tmp_path):
    access = tmp_path / "cluster.json"
    with ClusterAgent(access) as gone, ClusterAgent(access) as there:
        gone.signal(signal.SIGKILL)
        gone.process.wait()
        ended = clutch("drain", "--access-file", access, "--all")
        assert there.exit_code() == 0
    assert ended.returncode == 69
    assert f"{there.address}: has ended" in ended.stdout
    assert gone.address in ended.stderr
    assert ended.stderr.count("Connection refused") == 1, "each cause once"


def test_a_refused_stranger_is_logged_without_control_characters(agent):
    with agent.connect("127.0.4.1", tls=False) as peer:
        peer.sendall(b"\x1b[2J\r\nevil: yes\r\n\r\n")
        peer.recv(1)
    [line] = until(lambda: [at for at in agent.stderr().splitlines() if "127.0.4.1:" in at])
    assert "\x1b" not in line


@pytest.mark.parametrize(("resets", "served"), [(2, True), (3, False)])
def test_connections_that_are_reset_are_tried_again_a_little(agent, tmp_path, resets, served):
    with resetting(agent.address, resets) as address:
        access = changed(agent, tmp_path, agents=[address])
        if served:
            assert run(access) == [1, 1]
        else:
            with pytest.raises(exceptions.AgentUnavailableError, match="did not open a session"):
                run(access)


def test_a_driver_gives_up_an_agent_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUTCH_KEEPALIVE_SECONDS", "1")
    monkeypatch.setenv("CLUTCH_KEEPALIVE_TIMEOUT_SECONDS", "1")
    with ClusterAgent(tmp_path / "cluster.json") as agent:
        session = agent.session(silence_limit=1)
        agent.signal(signal.SIGSTOP)
        try:
            until(lambda: not session.alive, seconds=12)
        finally:
            agent.signal(signal.SIGCONT)


def test_an_agent_gives_up_a_driver_that_does_not_answer(tmp_path):
    given = ["--keepalive-seconds", "1", "--keepalive-timeout-seconds", "1"]
    script = """
        Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])(delayed(abs)(i) for i in (1, 2))
        say(done=True)
        sys.stdin.readline()
    """
    with (
        ClusterAgent(tmp_path / "cluster.json", *given) as agent,
        Driver(script, str(agent.access)) as driver,
    ):
        driver.fact("done")
        assert any(session.attached for session in agent.status().sessions)
        os.kill(driver.pid, signal.SIGSTOP)
        until(lambda: not any(session.attached for session in agent.status().sessions), seconds=6)
