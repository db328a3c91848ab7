"""The blobs of one call: what was copied out of the driver, and for how long."""

from __future__ import annotations

import enum
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from joblib_clutch.exceptions import CallCancelledError, QuotaExceededError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from typing_extensions import Buffer

# How long to wait, in seconds, before each further attempt to put a blob after
# others were given up for it: the agent hears of both on different lines.
_PAUSES = (0.0, 0.01, 0.1, 0.5)


class Access(enum.IntEnum):
    """What a worker may do with a blob; numbered as in the contract."""

    READ = 1
    COPY = 2
    WRITE = 3


class BlobSink(Protocol):
    """Where blobs go: one for each session."""

    def put(self, buffer: Buffer, *, writable: bool = False) -> int:
        """Copy a buffer out.

        Parameters
        ----------
        buffer : contiguous buffer
            At least one byte. Not used after the return.
        writable : bool
            Whether workers may write to the blob.

        Returns
        -------
        int
            The blob's name; never reused.

        Raises
        ------
        ClutchError
            It cannot be copied.
        """

    def release(self, blob_ids: list[int]) -> None:
        """Let go of blobs that nothing uses any more. Never raises."""

    def sees(self, path: str, device: int, inode: int, size: int) -> bool:
        """Tell whether workers open the same file by that path."""


class _Watch(weakref.ref[Any]):
    """A weak reference that knows whose life it decides."""

    __slots__ = ("blob",)
    blob: Blob


class Blob:
    """One thing and its copy at the agent.

    Attributes
    ----------
    blob_id : int
        The name; 0 until it was put.
    stamp : object
        What the maker noted about the content.
    uses : list of (int, Access)
        The blobs that its content refers to.
    writable : bool
        Whether workers may write to it: then it is the only place of what they wrote.
    lock : Lock
        Held while it is put, so that it is put once.
    """

    __slots__ = (
        "_held",
        "_key",
        "_parts",
        "_pins",
        "_watch",
        "blob_id",
        "lock",
        "stamp",
        "uses",
        "writable",
    )

    def __init__(self, key: Hashable) -> None:
        self.blob_id = 0
        self.stamp: object = None
        self.uses: list[tuple[int, Access]] = []
        self.writable = False
        self.lock = threading.Lock()
        self._key = key
        self._pins = 1
        self._parts: tuple[Blob, ...] = ()
        self._watch: _Watch | None = None
        self._held: object = None

    def is_of(self, thing: object) -> bool:
        """Whether this is the copy of this very object."""
        return self.thing() is thing

    def thing(self) -> object:
        """Return what was copied; None when it is gone."""
        return self._held if self._watch is None else self._watch()


class _Gone:
    """What was given up with the lock held, to be let go of without it."""

    def __init__(self) -> None:
        self.blob_ids: list[int] = []
        # The last reference to a user's object may go here, which runs the
        # user's code.
        self.things: list[object] = []


