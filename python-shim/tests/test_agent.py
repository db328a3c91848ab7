"""The private agent, with a script in the place of the binary."""

from __future__ import annotations

import os
import stat
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from joblib import Parallel, delayed, parallel, parallel_config

from joblib_clutch import agent as agent_module
from joblib_clutch import connections
from joblib_clutch.agent import PrivateAgent
from joblib_clutch.exceptions import AgentUnavailableError
from joblib_clutch.settings import Lease, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_agent import Conversation, FakeAgent

LISTENS = """
    import json, os, sys, signal
    with open(os.environ["STARTS"], "a") as starts:
        starts.write(" ".join(sys.argv[1:]) + "\\n")
    print("not the line", flush=True)
    event = {"event": "ready", "address": os.environ["ADDRESS"], "pid": os.getpid()}
    print(json.dumps(event), flush=True)
    signal.pause()
"""


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(source: str) -> None:
        path = tmp_path / "clutch"
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CLUTCH_BINARY", str(path))
        monkeypatch.setenv("STARTS", str(tmp_path / "starts"))

    return write


def test_an_agent_that_ends_early_is_explained(binary: Callable[[str], None]) -> None:
    binary("import sys; sys.exit('no room here')")
    with pytest.raises(AgentUnavailableError, match="no room here") as caught:
        _ = PrivateAgent(sys.executable).address
    assert caught.value.exit_code == 1


def test_a_missing_agent_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUTCH_BINARY", "/nowhere/clutch")
    with pytest.raises(AgentUnavailableError, match="/nowhere/clutch"):
        _ = PrivateAgent(sys.executable).address


def test_it_starts_once_for_many_threads_and_again_after_its_death(
    agent: FakeAgent,
    binary: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    binary(LISTENS)
    monkeypatch.setenv("ADDRESS", agent.address)
    barrier = threading.Barrier(8)

    def session(_: int) -> object:
        barrier.wait()
        return connections.session_for(Settings())

    with ThreadPoolExecutor(8) as pool:
        sessions = set(pool.map(session, range(8)))
    assert len(sessions) == 1
    (connection,) = connections._registry._connections.values()
    (first,) = (tmp_path / "starts").read_text().splitlines()
    assert first.startswith("agent --listen private --exit-with-parent --python ")
    assert "joblib_clutch" in first

    def die(conversation: Conversation, _: object) -> None:
        process = connection._agent._process
        process.kill()
        process.wait()
        conversation.outgoing.put(None)

    agent.on_batch = die
    with parallel_config("clutch"), pytest.raises(AgentUnavailableError) as caught:
        Parallel(n_jobs=2)(delayed(len)("ab") for _ in range(2))
    assert caught.value.signal == 9
    agent.on_batch = None
    with parallel_config("clutch"):
        assert Parallel(n_jobs=2)(delayed(len)("ab") for _ in range(2)) == [2, 2]
    # Anew for each time that the batches were sent, and for the call after.
    assert len((tmp_path / "starts").read_text().splitlines()) == 4
    (connection,) = connections._registry._connections.values()
    last = connection._agent._process
    connections.close_all()
    assert last.poll() == -15


def test_a_successor_that_dies_at_once_has_a_successor(
    agent: FakeAgent,
    binary: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    second_dies = 'if open(os.environ["STARTS"]).read().count("\\n") == 2: sys.exit("no")\n'
    binary(LISTENS.replace('print("not the line', f'{second_dies}    print("not the line'))
    monkeypatch.setenv("ADDRESS", agent.address)

    def die(conversation: Conversation, _: object) -> None:
        agent.on_batch = None
        (connection,) = connections._registry._connections.values()
        connection._agent._process.kill()
        connection._agent._process.wait()
        conversation.outgoing.put(None)

    agent.on_batch = die
    with parallel_config("clutch"):
        assert Parallel(n_jobs=2)(delayed(len)("ab") for _ in range(2)) == [2, 2]
    assert len((tmp_path / "starts").read_text().splitlines()) == 3
    connections.close_all()


def test_only_public_modules_are_warmed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["numpy", "numpy.linalg", "numpy._core", "numpy.a.b.c", "numpy.test.x", "secret"]:
        monkeypatch.setitem(sys.modules, name, os)
    warm = agent_module._warm_modules()
    assert {"joblib", "cloudpickle", "threadpoolctl", "joblib_clutch"} <= set(warm)
    assert {"numpy", "numpy.linalg"} <= set(warm)
    assert {"numpy._core", "numpy.a.b.c", "numpy.test.x", "secret"}.isdisjoint(warm)


@pytest.fixture
def starts(
    agent: FakeAgent,
    binary: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[], int]:
    """Make an agent that can be started; tell how often it was."""
    binary(LISTENS)
    monkeypatch.setenv("ADDRESS", agent.address)
    record = tmp_path / "starts"
    return lambda: len(record.read_text().splitlines()) if record.exists() else 0


def preparing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "clutch-agent-start"]


def test_asking_for_the_backend_starts_the_agent_that_the_first_call_uses(
    starts: Callable[[], int],
) -> None:
    with parallel_config("clutch"), parallel_config("clutch", task_timeout=5):
        for thread in preparing():
            thread.join()
        (connection,) = connections._registry._connections.values()
        assert connection._agent is not None
        assert connection._session is None
        prepared = connection._agent
        assert Parallel(n_jobs=2)(delayed(len)("ab") for _ in range(2)) == [2, 2]
        assert connection._agent is prepared
    assert starts() == 1


def test_nobody_starts_an_agent_for_a_backend_that_may_not_be_used(
    starts: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "DEFAULT_BACKEND", "clutch")
    assert Parallel()(delayed(len)("ab") for _ in range(2)) == [2, 2]
    assert Parallel(n_jobs=1, backend="clutch")(delayed(len)("ab") for _ in range(2)) == [2, 2]
    parallel_config("clutch", agents="unix-abstract:another").unregister()
    monkeypatch.setattr(connections._registry, "forked", True)
    parallel_config("clutch").unregister()
    assert preparing() == []
    assert connections._registry._connections == {}
    assert starts() == 0


def test_an_agent_that_cannot_be_prepared_is_reported_by_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLUTCH_BINARY", "/nowhere/clutch")
    with parallel_config("clutch", n_jobs=2):
        for thread in preparing():
            thread.join()
        with pytest.raises(AgentUnavailableError, match="/nowhere/clutch"):
            Parallel()(delayed(len)("ab") for _ in range(2))


def test_what_is_closed_while_it_is_prepared_leaves_no_agent(starts: Callable[[], int]) -> None:
    connection = connections._Connection(None, Lease())
    connection.close()
    connection.prepare()
    assert connection.unused
    assert starts() == 0
