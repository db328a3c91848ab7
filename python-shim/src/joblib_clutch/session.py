"""A driver's conversation with one agent."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import grpc

from joblib_clutch._wire.clutch.v1 import executor_pb2 as wire
from joblib_clutch._wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib_clutch.exceptions import (
    AgentUnavailableError,
    CallCancelledError,
    QuotaExceededError,
)
from joblib_clutch.handshake import describe, open_channel, open_session
from joblib_clutch.inbox import BrokenContractError, Inbox, Outcome
from joblib_clutch.outbox import Outbox
from joblib_clutch.output import OutputPrinter

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.batch import Batch
    from joblib_clutch.profile import WorkerProfile

# A profile is one frame, and a frame must fit in one envelope.
_MAX_SETUP_BYTES = 3 << 20


class Session:
    """One lease on one agent. Once lost it stays lost; open another.

    Parameters
    ----------
    address : str
        The agent's address.
    python : str or None
        Interpreter wanted, by its path on the agent's machine.
    evidence : callable
        Called when the agent is lost; returns what is known about that, as
        keyword arguments of `ClutchError`.
    """

    def __init__(
        self, address: str, python: str | None, evidence: Callable[[], dict[str, Any]]
    ) -> None:
        self.address = address
        self._evidence = evidence
        # Reentrant: a collected generator of joblib ends its call from wherever
        # the collector happens to run, here included.
        self._lock = threading.RLock()
        self._lost: AgentUnavailableError | None = None
        self._open: dict[int, Batch] = {}
        self._profiles: dict[WorkerProfile, int] = {}
        self._ids = itertools.count(1)
        self._channel = open_channel(address)
        stub = ExecutorStub(self._channel)
        try:
            opened = open_session(stub, address, python)
        except BaseException:
            self._channel.close()
            raise
        self.slots = opened.slots
        self.host = opened.host
        self._max_batch_bytes = opened.max_batch_bytes
        self._outbox = Outbox(opened.max_open_batches, opened.max_session_bytes)
        self._stream = stub.Attach(self._outbox.envelopes(opened.session_id))
        threading.Thread(target=self._read, name="clutch-session-reader", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether new calls can be opened."""
        return self._lost is None

    def open_call(
        self,
        profile: WorkerProfile,
        *,
        max_running: int,
        nesting_level: int,
        task_timeout_seconds: float,
    ) -> int:
        """Open a joblib call.

        Parameters
        ----------
        profile : WorkerProfile
            Workers that run it.
        max_running : int
            Batches that may run at once; 0: the agent's slots.
        nesting_level : int
            Nesting level of joblib calls made inside the tasks.
        task_timeout_seconds : float
            Wall time that one task may take; 0: no limit.

        Returns
        -------
        int
            The call's name in this session.
        """
        if len(profile.setup) > _MAX_SETUP_BYTES:
            raise QuotaExceededError(
                f"the pickled initializer and its arguments take {len(profile.setup)}"
                f" bytes, more than {_MAX_SETUP_BYTES}",
                kind="QUOTA_EXCEEDED",
                fault="DRIVER",
                advice="let the initializer load its data itself",
            )
        with self._lock:
            profile_id = self._profiles.get(profile)
            if profile_id is None:
                profile_id = self._profiles[profile] = next(self._ids)
                define = wire.DefineProfile(
                    profile_id=profile_id,
                    variables=dict(profile.variables),
                    workers=profile.workers,
                    setup=profile.setup,
                )
                self._outbox.put_control(wire.ClientFrame(define_profile=define))
            call_id = next(self._ids)
            open_call = wire.OpenCall(
                call_id=call_id,
                profile_id=profile_id,
                max_running=max_running,
                nesting_level=nesting_level,
                task_timeout_seconds=task_timeout_seconds,
            )
            self._outbox.put_control(wire.ClientFrame(open_call=open_call))
        return call_id

    def submit(self, batch: Batch) -> None:
        """Send a batch. Never blocks and never raises.

        Parameters
        ----------
        batch : Batch
            A batch of an open call; gets its name here. Its outcome goes to
            ``batch.outcomes``.
        """
        size = len(batch.payload)
        if size > self._max_batch_bytes:
            batch.payload = b""
            error = QuotaExceededError(
                f"a batch of {batch.tasks} tasks pickles to {size} bytes, and the"
                f" agent takes at most {self._max_batch_bytes}",
                kind="QUOTA_EXCEEDED",
                fault="DRIVER",
                advice="pass smaller arguments, or a smaller batch_size",
            )
            batch.outcomes.failed(batch, error)
            return
        with self._lock:
            lost = self._lost
            if lost is None:
                # Names grow in the order of sending, as the agent demands.
                batch.batch_id = next(self._ids)
                self._open[batch.batch_id] = batch
                self._outbox.put_batch(batch)
        if lost is not None:
            batch.outcomes.failed(batch, lost)

    def close_call(self, call_id: int) -> None:
        """End a call at once; its unfinished batches are cancelled.

        Parameters
        ----------
        call_id : int
            The call.
        """
        close = wire.CloseCall(call_id=call_id)
        with self._lock:
            withdrawn = self._outbox.withdraw(call_id)
            self._outbox.put_control(wire.ClientFrame(close_call=close))
            unsent = [b for b in withdrawn if self._open.pop(b.batch_id, None)]
        for batch in unsent:
            error = CallCancelledError(
                "the call ended before the batch was sent",
                kind="CANCELLED",
                fault="NOBODY",
            )
            batch.outcomes.failed(batch, error)

    def close(self) -> None:
        """End the session; what runs for it is killed."""
        self._outbox.close()
        self._stream.cancel()
        self._lose("the driver closed the session", {})
        self._channel.close()

    def _read(self) -> None:
        inbox, printer = Inbox(), OutputPrinter()
        try:
            for envelope in self._stream:
                for frame in envelope.frames:
                    self._take(frame, inbox, printer)
            reason = "it ended the session"
        except (grpc.RpcError, BrokenContractError) as error:
            reason = describe(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, batches must end
            reason = f"{type(error).__name__}: {error}"
        if self.alive:
            self._lose(reason, self._evidence())
        self._stream.cancel()

    def _take(self, frame: wire.AgentFrame, inbox: Inbox, printer: OutputPrinter) -> None:
        body = frame.WhichOneof("body")
        if body == "batch_ended":
            self._end(inbox.begin(frame.batch_ended))
        elif body == "payload_part":
            self._end(inbox.resume(frame.payload_part))
        elif body == "output":
            printer.write(frame.output)
        elif body == "capacity":
            self.slots = frame.capacity.slots
        # Anything else is an addition of a newer agent.

    def _end(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        ended, payload = outcome
        with self._lock:
            batch = self._open.pop(ended.batch_id, None)
        if batch is None:
            raise BrokenContractError(f"batch {ended.batch_id} ended and is not open")
        self._outbox.batch_ended(ended.batch_id)
        batch.outcomes.ended(batch, ended, payload)

    def _lose(self, reason: str, evidence: dict[str, Any]) -> None:
        error = AgentUnavailableError(
            f"lost the agent at {self.address}: {reason}",
            kind="AGENT_UNAVAILABLE",
            fault="AGENT",
            **evidence,
        )
        with self._lock:
            if self._lost is not None:
                return
            self._lost = error
            orphans = list(self._open.values())
            self._open.clear()
        self._outbox.close()
        for batch in orphans:
            batch.outcomes.failed(batch, error)