class BlobCache:
    """Keeps one copy of each thing while it lives or an open batch uses it.

    A thing that cannot be referenced weakly is kept alive, and its copy with
    it, only while an open batch uses it. Safe to use from several threads.

    Parameters
    ----------
    sink : BlobSink
        Where the copies are.
    """

    def __init__(self, sink: BlobSink) -> None:
        self.sink = sink
        self._lock = threading.Lock()
        self._known: dict[Hashable, Blob] = {}
        # All that were put and not released.
        self._put: set[Blob] = set()
        # Watched things that died. They die at any moment, also in a thread
        # that holds the lock, so their end is only noted here.
        self._dead: deque[_Watch] = deque()
        self._closed = False

    def pin(self, key: Hashable, thing: object) -> Blob:
        """Get a blob and keep it until it is unpinned as often.

        Parameters
        ----------
        key : hashable
            What names the thing while it lives.
        thing : object
            What the copy is of. Watched in the case of a new blob.

        Returns
        -------
        Blob
            The blob; perhaps not put yet, or of another thing by the same key.

        Raises
        ------
        CallCancelledError
            The call has ended.
        """
        with self._lock:
            if self._closed:
                raise _ended()
            gone = self._bury()
            blob = self._known.get(key)
            if blob is None:
                blob = self._new(key, thing)
            else:
                blob._pins += 1
        self._release(gone)
        return blob

    def replace(self, blob: Blob, thing: object) -> Blob:
        """Pin a new blob in the place of one whose content is not that of `thing`.

        Parameters
        ----------
        blob : Blob
            Pinned by the caller, and still pinned after; nobody else gets it.
        thing : object
            As in `pin`.

        Returns
        -------
        Blob
            Perhaps not put yet: another thread may have been faster.
        """
        with self._lock:
            if self._known.get(blob._key) in (blob, None):
                return self._new(blob._key, thing)
        return self.pin(blob._key, thing)

    def adopt(self, blob: Blob, thing: object) -> None:
        """Let a blob of the same content live as long as `thing`."""
        with self._lock:
            self._watch(blob, thing)

    def put(self, blob: Blob, buffer: Buffer, *, writable: bool = False) -> None:
        """Copy a pinned blob's content out. The caller holds the blob's lock.

        Raises
        ------
        ClutchError
            It cannot be copied, or the call has ended.
        """
        blob_id = self._sent(buffer, writable=writable)
        with self._lock:
            closed = self._closed
            if not closed:
                blob.blob_id, blob.writable = blob_id, writable
                self._put.add(blob)
        if closed:
            self.sink.release([blob_id])
            raise _ended()

    def keep(self, blob: Blob, parts: Iterable[Blob]) -> None:
        """Pin other blobs, which the caller has pinned, as long as this one is."""
        with self._lock:
            blob._parts = tuple(parts)
            for part in blob._parts:
                part._pins += 1

    def unpin(self, blobs: Iterable[Blob]) -> None:
        """Take pins back; what then has no use left is released."""
        with self._lock:
            gone = self._bury()
            for blob in blobs:
                self._unpin(blob, gone)
        self._release(gone)

    def close(self) -> None:
        """Release everything, whoever uses it."""
        with self._lock:
            self._closed = True
            gone = _Gone()
            for blob in [*self._put, *self._known.values()]:
                self._drop(blob, gone)
            self._dead.clear()
        self._release(gone)

    def _sent(self, buffer: Buffer, *, writable: bool) -> int:
        """Copy a buffer out; things that live and wait for a next batch make way for it."""
        try:
            return self.sink.put(buffer, writable=writable)
        except QuotaExceededError as error:
            if not self._give_up_unused():
                raise
            refusal = error
        for pause in _PAUSES:
            time.sleep(pause)
            try:
                return self.sink.put(buffer, writable=writable)
            except QuotaExceededError as error:
                refusal = error
        raise refusal

    def _give_up_unused(self) -> bool:
        """Release what no open batch uses and can be put again; tell whether there was any."""
        with self._lock:
            gone = self._bury()
            for blob in list(self._put):
                if blob._pins == 0 and not blob.writable:
                    self._drop(blob, gone)
        self._release(gone)
        return bool(gone.blob_ids)

    # --- with the lock ----------------------------------------------------------

    def _new(self, key: Hashable, thing: object) -> Blob:
        blob = Blob(key)
        self._watch(blob, thing)
        self._known[key] = blob
        return blob

    def _watch(self, blob: Blob, thing: object) -> None:
        try:
            watch = _Watch(thing, self._dead.append)
        except TypeError:
            blob._held = thing
        else:
            watch.blob = blob
            blob._watch = watch

    def _bury(self) -> _Gone:
        """Give the copies of dead things up."""
        gone = _Gone()
        while self._dead:
            watch = self._dead.popleft()
            # A blob that was adopted has another one's life.
            if watch.blob._watch is watch and watch.blob._pins == 0:
                self._drop(watch.blob, gone)
        return gone

    def _unpin(self, blob: Blob, gone: _Gone) -> None:
        blob._pins -= 1
        if blob._pins > 0:
            return
        lives = blob._watch is not None and blob._watch() is not None
        if not (lives and blob.blob_id and self._known.get(blob._key) is blob):
            self._drop(blob, gone)

    def _drop(self, blob: Blob, gone: _Gone) -> None:
        if self._known.get(blob._key) is blob:
            del self._known[blob._key]
        if blob in self._put:
            self._put.discard(blob)
            gone.blob_ids.append(blob.blob_id)
        gone.things.append(blob._held)
        blob._watch = blob._held = None
        parts, blob._parts = blob._parts, ()
        for part in parts:
            self._unpin(part, gone)

    # --- without the lock -------------------------------------------------------

    def _release(self, gone: _Gone) -> None:
        if gone.blob_ids:
            self.sink.release(gone.blob_ids)


def _ended() -> CallCancelledError:
    return CallCancelledError("the call has ended", kind="CANCELLED", fault="NOBODY")
