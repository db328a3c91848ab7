"""Puts outcomes that came in parts together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblib_clutch._wire.clutch.v1.executor_pb2 import PayloadPart
    from joblib_clutch._wire.clutch.v1.outcome_pb2 import BatchEnded

Outcome = tuple["BatchEnded", bytes]


class BrokenContractError(Exception):
    """The agent sent what the contract does not allow."""


class Inbox:
    """Collects the parts of one outcome at a time."""

    def __init__(self) -> None:
        self._partial: BatchEnded | None = None
        self._parts: list[bytes] = []
        self._missing_bytes = 0

    def begin(self, ended: BatchEnded) -> Outcome | None:
        """Take an outcome, or its beginning.

        Parameters
        ----------
        ended : BatchEnded
            The frame.

        Returns
        -------
        (BatchEnded, bytes) or None
            The whole outcome; None when more parts follow.
        """
        if self._partial is not None:
            raise BrokenContractError("an outcome began before the last was complete")
        if ended.WhichOneof("outcome") is None:
            raise BrokenContractError("an outcome has neither value nor failure")
        payload = ended.value.payload
        return self._add(ended, payload, ended.value.payload_bytes - len(payload))

    def resume(self, part: PayloadPart) -> Outcome | None:
        """Take the next part.

        Parameters
        ----------
        part : PayloadPart
            The frame.

        Returns
        -------
        (BatchEnded, bytes) or None
            The whole outcome; None when more parts follow.
        """
        ended = self._partial
        if ended is None or ended.batch_id != part.batch_id or not part.data:
            raise BrokenContractError("a payload part continues no outcome")
        return self._add(ended, part.data, self._missing_bytes - len(part.data))

    def _add(self, ended: BatchEnded, data: bytes, missing: int) -> Outcome | None:
        if missing < 0:
            raise BrokenContractError("an outcome is longer than it said")
        self._parts.append(data)
        if missing > 0:
            self._partial, self._missing_bytes = ended, missing
            return None
        parts, self._partial, self._parts = self._parts, None, []
        return ended, parts[0] if len(parts) == 1 else b"".join(parts)
