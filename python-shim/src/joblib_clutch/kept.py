"""What one call has put, kept so that another agent can have it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from joblib_clutch.exceptions import AgentUnavailableError, CallCancelledError
from joblib_clutch.lost import SessionLostError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from joblib_clutch import _native
    from joblib_clutch.blobs import Access
    from joblib_clutch.session import Session

# Most bytes of a call that are copied in this process, where the agent's memory
# cannot be shared or the agent is lost at that moment.
_MOST_COPIED_BYTES = 256 << 20


class _Kept:
    """One blob: its name at the agent that has it, and its content.

    Attributes
    ----------
    session : Session or None
        Where it was put last; None: nowhere yet.
    name : int
        Its name there.
    content : Mapping, bytes or None
        What to put again; None: it cannot be.
    writable : bool
        Whether workers may write to it.
    lock : Lock
        Held while it is put again, so that it is put once.
    """

    __slots__ = ("content", "lock", "name", "session", "writable")

    def __init__(
        self,
        session: Session | None,
        name: int,
        content: _native.Mapping | bytes | None,
        *,
        writable: bool,
    ) -> None:
        self.session = session
        self.name = name
        self.content = content
        self.writable = writable
        self.lock = threading.Lock()


class KeptBlobs:
    """The blobs of one call, by names that outlive the agent; a `BlobSink`.

    The memory that was filled for an agent stays mapped here: that costs
    nothing while the agent lives, and has the very bytes when it does not.
    What the objects of the user hold by then may be something else.

    Parameters
    ----------
    session : Session
        Where things go.
    keep : bool
        Whether batches may be sent again; False: nothing is kept.
    private : bool
        Whether the agent and its successor are this process's own.
    """

    def __init__(self, session: Session, *, keep: bool, private: bool) -> None:
        self._session = session
        self._keep = keep
        self._private = private
        # Reentrant, as for `Session`.
        self._lock = threading.RLock()
        self._kept: dict[int, _Kept] = {}
        self._last = 0
        self._copied_bytes = 0
        # What the agent said of files, by device.
        self._seen: dict[int, bool] = {}

    def follow(self, session: Session) -> None:
        """Send what comes from now on to another session.

        Parameters
        ----------
        session : Session
            The session.
        """
        self._session = session

    def put(self, buffer: Buffer, *, writable: bool = False) -> int:
        """Copy a buffer out; see `BlobSink.put`."""
        session = self._session
        content: _native.Mapping | bytes | None
        try:
            name, content = session.blobs.put(buffer, writable=writable)
        except SessionLostError:
            # One may be large: the memory that it had at the agent is free now.
            content = self._copy(buffer, room_for_one=True) if self._keep else None
            if content is None:
                raise session.lost_error() from None
            kept = _Kept(None, 0, content, writable=writable)
        else:
            if not self._keep:
                content = None
            elif content is None and not writable:
                content = self._copy(buffer)
            kept = _Kept(session, name, content, writable=writable)
        with self._lock:
            self._last += 1
            self._kept[self._last] = kept
            return self._last

    def release(self, blob_ids: list[int]) -> None:
        """Let go of blobs; see `BlobSink.release`."""
        names: dict[Session, list[int]] = {}
        with self._lock:
            for blob_id in blob_ids:
                kept = self._kept.pop(blob_id)
                self._forget_copy(kept)
                if kept.session is not None:
                    names.setdefault(kept.session, []).append(kept.name)
        for session, released in names.items():
            session.blobs.release(released)

    def sees(self, path: str, device: int, inode: int, size: int) -> bool:
        """Tell whether workers open the same file; see `BlobSink.sees`."""
        session = self._session
        try:
            same = session.blobs.sees(path, device, inode, size)
        except SessionLostError:
            # No copy may stand for a file to which workers are meant to write.
            if self._keep and (self._private or device in self._seen):
                return self._seen.get(device, True)
            raise session.lost_error() from None
        self._seen[device] = same
        return same

    def uses(
        self, session: Session, uses: Iterable[tuple[int, Access]]
    ) -> list[tuple[int, Access]]:
        """Name blobs as an agent knows them; what it does not have yet is put.

        Parameters
        ----------
        session : Session
            The agent.
        uses : iterable of (int, Access)
            Blobs by our names.

        Returns
        -------
        list of (int, Access)
            The same by the agent's.

        Raises
        ------
        SessionLostError
            The agent is lost.
        ClutchError
            It cannot be put again.
        """
        return [(self.name(session, blob_id), access) for blob_id, access in uses]

    def name(self, session: Session, blob_id: int) -> int:
        """Name one blob; see `uses`."""
        kept = self._kept.get(blob_id)
        if kept is None:
            raise _ended()
        with kept.lock:
            if kept.session is not session:
                self._put_again(session, blob_id, kept)
            return kept.name

    def _put_again(self, session: Session, blob_id: int, kept: _Kept) -> None:
        if kept.content is None:
            raise _gone(kept)
        name, content = session.blobs.put(kept.content, writable=kept.writable)
        with self._lock:
            released = blob_id not in self._kept
            if not released:
                kept.session, kept.name = session, name
                if content is not None or kept.writable:
                    self._forget_copy(kept)
                    kept.content = content
        if released:
            session.blobs.release([name])
            raise _ended()

    def _copy(self, buffer: Buffer, *, room_for_one: bool = False) -> bytes | None:
        """Copy a buffer, when that many bytes may be copied."""
        size = memoryview(buffer).nbytes
        with self._lock:
            after = self._copied_bytes + (0 if room_for_one else size)
            if after > _MOST_COPIED_BYTES:
                return None
            self._copied_bytes += size
        try:
            return bytes(buffer)
        except MemoryError:
            with self._lock:
                self._copied_bytes -= size
            return None

    def _forget_copy(self, kept: _Kept) -> None:
        if isinstance(kept.content, bytes):
            self._copied_bytes -= len(kept.content)
        kept.content = None


def _gone(kept: _Kept) -> AgentUnavailableError:
    why = (
        "its tasks write to a large argument (mmap_mode), and what they wrote went with the agent"
        if kept.writable
        else "a large argument went over the network, and no copy of it was kept"
    )
    return AgentUnavailableError(
        f"the agent was lost, and the batch cannot be sent again: {why}",
        kind="AGENT_UNAVAILABLE",
        fault="AGENT",
    )


def _ended() -> CallCancelledError:
    return CallCancelledError("the call has ended", kind="CANCELLED", fault="NOBODY")
