"""A driver by hand: the contract's messages, with no shim in between."""

import array
import os
import platform
import queue
import socket
import struct
import sys
import threading
from typing import Any

import cloudpickle
import joblib
from clutch_wire.clutch.v1 import blob_pb2 as blobs
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub

from support.channels import open_channel

GREETING = b"CLUTCHD1"
READ = blobs.BLOB_ACCESS_READ

_SECONDS = 30


def open_request(name: str) -> wire.OpenSessionRequest:
    """Make what a driver with our environment says first."""
    return wire.OpenSessionRequest(
        protocol=wire.ProtocolVersion(major=1),
        environment=wire.Environment(
            python_version=platform.python_version(),
            implementation=sys.implementation.name,
            cloudpickle_version=cloudpickle.__version__,
            joblib_version=joblib.__version__,
        ),
        name=name,
    )


class Conversation:
    """One session with an agent. Use it in a ``with`` block.

    Parameters
    ----------
    address : str
        Where the agent listens.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = open_channel(address)
        self._stub = ExecutorStub(self._channel)
        self._said: queue.SimpleQueue[wire.ClientEnvelope | None] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[wire.AgentFrame | Exception | None] = queue.SimpleQueue()
        self.id = self._stub.OpenSession(open_request("by hand"), timeout=60).opened.session_id
        self._said.put(wire.ClientEnvelope(session_id=self.id))
        self._stream = self._stub.Attach(iter(self._said.get, None))
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()
        self.say(define_profile=wire.DefineProfile(profile_id=1))
        self.say(open_call=wire.OpenCall(call_id=1, profile_id=1, nesting_level=1))

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        # Not by a cancel: one that overtakes the first envelope would leave a
        # session that nobody attached to.
        self._said.put(None)
        self._reader.join()
        self._channel.close()

    def say(self, **body: Any) -> None:
        """Say one thing, by its name in ``ClientFrame``."""
        self._said.put(wire.ClientEnvelope(frames=[wire.ClientFrame(**body)]))

    def hear(self, kind: str) -> Any:
        """Wait for the next frame of a kind, over those of other kinds."""
        while True:
            frame = self._heard.get(timeout=_SECONDS)
            if not isinstance(frame, wire.AgentFrame):
                raise AssertionError(f"no {kind}: the conversation ended: {frame}")
            if frame.WhichOneof("body") == kind:
                return getattr(frame, kind)

    def ending(self) -> str:
        """Wait for the error with which the agent ends the conversation."""
        while True:
            frame = self._heard.get(timeout=_SECONDS)
            if not isinstance(frame, wire.AgentFrame):
                return str(frame)

    def offer(self, blob_id: int, size: int, digest: bytes = b"", **more: Any) -> blobs.BlobState:
        """Offer a blob; return what the agent makes of it."""
        offer = blobs.OfferBlob(blob_id=blob_id, bytes=size, digest=digest, **more)
        self.say(offer_blob=offer)
        return self.hear("blob_state")

    def send(self, blob_id: int, data: bytes) -> None:
        """Send bytes of a blob that the agent misses."""
        self.say(blob_part=blobs.BlobPart(blob_id=blob_id, data=data))

    def submit(self, batch_id: int, payload: bytes, **more: Any) -> None:
        """Submit a batch of one task."""
        batch = wire.SubmitBatch(
            batch_id=batch_id,
            call_id=1,
            tasks=1,
            payload=payload,
            payload_bytes=len(payload),
            **more,
        )
        self.say(submit_batch=batch)

    def _listen(self) -> None:
        ending = None
        try:
            for envelope in self._stream:
                for frame in envelope.frames:
                    self._heard.put(frame)
        except Exception as error:
            ending = error
        self._heard.put(ending)


class DataLine:
    """A data line, not joined to a session yet. Use it in a ``with`` block.

    Parameters
    ----------
    address : str
        Where the agent listens.
    greeting : bytes
        How it begins.
    """

    def __init__(self, address: str, greeting: bytes = GREETING) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(_SECONDS)
        kind, _, name = address.partition(":")
        self.socket.connect(name if kind == "unix" else "\0" + name)
        self.socket.sendall(greeting)

    def __enter__(self) -> "DataLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, **body: Any) -> tuple[blobs.DataResponse, list[int]]:
        """Ask one thing, by its name in ``DataRequest``; descriptors are the caller's."""
        request = blobs.DataRequest(**body).SerializeToString()
        self.socket.sendall(struct.pack("<I", len(request)) + request)
        # The descriptors come with the first byte.
        length, ancillary, _, _ = self.socket.recvmsg(4, socket.CMSG_SPACE(4 * 8))
        assert length, "the agent closed the line"
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        length += self._exactly(4 - len(length))
        response = self._exactly(*struct.unpack("<I", length))
        return blobs.DataResponse.FromString(response), list(descriptors)

    def join(self, session_id: str) -> "DataLine":
        """Join a session; check that a descriptor arrives."""
        response, descriptors = self.ask(join=blobs.JoinSession(session_id=session_id))
        assert response.HasField("done"), response
        (probe,) = descriptors
        assert os.fstat(probe).st_size == 0
        os.close(probe)
        return self

    def allocate(self, blob_id: int, size: int, **more: Any) -> int:
        """Get a descriptor of room for a blob."""
        wanted = blobs.AllocateBlob(blob_id=blob_id, bytes=size, **more)
        response, descriptors = self.ask(allocate=wanted)
        assert response.HasField("descriptor"), response
        (descriptor,) = descriptors
        return descriptor

    def commit(self, blob_id: int) -> None:
        """Say that a blob is complete."""
        response, descriptors = self.ask(commit=blobs.CommitBlob(blob_id=blob_id))
        assert response.HasField("done"), response
        assert descriptors == []

    def put(self, blob_id: int, content: bytes, **more: Any) -> None:
        """Allocate a blob, fill it and commit it."""
        descriptor = self.allocate(blob_id, len(content), **more)
        try:
            assert os.pwrite(descriptor, content, 0) == len(content)
        finally:
            os.close(descriptor)
        self.commit(blob_id)

    def refusal(self, **body: Any) -> str:
        """Ask something that is refused; return why."""
        response, descriptors = self.ask(**body)
        assert response.HasField("refused"), response
        assert descriptors == []
        return response.refused.message

    def closed(self) -> bool:
        """Wait until the agent closes the line; false when it says something instead."""
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def _exactly(self, size: int) -> bytes:
        pieces = b""
        while len(pieces) < size:
            piece = self.socket.recv(size - len(pieces))
            assert piece, "the agent closed the line"
            pieces += piece
        return pieces


def joined(conversation: Conversation) -> DataLine:
    """Open a data line for a session."""
    return DataLine(conversation.address).join(conversation.id)
