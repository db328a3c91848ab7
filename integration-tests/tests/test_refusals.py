"""Whoever should not be let in: refused in time, logged once, and nobody else notices.

Each row calls from an address of its own, by which the log names it.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from clutch_wire.clutch.v1 import executor_pb2 as wire
from joblib import Parallel, delayed
from support import http2, processes
from support.tcp_agents import ClusterAgent
from support.waiting import Stopwatch, until

# Five seconds to authenticate, and some for a busy machine.
CLOSED_WITHIN = 8
MOST_SECONDS = 20
FLOOD = 20_000
MOST_GROWTH_BYTES = 20 << 20


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterAgent]:
    """Return an agent on TCP, with a session of ours."""
    with ClusterAgent(tmp_path_factory.mktemp("cluster") / "cluster.json") as agent:
        assert call(agent) == [1, 1]
        yield agent


def call(agent: ClusterAgent) -> list[int]:
    run = Parallel(n_jobs=2, backend="clutch", agents=agent.access)
    return run(delayed(abs)(-1) for _ in range(2))


@contextlib.contextmanager
def undisturbed(agent: ClusterAgent) -> Iterator[None]:
    """Check that the session beside lives on, and serves meanwhile and afterwards."""
    session = agent.session()
    yield
    assert call(agent) == [1, 1]
    assert agent.session() is session
    assert session.alive


def lines_of(agent: ClusterAgent, source: str) -> list[str]:
    return [line for line in agent.stderr().splitlines() if f"{source}:" in line]


def closed(peer: socket.socket) -> bool:
    """Read until the agent has closed the connection."""
    peer.settimeout(CLOSED_WITHIN)
    try:
        while peer.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def send(*pieces: bytes) -> Callable[[socket.socket], None]:
    def act(peer: socket.socket) -> None:
        for piece in pieces:
            peer.sendall(piece)

    return act


def drip(peer: socket.socket) -> None:
    """Send headers byte by byte, never all of them."""
    peer.sendall(http2.hello())
    begun = http2.frame(http2.HEADERS, 0, 1, http2.block(http2.GRPC))
    for byte in begun * 100:
        peer.sendall(bytes([byte]))
        time.sleep(0.05)


def never_read(peer: socket.socket) -> None:
    """Ask for answers without end and take none."""
    ping = http2.frame(6, 0, 0, b"12345678") * 1000
    peer.sendall(http2.hello())
    for _ in range(FLOOD):
        peer.sendall(ping)


def rapid_reset(peer: socket.socket) -> None:
    peer.sendall(http2.hello())
    cancel = (8).to_bytes(4, "big")
    for stream in range(1, 2 * FLOOD, 2):
        begun = http2.request(stream, http2.GRPC)
        peer.sendall(begun + http2.frame(http2.RST_STREAM, 0, stream, cancel))


def continuations(peer: socket.socket) -> None:
    more = http2.block([("x", "y" * 8000)])
    peer.sendall(http2.hello() + http2.frame(http2.HEADERS, 0, 1, http2.block(http2.GRPC)))
    for _ in range(FLOOD):
        peer.sendall(http2.frame(http2.CONTINUATION, 0, 1, more))


HUGE_HEADERS = http2.block([*http2.GRPC, ("x", "y" * 12_000)])
GUESS = [*http2.GRPC, ("authorization", f"Bearer {'0' * 64}")]


@dataclass
class Row:
    """One way to try it."""

    name: str
    tls: bool
    act: Callable[[socket.socket], None]


ROWS = [
    Row("random bytes", False, send(bytes(range(255, 0, -1)) * 40)),
    Row("an SSH banner", False, send(b"SSH-2.0-OpenSSH_9.9\r\n")),
    Row("HTTP/1", False, send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    Row("plain HTTP/2", False, send(http2.hello(), http2.request(1, http2.GRPC, b""))),
    Row("half a handshake", False, send(b"\x16\x03\x01\x02\x00\x01\x00")),
    Row("HTTP/1 in TLS", True, send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    Row("half a preface", True, send(http2.PREFACE[:10])),
    Row("a preface only", True, send(http2.PREFACE)),
    Row("slow headers", True, drip),
    Row("answers that are not read", True, never_read),
    Row("headers without end", True, continuations),
    Row("huge headers", True, send(http2.hello(), http2.frame(1, 4, 1, HUGE_HEADERS[:16_000]))),
    Row("rapid reset", True, rapid_reset),
    Row(
        "guessed tokens",
        True,
        send(http2.hello(), *(http2.request(n, GUESS, b"") for n in range(1, 2001, 2))),
    ),
    Row(
        "a long message without a token",
        True,
        send(http2.hello(), http2.request(1, http2.GRPC, b"\0\xff\xff\xff\xff" + b"x" * 5000)),
    ),
]


@pytest.mark.parametrize("number", range(len(ROWS)), ids=[row.name for row in ROWS])
def test_whoever_does_not_authenticate_is_disconnected_and_logged_once(agent, number):
    row, source = ROWS[number], f"127.0.1.{number + 1}"
    before = processes.resident_bytes(agent.pid)
    with undisturbed(agent), contextlib.ExitStack() as stack, Stopwatch() as watch:
        peers = [stack.enter_context(agent.connect(source, tls=row.tls)) for _ in range(2)]
        for peer in peers:
            # The agent may hang up before everything was said.
            with contextlib.suppress(OSError):
                row.act(peer)
        assert call(agent) == [1, 1]
        assert all(closed(peer) for peer in peers)
    assert watch.seconds < MOST_SECONDS
    logged = until(lambda: lines_of(agent, source), what="a line in the log")
    # Both came from one address: once for each reason.
    reasons = {line.partition("reason=")[2].split(" detail=")[0] for line in logged}
    assert len(reasons) == len(logged), logged
    assert all("WARN" in line for line in logged)
    assert processes.resident_bytes(agent.pid) - before < MOST_GROWTH_BYTES


def test_of_many_that_say_nothing_the_oldest_make_way(agent):
    source = "127.0.2.1"
    with contextlib.ExitStack() as stack, undisturbed(agent):
        peers = [stack.enter_context(agent.connect(source, tls=False)) for _ in range(300)]
        # Somebody new is served at once all the same.
        with Stopwatch() as watch:
            assert agent.status().slots
        assert watch.seconds < 4
        assert closed(peers[0])
        assert all(closed(peer) for peer in peers)


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("an origin", [("origin", "https://example.org")]),
        ("grpc-web", [("content-type", "application/grpc-web+proto")]),
        ("a form", [("content-type", "text/plain")]),
    ],
)
def test_a_web_page_is_refused_even_with_the_token(agent, name, headers):
    source = f"127.0.3.{len(name)}"
    kept = [pair for pair in http2.GRPC if pair[0] not in dict(headers)]
    asked = [*kept, *headers, ("authorization", f"Bearer {agent.token}")]
    with undisturbed(agent), agent.connect(source) as peer:
        peer.sendall(http2.hello() + http2.request(1, asked, b"\0\0\0\0\0"))
        assert closed(peer)
    [line] = until(lambda: lines_of(agent, source))
    assert "web page" in line or "not gRPC" in line


METHODS = wire.DESCRIPTOR.services_by_name["Executor"].methods


@pytest.mark.parametrize("token", [None, "0" * 64, "short"])
@pytest.mark.parametrize("path", [*(m.name for m in METHODS), "NoSuchMethod"])
def test_no_rpc_is_answered_without_the_token(agent, path, token):
    with agent.channel(token=token, authenticated=token is not None) as channel:
        ask = channel.stream_stream(f"/clutch.v1.Executor/{path}")
        with pytest.raises(grpc.RpcError) as caught:
            list(ask(iter([b""]), timeout=5))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "unauthenticated"


def test_who_has_the_token_is_held_to_bounds_too(agent):
    long = b"\0" * (5 << 20)
    with undisturbed(agent), agent.channel() as channel:
        ask = channel.unary_unary("/clutch.v1.Executor/GetStatus")
        with pytest.raises(grpc.RpcError) as caught:
            ask(long, timeout=10)
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE


def test_a_length_of_four_gigabytes_reserves_nothing(agent):
    asked = [*http2.GRPC, ("authorization", f"Bearer {agent.token}")]
    before = processes.resident_bytes(agent.pid)
    with undisturbed(agent), agent.connect() as peer:
        body = b"\0\xff\xff\xff\xff" + b"x" * 5000
        peer.sendall(http2.hello() + http2.request(1, asked, body))
        answer = until(lambda: kinds(peer.recv(1 << 16)), lambda seen: http2.HEADERS in seen)
        assert http2.GOAWAY not in answer
    assert processes.resident_bytes(agent.pid) - before < MOST_GROWTH_BYTES


def test_more_streams_than_a_connection_may_have_are_refused(agent):
    asked = [*http2.GRPC, ("authorization", f"Bearer {agent.token}")]
    asked = [(n, v.replace("OpenSession", "Attach") if n == ":path" else v) for n, v in asked]
    with undisturbed(agent), agent.connect() as peer:
        peer.sendall(http2.hello())
        peer.sendall(b"".join(http2.request(2 * n + 1, asked) for n in range(80)))
        until(
            lambda: kinds(peer.recv(1 << 16)), lambda seen: seen & {http2.RST_STREAM, http2.GOAWAY}
        )


def test_a_session_cannot_be_entered_by_its_name_alone(agent):
    with undisturbed(agent), agent.channel(authenticated=False) as channel:
        ask = channel.stream_stream("/clutch.v1.Executor/Attach")
        stolen = wire.ClientEnvelope(session_id="0" * 32).SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            list(ask(iter([stolen]), timeout=5))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_one_connection_more_than_allowed_is_told_so(tmp_path):
    with (
        ClusterAgent(tmp_path / "cluster.json", "--max-connections", "1") as agent,
        agent.channel() as first,
    ):
        ask = "/clutch.v1.Executor/GetStatus"
        first.unary_unary(ask)(b"", timeout=5)
        with agent.channel() as second, pytest.raises(grpc.RpcError) as caught:
            second.unary_unary(ask)(b"", timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "`max-connections`" in caught.value.details()


def kinds(received: bytes) -> set[int]:
    """Tell which kinds of frames begin in what arrived at once."""
    seen = set()
    while len(received) >= 9:
        length = int.from_bytes(received[:3], "big")
        seen.add(received[3])
        received = received[9 + length :]
    return seen
