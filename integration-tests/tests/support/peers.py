"""An agent's neighbours, which give content as a test tells them to."""

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from clutch_wire.clutch.v1 import blob_pb2 as blobs
from clutch_wire.clutch.v1.executor_pb2_grpc import (
    ExecutorServicer,
    ExecutorStub,
    add_ExecutorServicer_to_server,
)

from support.agents import some_address
from support.channels import open_channel

_SECONDS = 30


class Neighbour(ExecutorServicer):
    """Serves nothing but `FetchContent`. Use it in a ``with`` block.

    Parameters
    ----------
    *parts : bytes
        What it sends, whatever it is asked for.
    stays : bool
        Whether it then neither sends more nor ends.

    Attributes
    ----------
    address : str
        Where it listens.
    asked : list of FetchContentRequest
        What it was asked for.
    left : Event
        Set when somebody who was being served has hung up.
    """

    def __init__(self, *parts: bytes, stays: bool = False) -> None:
        self.address = some_address()
        self.asked: list[blobs.FetchContentRequest] = []
        self.left = threading.Event()
        self._parts = parts
        self._stays = stays
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        add_ExecutorServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)

    def __enter__(self) -> "Neighbour":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self._server.stop(None).wait()

    def FetchContent(
        self, request: blobs.FetchContentRequest, context: Any
    ) -> Iterator[blobs.ContentPart]:
        """Send what the test wants sent."""
        context.add_callback(self.left.set)
        self.asked.append(request)
        for part in self._parts:
            yield blobs.ContentPart(data=part)
        if self._stays:
            self.left.wait(_SECONDS)


class Reading:
    """Reads a content from an agent, as another agent does. Use it in a ``with`` block.

    Parameters
    ----------
    address : str
        The agent.
    digest : bytes
        The content's.
    size : int
        Its length.
    offset : int
        Where to begin.
    """

    def __init__(self, address: str, digest: bytes, size: int, offset: int = 0) -> None:
        self._channel = open_channel(address)
        request = blobs.FetchContentRequest(digest=digest, bytes=size, offset=offset)
        self._parts = ExecutorStub(self._channel).FetchContent(request, timeout=_SECONDS)

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.cancel()
        self._channel.close()

    def read(self, size: int) -> bytes:
        """Read at least so many bytes."""
        data = b""
        while len(data) < size:
            data += next(self._parts).data
        return data

    def rest(self) -> bytes:
        """Read to the end."""
        return b"".join(part.data for part in self._parts)

    def refusal(self) -> tuple[grpc.StatusCode, str]:
        """Read to the error that must come; give it."""
        try:
            self.rest()
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError("the content came to its end")
