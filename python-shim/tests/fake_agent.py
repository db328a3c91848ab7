"""A small agent in plain Python: the contract, without processes or limits."""

from __future__ import annotations

import io
import os
import pickle
import queue
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from clutch_wire.clutch.v1 import blob_pb2, failure_pb2, outcome_pb2
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import executor_pb2_grpc as services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PART_BYTES = 1 << 20


class TaskFailureError(Exception):
    """Raised by a task to end its batch with a given failure of the wire."""

    def __init__(self, kind: int, **fields: Any) -> None:
        super().__init__(kind, fields)
        self.failure = failure_pb2.Failure(kind=kind, **fields)

    def __reduce__(self) -> Any:
        return (_rebuild_task_failure, (self.args[0], self.args[1]))


def _rebuild_task_failure(kind: int, fields: dict[str, Any]) -> TaskFailureError:
    return TaskFailureError(kind, **fields)


class FakeAgent(services.ExecutorServicer):
    """Runs payloads on threads of the test's process."""

    def __init__(
        self,
        *,
        slots: int = 2,
        max_open_batches: int = 1000,
        max_batch_bytes: int = 64 << 20,
        refusal: wire.Refusal | None = None,
    ) -> None:
        self.slots = slots
        self.max_open_batches = max_open_batches
        self.max_batch_bytes = max_batch_bytes
        self.refusal = refusal
        # None: the driver's own version.
        self.protocol: wire.ProtocolVersion | None = None
        self.requests: list[wire.OpenSessionRequest] = []
        self.frames: list[wire.ClientFrame] = []
        self.most_open = 0
        self.closed_calls = threading.Semaphore(0)
        self.on_batch: Callable[[Conversation, wire.SubmitBatch], None] | None = None
        # Adds to an outcome before it is sent.
        self.on_end: Callable[[outcome_pb2.BatchEnded], None] | None = None
        # Results that are saved ahead of the rest of each batch.
        self.saves = 0
        self.conversations: list[Conversation] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        services.add_ExecutorServicer_to_server(self, self._server)
        self.address = f"unix-abstract:clutch-test-{uuid.uuid4().hex}"
        self._server.add_insecure_port(self.address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

    def sent(self, body: str) -> list[Any]:
        return [getattr(f, body) for f in self.frames if f.WhichOneof("body") == body]

    def OpenSession(
        self,
        request: wire.OpenSessionRequest,
        context: grpc.ServicerContext,
    ) -> wire.OpenSessionResponse:
        self.requests.append(request)
        if self.refusal is not None:
            return wire.OpenSessionResponse(refusal=self.refusal)
        return wire.OpenSessionResponse(
            opened=wire.SessionOpened(
                session_id="the-session",
                slots=self.slots,
                environment=request.environment,
                protocol=self.protocol or request.protocol,
                host="fakehost",
                max_batch_bytes=self.max_batch_bytes,
                max_open_batches=self.max_open_batches,
                max_session_bytes=1 << 30,
            )
        )

    def Attach(
        self,
        request_iterator: Iterator[wire.ClientEnvelope],
        context: grpc.ServicerContext,
    ) -> Iterator[wire.AgentEnvelope]:
        conversation = Conversation(self)
        self.conversations.append(conversation)
        reader = threading.Thread(target=conversation.read, args=(request_iterator,), daemon=True)
        reader.start()
        context.add_callback(conversation.hang_up)
        while (frames := conversation.outgoing.get()) is not None:
            yield from (wire.AgentEnvelope(frames=[frame]) for frame in frames)


class Conversation:
    """One attached stream."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.outgoing: queue.SimpleQueue[list[wire.AgentFrame] | None] = queue.SimpleQueue()
        self._workers = ThreadPoolExecutor(agent.slots)
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        self._assembling: tuple[wire.SubmitBatch, bytearray] | None = None

    def hang_up(self) -> None:
        self.outgoing.put(None)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def read(self, envelopes: Iterator[wire.ClientEnvelope]) -> None:
        try:
            first = next(envelopes)
            assert first.session_id == "the-session"
            for envelope in envelopes:
                assert not envelope.session_id
                for frame in envelope.frames:
                    self._take(frame)
        except AssertionError:
            raise
        except Exception:
            # grpcio ends the iterator of a broken stream with a bare Exception.
            pass
        finally:
            self.hang_up()

    def end(self, ended: outcome_pb2.BatchEnded, payload: bytes = b"") -> None:
        """Send an outcome, unless the batch has had one."""
        with self._lock:
            if self._open.pop(ended.batch_id, None) is None:
                return
        if self.agent.on_end is not None:
            self.agent.on_end(ended)
        if not ended.HasField("failure"):
            ended.value.payload = payload[:PART_BYTES]
            ended.value.payload_bytes = len(payload)
        frames = [wire.AgentFrame(batch_ended=ended)]
        for start in range(PART_BYTES, len(payload), PART_BYTES):
            data = payload[start : start + PART_BYTES]
            part = wire.PayloadPart(batch_id=ended.batch_id, data=data)
            frames.append(wire.AgentFrame(payload_part=part))
        self.outgoing.put(frames)

    def _take(self, frame: wire.ClientFrame) -> None:
        self.agent.frames.append(frame)
        body = frame.WhichOneof("body")
        if body == "submit_batch":
            submit = frame.submit_batch
            assert self._assembling is None, "frames between the parts of a batch"
            self._assembling = (submit, bytearray(submit.payload))
            with self._lock:
                self._open[submit.batch_id] = submit.call_id
                self.agent.most_open = max(self.agent.most_open, len(self._open))
        elif body == "payload_part":
            assert self._assembling is not None
            assert frame.payload_part.batch_id == self._assembling[0].batch_id
            self._assembling[1].extend(frame.payload_part.data)
        elif body == "offer_blob":
            # Code of these tests: its tasks run in this process, which has it.
            state = blob_pb2.BlobState(blob_id=frame.offer_blob.blob_id)
            state.present.SetInParent()
            self.outgoing.put([wire.AgentFrame(blob_state=state)])
        elif body == "close_call":
            self._close_call(frame.close_call.call_id)
        if self._assembling is not None:
            submit, payload = self._assembling
            if len(payload) == submit.payload_bytes:
                self._assembling = None
                self._workers.submit(self._run, submit, bytes(payload))

    def _close_call(self, call_id: int) -> None:
        with self._lock:
            cancelled = [b for b, call in self._open.items() if call == call_id]
        for batch_id in cancelled:
            failure = failure_pb2.Failure(kind=failure_pb2.FAILURE_KIND_CANCELLED)
            self.end(outcome_pb2.BatchEnded(batch_id=batch_id, failure=failure))
        self.agent.closed_calls.release()

    def _run(self, submit: wire.SubmitBatch, payload: bytes) -> None:
        if self.agent.on_batch is not None:
            self.agent.on_batch(self, submit)
        ended = outcome_pb2.BatchEnded(batch_id=submit.batch_id, worker_pid=os.getpid())
        timings = ended.timings
        timings.queued_at = timings.assigned_at = time.monotonic_ns()
        timings.received_at = timings.unpickled_at = timings.queued_at
        results: list[Any] = []
        try:
            for function, args, kwargs in pickle.loads(payload):
                started = time.monotonic_ns()
                try:
                    results.append(function(*args, **kwargs))
                finally:
                    timings.task_nanoseconds.append(time.monotonic_ns() - started)
            timings.ran_at = time.monotonic_ns()
            saved = [pickle.dumps([result]) for result in results[: self.agent.saves]]
            ended.value.saved_bytes.extend(map(len, saved))
            data = b"".join(saved) + pickle.dumps(results[len(saved) :], protocol=5)
            timings.pickled_at = timings.ended_at = time.monotonic_ns()
        except TaskFailureError as failure:
            ended.failure.CopyFrom(failure.failure)
            self.end(ended)
        except BaseException as error:
            ended.failure.CopyFrom(raised(error, len(results)))
            self.end(ended)
        else:
            self.end(ended, data)


def raised(error: BaseException, index: int = 0) -> failure_pb2.Failure:
    """Describe an exception as the interpreter host does."""
    text = io.StringIO()
    traceback.print_exception(error, file=text)
    try:
        data = pickle.dumps(error)
    except Exception:
        data = b""
    return failure_pb2.Failure(
        kind=failure_pb2.FAILURE_KIND_TASK_RAISED,
        fault=failure_pb2.FAULT_TASK,
        message="the task raised",
        task_index=index,
        exception=failure_pb2.ExceptionInfo(
            pickle=data,
            type_name=type(error).__qualname__,
            text=str(error),
            traceback=text.getvalue(),
        ),
    )
