"""The option ``agents``: addresses and access files told apart, and what `connect` changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from joblib_clutch import access
from joblib_clutch.exceptions import AccessDeniedError
from joblib_clutch.settings import Settings


@pytest.mark.parametrize(
    ("given", "addresses", "file"),
    [
        ("unix:/run/agent.sock", ("unix:/run/agent.sock",), None),
        ("unix-abstract:x", ("unix-abstract:x",), None),
        ("node-7.lan:5125", ("node-7.lan:5125",), None),
        ("[::1]:5125", ("[::1]:5125",), None),
        ("/etc/cluster.json", (), "/etc/cluster.json"),
        (Path("/etc/cluster.json"), (), "/etc/cluster.json"),
        (["a:1", "b:2", "a:1"], ("a:1", "b:2"), None),
        (["a:1", "/etc/cluster.json"], ("a:1",), "/etc/cluster.json"),
    ],
)
def test_addresses_are_told_from_access_files(
    given: object, addresses: tuple[str, ...], file: str | None
) -> None:
    assert access.parse(given) == access.Agents(addresses, file)


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parsed = access.parse("cluster.json")
    monkeypatch.chdir("/")
    assert parsed == access.Agents((), str(tmp_path / "cluster.json"))


def test_the_environment_names_the_file_of_agents_on_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUTCH_ACCESS_FILE", "/etc/cluster.json")
    assert access.parse("a:1") == access.Agents(("a:1",), "/etc/cluster.json")
    assert access.parse("unix:/x") == access.Agents(("unix:/x",), None)


def test_an_access_file_is_shown_to_agents_on_tcp_only() -> None:
    agents = access.Agents(("a:1", "unix:/x"), "/etc/cluster.json")
    assert agents.access_of("a:1") == "/etc/cluster.json"
    assert agents.access_of("unix:/x") is None


@pytest.mark.parametrize("given", ["", [], ["a.json", "b.json"]])
def test_nothing_and_too_much_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="agents must name"):
        access.parse(given)


@pytest.mark.parametrize("given", [7, ["a:1", 7], b"a:1"])
def test_what_is_no_text_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="agents must be"):
        access.parse(given)


def test_calls_that_name_no_agent_use_those_of_connect() -> None:
    assert Settings().agents is None
    with access.connect("unix:/a") as cluster:
        assert Settings().agents == access.Agents(("unix:/a",))
        assert Settings(agents="unix:/b").agents == access.Agents(("unix:/b",))
        assert cluster.addresses == ("unix:/a",)
    assert Settings().agents is None


def test_connect_looks_at_the_file(tmp_path: Path) -> None:
    with pytest.raises(AccessDeniedError, match="cannot read"):
        access.connect(tmp_path / "cluster.json")
    with pytest.raises(TypeError, match="connect needs"):
        access.connect(None)
