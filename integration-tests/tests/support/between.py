"""A stranger between driver and agent, which makes one of them look older or newer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from clutch_wire.clutch.v1 import blob_pb2 as blobs
from clutch_wire.clutch.v1 import executor_pb2 as wire

from support.agents import some_address
from support.channels import open_channel

_SERVICE = "clutch.v1.Executor"
# A field that no version has: number 9999, with a number for its value.
UNKNOWN_FIELD = b"\xf8\xf0\x04\x01"

# What version 1.1 has added to messages that 1.0 had.
_NEW_IN_1_1 = {
    wire.OpenSessionRequest: ("silence_seconds", "weight", "max_running"),
    wire.SessionOpened: ("silence_seconds",),
    wire.ClientEnvelope: ("resume", "acknowledged"),
    wire.AgentEnvelope: ("resumed", "acknowledged"),
    wire.DefineProfile: ("code",),
    blobs.OfferBlob: ("sources",),
}
_CLIENT_FRAMES_OF_1_0 = {
    "define_profile",
    "open_call",
    "submit_batch",
    "payload_part",
    "close_call",
    "offer_blob",
    "blob_part",
    "release_blobs",
}


class Between:
    """Passes on what the two say, changed. Use it in a ``with`` block.

    It has no data line, as a tunnel has none.

    Parameters
    ----------
    target : str
        The agent's address.

    Attributes
    ----------
    address : str
        Where the driver finds it.
    """

    def __init__(self, target: str) -> None:
        self.address = some_address()
        self._channel = open_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(8))
        methods = {
            "OpenSession": grpc.unary_unary_rpc_method_handler(
                self._open,
                wire.OpenSessionRequest.FromString,
                wire.OpenSessionResponse.SerializeToString,
            ),
            "Attach": grpc.stream_stream_rpc_method_handler(
                self._attach,
                wire.ClientEnvelope.FromString,
                wire.AgentEnvelope.SerializeToString,
            ),
        }
        handler = grpc.method_handlers_generic_handler(_SERVICE, methods)
        self._server.add_generic_rpc_handlers((handler,))
        assert self._server.add_insecure_port(self.address)

    def __enter__(self) -> "Between":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def asked(self, request: wire.OpenSessionRequest) -> None:
        """Change what a driver says first."""

    def opened(self, response: wire.OpenSessionResponse) -> None:
        """Change how the agent answers."""

    def said(self, envelope: wire.ClientEnvelope) -> None:
        """Change what the driver says."""

    def heard(self, envelope: wire.AgentEnvelope) -> None:
        """Change what the agent says."""

    def _open(self, request: wire.OpenSessionRequest, _: Any) -> wire.OpenSessionResponse:
        self.asked(request)
        method = self._channel.unary_unary(
            f"/{_SERVICE}/OpenSession",
            wire.OpenSessionRequest.SerializeToString,
            wire.OpenSessionResponse.FromString,
        )
        response = method(request, timeout=60)
        self.opened(response)
        return response

    def _attach(
        self, envelopes: Iterator[wire.ClientEnvelope], _: Any
    ) -> Iterator[wire.AgentEnvelope]:
        def passed_on() -> Iterator[wire.ClientEnvelope]:
            for envelope in envelopes:
                self.said(envelope)
                yield envelope

        method = self._channel.stream_stream(
            f"/{_SERVICE}/Attach",
            wire.ClientEnvelope.SerializeToString,
            wire.AgentEnvelope.FromString,
        )
        for envelope in method(passed_on()):
            self.heard(envelope)
            yield envelope


class AgentOfLastMinor(Between):
    """Makes an agent look as one of version 1.0: it knows nothing of 1.1.

    Attributes
    ----------
    strange : list of str
        What the driver said that 1.0 has no word for, and that ends a session there.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.strange: list[str] = []

    def asked(self, request):
        """Ignore what is new."""
        _forget_news(request)

    def opened(self, response):
        """State the version."""
        _forget_news(response.opened)
        response.opened.protocol.minor = 0

    def said(self, envelope):
        """Ignore new fields, and note new kinds of frames."""
        _forget_news(envelope)
        for frame in envelope.frames:
            kind = frame.WhichOneof("body")
            if kind not in _CLIENT_FRAMES_OF_1_0:
                self.strange.append(kind)
            _forget_news(getattr(frame, kind))

    def heard(self, envelope):
        """Say nothing new."""
        _forget_news(envelope)


class AgentOfNextMinor(Between):
    """Makes an agent look as one to come: it says more than anybody understands."""

    def opened(self, response):
        """State the version, and more."""
        response.opened.protocol.minor = 99
        response.opened.MergeFromString(UNKNOWN_FIELD)

    def heard(self, envelope):
        """Say more in each message, and add a frame of a kind to come."""
        for frame in envelope.frames:
            getattr(frame, frame.WhichOneof("body")).MergeFromString(UNKNOWN_FIELD)
        envelope.frames.insert(0, wire.AgentFrame.FromString(UNKNOWN_FIELD))
        envelope.MergeFromString(UNKNOWN_FIELD)


def _forget_news(message: Any) -> None:
    for name in _NEW_IN_1_1.get(type(message), ()):
        message.ClearField(name)
