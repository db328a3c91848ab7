"""Agents on TCP that get content from each other, with what they show each other."""

import contextlib
import os

import grpc
import pytest
from clutch_wire.clutch.v1 import blob_pb2 as blobs
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from support.agents import Agent
from support.clients import open_session
from support.tcp_agents import ClusterAgent

from joblib_clutch import _native
from joblib_clutch.broadcast import plan

CONTENT = os.urandom(3 << 20)
DIGEST = _native.digest(CONTENT)
# What a driver has who must not be asked for the content: it is refused.
OTHER = bytes(len(CONTENT))
COUNT = 3


@pytest.fixture(scope="module")
def access(tmp_path_factory):
    """Return the path of an access file that agents share."""
    return tmp_path_factory.mktemp("cluster") / "cluster.json"


@pytest.fixture
def agents(access):
    """Return agents with one access file and nothing in them."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ClusterAgent(access, "--slots", "1")) for _ in range(COUNT)]


def test_a_chain_goes_through_tls(access, agents):
    with contextlib.ExitStack() as stack:
        contents = [CONTENT] + [OTHER] * (COUNT - 1)
        for content, (agent, sources) in zip(contents, plan([], [], agents), strict=True):
            session = open_session(agent.address, access)
            stack.callback(session.close)
            session.put(content, False, DIGEST, [source.address for source in sources])


def test_the_digest_alone_opens_no_agent(access, agents):
    session = open_session(agents[0].address, access)
    session.put(CONTENT, False, DIGEST)
    request = blobs.FetchContentRequest(digest=DIGEST, bytes=len(CONTENT))
    with agents[0].channel(authenticated=False) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(ExecutorStub(channel).FetchContent(request, timeout=10))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with agents[0].channel() as channel:
        parts = ExecutorStub(channel).FetchContent(request, timeout=10)
        assert b"".join(part.data for part in parts) == CONTENT
    session.close()


def test_agents_of_another_cluster_and_of_this_machine_are_no_sources(access, agents, tmp_path):
    # Each of them has the content and would be asked, were it not for what it is.
    for start in (lambda: ClusterAgent(tmp_path / "other.json", "--slots", "1"), Agent):
        with start() as stranger:
            has_it = open_session(stranger.address, getattr(stranger, "access", None))
            has_it.put(CONTENT, False, DIGEST)
            session = open_session(agents[0].address, access)
            with pytest.raises(_native.BlobRefusedError) as caught:
                session.put(OTHER, False, DIGEST, [stranger.address])
            assert "has digest" in caught.value.args[0]["message"]
            session.close()
            has_it.close()
