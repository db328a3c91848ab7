from collections.abc import Iterator

import grpc

from clutch_wire.clutch.v1 import blob_pb2
from clutch_wire.clutch.v1 import executor_pb2

class ExecutorStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    OpenSession: grpc.UnaryUnaryMultiCallable[executor_pb2.OpenSessionRequest, executor_pb2.OpenSessionResponse]
    Attach: grpc.StreamStreamMultiCallable[executor_pb2.ClientEnvelope, executor_pb2.AgentEnvelope]
    FetchContent: grpc.UnaryStreamMultiCallable[blob_pb2.FetchContentRequest, blob_pb2.ContentPart]
    Drain: grpc.UnaryUnaryMultiCallable[executor_pb2.DrainRequest, executor_pb2.DrainResponse]
    GetStatus: grpc.UnaryUnaryMultiCallable[executor_pb2.GetStatusRequest, executor_pb2.GetStatusResponse]

class ExecutorServicer:
    def OpenSession(
        self, request: executor_pb2.OpenSessionRequest, context: grpc.ServicerContext
    ) -> executor_pb2.OpenSessionResponse: ...
    def Attach(
        self, request: Iterator[executor_pb2.ClientEnvelope], context: grpc.ServicerContext
    ) -> Iterator[executor_pb2.AgentEnvelope]: ...
    def FetchContent(
        self, request: blob_pb2.FetchContentRequest, context: grpc.ServicerContext
    ) -> Iterator[blob_pb2.ContentPart]: ...
    def Drain(
        self, request: executor_pb2.DrainRequest, context: grpc.ServicerContext
    ) -> executor_pb2.DrainResponse: ...
    def GetStatus(
        self, request: executor_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> executor_pb2.GetStatusResponse: ...

def add_ExecutorServicer_to_server(
    servicer: ExecutorServicer, server: grpc.Server
) -> None: ...
