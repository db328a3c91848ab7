"""Agents on TCP, their access files, and raw connections to them."""

import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import grpc
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub

from joblib_clutch.roster import sessions_for
from joblib_clutch.session import Session
from joblib_clutch.settings import Settings
from support.agents import AS_OURSELVES, Agent, binary, forget

SERVER_NAME = "agent.clutch.internal"
_LOOPBACK = "127.0.0.1:0"


class ClusterAgent(Agent):
    """An agent on TCP. Use it in a ``with`` block.

    Parameters
    ----------
    access : Path
        Its access file; made when it is not there.
    *arguments : str
        More flags.
    listen : str
        Where to listen.
    **options : Any
        As of `Agent`.
    """

    def __init__(
        self, access: Path, *arguments: str, listen: str = _LOOPBACK, **options: Any
    ) -> None:
        self.access = access
        given = ("--access-file", str(access), *AS_OURSELVES, *arguments)
        super().__init__(*given, address=listen, **options)

    def __enter__(self) -> "ClusterAgent":
        super().__enter__()
        self.address = self.ready["address"]
        return self

    def __exit__(self, *_: object) -> None:
        forget(self.access)
        super().__exit__()

    @property
    def contents(self) -> dict[str, Any]:
        """What its access file says."""
        return json.loads(self.access.read_text())

    @property
    def token(self) -> str:
        """Its token."""
        return self.contents["token"]

    def channel(self, *, token: str | None = None, authenticated: bool = True) -> grpc.Channel:
        """Open a channel with the driver's certificate, and maybe with a token."""
        return open_channel(
            self.address, self.contents, (token or self.token) if authenticated else None
        )

    def session(self, **settings: Any) -> Session:
        """Return the session of this process with it, for calls with these settings."""
        [session] = sessions_for(Settings(agents=str(self.access), **settings))
        return session

    def status(self) -> wire.GetStatusResponse:
        """Ask it what it does."""
        with self.channel() as channel:
            return ExecutorStub(channel).GetStatus(wire.GetStatusRequest(), timeout=5)

    def connect(self, source: str = "127.0.0.1", *, tls: bool = True) -> socket.socket:
        """Connect from one of this machine's own addresses, as a stranger with a certificate."""
        host, port = self.address.rsplit(":", 1)
        plain = socket.create_connection((host, int(port)), 5, (source, 0))
        if not tls:
            return plain
        return driver_context(self.contents, self.access.parent).wrap_socket(
            plain, server_hostname=SERVER_NAME
        )


def open_channel(address: str, contents: dict[str, Any], token: str | None) -> grpc.Channel:
    """Open a channel of a stranger's making, with the driver's certificate."""
    driver = contents["driver"]
    credentials = grpc.ssl_channel_credentials(
        contents["authority"].encode(), driver["key"].encode(), driver["certificate"].encode()
    )
    if token is not None:
        shown = grpc.access_token_call_credentials(token)
        credentials = grpc.composite_channel_credentials(credentials, shown)
    options = [
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.secure_channel(address, credentials, options=options)


def driver_context(contents: dict[str, Any], folder: Path) -> ssl.SSLContext:
    """Make what a driver's side of TLS needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=contents["authority"])
    context.load_cert_chain(identity_file(contents["driver"], folder))
    context.set_alpn_protocols(["h2"])
    return context


def identity_file(identity: dict[str, str], folder: Path) -> Path:
    """Write a certificate and its key where `ssl` finds them."""
    path = folder / "identity.pem"
    path.touch(mode=0o600)
    path.write_text(identity["certificate"] + identity["key"])
    return path


def access_file(path: Path, contents: dict[str, Any]) -> Path:
    """Write an access file."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(contents))
    return path


def clutch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the operator."""
    command = [binary(), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env=environment or None
    )
