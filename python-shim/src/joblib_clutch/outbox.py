"""What a session has to say, put into envelopes as the agent takes them."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from joblib_clutch._wire.clutch.v1 import executor_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joblib_clutch.batch import Batch

# Payload per envelope: large enough to amortize a message, small enough that
# the end of a call does not wait long behind it.
PART_BYTES = 1 << 20


class _Load(NamedTuple):
    control: list[wire.ClientFrame]
    batches: list[Batch]


class Outbox:
    """Orders frames and batches for one stream.

    Control frames go before waiting batches, so that a call ends at once
    however much waits; a batch's parts are never interleaved. Envelopes are
    made only when the transport asks for one: a large payload is never held
    twice.

    Parameters
    ----------
    max_open_batches : int
        Batches that may be sent and not yet ended; others wait here.
    max_open_bytes : int
        Payload bytes that those may have together. A batch that is alone is
        sent whatever its size: the agent explains best why it is too much.
    """

    def __init__(self, max_open_batches: int, max_open_bytes: int) -> None:
        self._max_open_batches = max_open_batches
        self._max_open_bytes = max_open_bytes
        # Payload sizes of what was sent and has not ended, by batch.
        self._open: dict[int, int] = {}
        self._open_bytes = 0
        self._control: deque[wire.ClientFrame] = deque()
        self._batches: deque[Batch] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put_control(self, frame: wire.ClientFrame) -> None:
        """Send a frame ahead of all waiting batches.

        Parameters
        ----------
        frame : ClientFrame
            A profile, or the start or end of a call.
        """
        with self._changed:
            self._control.append(frame)
            self._changed.notify()

    def put_batch(self, batch: Batch) -> None:
        """Send a batch when there is room.

        Parameters
        ----------
        batch : Batch
            The batch.
        """
        with self._changed:
            self._batches.append(batch)
            self._changed.notify()

    def withdraw(self, call_id: int) -> list[Batch]:
        """Take back the waiting batches of a call.

        Parameters
        ----------
        call_id : int
            The call.

        Returns
        -------
        list of Batch
            Batches of which the agent has not heard and never will.
        """
        with self._changed:
            withdrawn = [b for b in self._batches if b.call_id == call_id]
            if withdrawn:
                self._batches = deque(b for b in self._batches if b.call_id != call_id)
        return withdrawn

    def batch_ended(self, batch_id: int) -> None:
        """Make room: one of the batches sent has ended.

        Parameters
        ----------
        batch_id : int
            The batch.
        """
        with self._changed:
            self._open_bytes -= self._open.pop(batch_id, 0)
            self._changed.notify()

    def close(self) -> None:
        """End the stream; what still waits is not sent."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def envelopes(self, session_id: str) -> Iterator[wire.ClientEnvelope]:
        """Produce the stream, waiting for something to say.

        Parameters
        ----------
        session_id : str
            Session that the stream is for.

        Yields
        ------
        ClientEnvelope
            The next envelope.
        """
        yield wire.ClientEnvelope(session_id=session_id)
        while (load := self._next_load()) is not None:
            yield from _envelopes_of(load)
            # Waiting must not keep what was sent alive.
            del load

    def _next_load(self) -> _Load | None:
        with self._changed:
            while not self._closed and not self._control and not self._may_send():
                self._changed.wait()
            if self._closed:
                return None
            control = list(self._control)
            self._control.clear()
            batches: list[Batch] = []
            room = PART_BYTES
            while self._may_send():
                size = len(self._batches[0].payload)
                if batches and size > room:
                    break
                batch = self._batches.popleft()
                self._open[batch.batch_id] = size
                self._open_bytes += size
                batches.append(batch)
                room -= size
            return _Load(control, batches)

    def _may_send(self) -> bool:
        if not self._batches or len(self._open) >= self._max_open_batches:
            return False
        open_bytes = self._open_bytes + len(self._batches[0].payload)
        return not self._open or open_bytes <= self._max_open_bytes


def _envelopes_of(load: _Load) -> Iterator[wire.ClientEnvelope]:
    frames = load.control
    rest, batch_id = memoryview(b""), 0
    for batch in load.batches:
        payload, batch.payload = batch.payload, b""
        frames.append(
            wire.ClientFrame(
                submit_batch=wire.SubmitBatch(
                    batch_id=batch.batch_id,
                    call_id=batch.call_id,
                    tasks=batch.tasks,
                    payload=payload[:PART_BYTES],
                    payload_bytes=len(payload),
                )
            )
        )
        # Only a batch that is alone in its load is larger than one part.
        rest, batch_id = memoryview(payload)[PART_BYTES:], batch.batch_id
    yield wire.ClientEnvelope(frames=frames)
    for start in range(0, len(rest), PART_BYTES):
        part = wire.PayloadPart(batch_id=batch_id, data=bytes(rest[start : start + PART_BYTES]))
        yield wire.ClientEnvelope(frames=[wire.ClientFrame(payload_part=part)])
