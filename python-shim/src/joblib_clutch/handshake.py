"""Opens a session on an agent."""

from __future__ import annotations

import os
import platform
import socket
import sys
from typing import TYPE_CHECKING

import cloudpickle
import grpc
import joblib

from joblib_clutch._wire.clutch.v1 import executor_pb2 as wire
from joblib_clutch.exceptions import AgentUnavailableError, ClutchError
from joblib_clutch.failures import class_of, fault_name, kind_name
from joblib_clutch.version import PROTOCOL_MAJOR, PROTOCOL_MINOR, __version__

if TYPE_CHECKING:
    from joblib_clutch._wire.clutch.v1.executor_pb2_grpc import ExecutorStub

# Longer than an agent waits for a zygote.
_OPEN_TIMEOUT_SECONDS = 120
_MAX_MESSAGE_BYTES = 16 << 20

_CHANNEL_OPTIONS = [
    # grpcio would send a Unix path, percent-encoded, as authority, which the
    # agent's HTTP/2 refuses.
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # Without keepalive a cut network is never noticed.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A dead agent's connection must not be shared with its successor's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]


def open_channel(address: str) -> grpc.Channel:
    """Open a channel to an agent; connects when first used.

    Parameters
    ----------
    address : str
        ``unix:/path`` or ``unix-abstract:name``.

    Returns
    -------
    grpc.Channel
        The channel.
    """
    return grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)


def open_session(stub: ExecutorStub, address: str, python: str | None) -> wire.SessionOpened:
    """Agree on versions and lease room on an agent.

    Parameters
    ----------
    stub : ExecutorStub
        The agent.
    address : str
        Its address, for messages.
    python : str or None
        Interpreter wanted, by its path on the agent's machine.

    Returns
    -------
    SessionOpened
        The lease.

    Raises
    ------
    ClutchError
        The agent refused, or could not be reached.
    """
    request = wire.OpenSessionRequest(
        protocol=wire.ProtocolVersion(major=PROTOCOL_MAJOR, minor=PROTOCOL_MINOR),
        client_version=__version__,
        environment=wire.Environment(
            python_version=platform.python_version(),
            implementation=sys.implementation.name,
            executable=sys.executable or "",
            cloudpickle_version=cloudpickle.__version__,
            joblib_version=joblib.__version__,
        ),
        python=python or "",
        name=f"{socket.gethostname()}:{os.getpid()}",
    )
    try:
        response: wire.OpenSessionResponse = stub.OpenSession(
            request, timeout=_OPEN_TIMEOUT_SECONDS
        )
    except grpc.RpcError as error:
        raise AgentUnavailableError(
            f"the agent at {address} did not open a session: {describe(error)}",
            kind="AGENT_UNAVAILABLE",
            fault="AGENT",
            advice="check that the agent runs and that the address is right",
        ) from error
    if response.WhichOneof("result") != "opened":
        raise _refused(response.refusal, address)
    return response.opened


def describe(error: Exception) -> str:
    """Put a gRPC error in words.

    Parameters
    ----------
    error : Exception
        The error; those of gRPC calls carry a code and details.

    Returns
    -------
    str
        For example ``"UNAVAILABLE: Connection reset by peer"``.
    """
    if not isinstance(error, grpc.Call):
        return str(error)
    return f"{error.code().name}: {error.details()}"


def _refused(refusal: wire.Refusal, address: str) -> ClutchError:
    message = f"the agent at {address} refused the session: {refusal.message}"
    if refusal.available:
        message += "; it has " + ", ".join(
            f"{e.implementation or 'python'} {e.python_version} at {e.executable}"
            for e in refusal.available
        )
    return class_of(refusal.kind)(
        message,
        kind=kind_name(refusal.kind),
        fault=fault_name(refusal.fault),
        advice=refusal.advice,
    )
