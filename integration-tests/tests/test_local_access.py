"""Who may use an agent's Unix socket: its own user, and the members of one group."""

import os
import socket

import pytest
from support import http2
from support.agents import AS_OURSELVES, Agent

NOBODY = 65_534
GROUP = 4_711


def knock(address: str, groups: list[int], main_group: int) -> bool:
    """Call as somebody else; tell whether the agent answered."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(main_group)
            os.setuid(NOBODY)
            os._exit(0 if answered(address) else 1)
        finally:
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, 1}, code
    return code == 0


def answered(address: str) -> bool:
    """Say hello in HTTP/2; tell whether anything comes back."""
    kind, _, name = address.partition(":")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        try:
            peer.connect(name if kind == "unix" else "\0" + name)
            peer.sendall(http2.hello())
            return peer.recv(9) != b""
        except (PermissionError, ConnectionError):
            return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as somebody else")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["unix", "unix-abstract"])
def test_members_of_the_group_are_let_in_and_nobody_else(tmp_path, kind):
    for place in (tmp_path, *list(tmp_path.parents)[:2]):
        place.chmod(0o711)
    address = f"unix:{tmp_path}/agent.sock" if kind == "unix" else None
    with Agent("--allow-group", str(GROUP), *AS_OURSELVES, address=address) as agent:
        assert knock(agent.address, [1, GROUP, 2], NOBODY)
        assert knock(agent.address, [], GROUP)
        assert not knock(agent.address, [GROUP + 1], NOBODY)
        assert not knock(agent.address, [], NOBODY)
        assert agent.status().slots
        if kind == "unix-abstract":
            # At the file, the kernel is first.
            assert "connection of another user refused" in agent.stderr()
