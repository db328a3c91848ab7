"""What one call has put, at each of several agents."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from joblib_clutch import _native
from joblib_clutch.broadcast import Chain
from joblib_clutch.exceptions import CallCancelledError, QuotaExceededError
from joblib_clutch.lost import SessionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from joblib_clutch.blobs import Access
    from joblib_clutch.payload import Payload
    from joblib_clutch.session import Session


class _Copies:
    """One blob: its content, and its name at each agent that has it.

    Attributes
    ----------
    content : Mapping or bytes
        Its content.
    size : int
        Its length in bytes.
    names : dict
        Its names, by session.
    chain : Chain
        The agents that get it from each other.
    """

    __slots__ = ("_digest", "_naming", "chain", "content", "names", "size")

    def __init__(self, content: _native.Mapping | bytes, size: int) -> None:
        self.content = content
        self.size = size
        self.names: dict[Session, int] = {}
        self.chain: Chain[Session] = Chain()
        self._digest: bytes | None = None
        self._naming = threading.Lock()

    def digest(self) -> bytes:
        """Name the content, once for all agents."""
        with self._naming:
            if self._digest is None:
                self._digest = _native.digest(self.content)
            return self._digest


class SpreadBlobs:
    """The blobs of one call by names of their own; a `BlobSink`.

    Nothing goes over a network here: the content is kept, and put at an agent when
    a batch goes there that needs it. An agent of this machine gets it at once; its
    memory is what is kept then.

    Attributes
    ----------
    sessions : callable
        Gives the sessions that are there.
    released : callable or None
        Called with blobs that are released.
    held : callable or None
        Called with a session and blobs that it got at once.
    """

    def __init__(self) -> None:
        self.sessions: Callable[[], list[Session]] = list
        self.released: Callable[[list[int]], object] | None = None
        self.held: Callable[[Session, list[int]], object] | None = None
        # Reentrant, as for `Session`.
        self._lock = threading.RLock()
        self._blobs: dict[int, _Copies] = {}
        self._last = 0
        # Files that workers are to open themselves: who joins must see them too.
        self._files: dict[tuple[str, int, int, int], bool] = {}

    def put(self, buffer: Buffer, *, writable: bool = False) -> int:
        """Keep a buffer; see `BlobSink.put`."""
        if writable:
            raise QuotaExceededError(
                "tasks that write to a common array (mmap_mode) cannot run on several agents",
                kind="QUOTA_EXCEEDED",
                fault="DRIVER",
                advice="name one agent, not a list; or return what the tasks compute",
            )
        for session in self.sessions():
            if not session.native.shares_memory:
                continue
            try:
                name, content = session.blobs.put(buffer)
            except (SessionLostError, QuotaExceededError):
                continue
            if content is not None:
                blob_id = self._keep(_Copies(content, memoryview(buffer).nbytes), session, name)
                if self.held is not None:
                    self.held(session, [blob_id])
                return blob_id
            session.blobs.release([name])
        return self._keep(_Copies(bytes(buffer), memoryview(buffer).nbytes), None, 0)

    def release(self, blob_ids: list[int]) -> None:
        """Let go of blobs; see `BlobSink.release`."""
        names: dict[Session, list[int]] = {}
        with self._lock:
            for blob_id in blob_ids:
                for session, name in self._blobs.pop(blob_id).names.items():
                    names.setdefault(session, []).append(name)
        for session, released in names.items():
            session.blobs.release(released)
        if self.released is not None:
            self.released(blob_ids)

    def sees(self, path: str, device: int, inode: int, size: int) -> bool:
        """Tell whether the workers of all agents open the same file; see `BlobSink.sees`."""
        file = (path, device, inode, size)
        known = self._files.get(file)
        if known is None:
            known = all(_sees(session, [file]) for session in self.sessions())
            self._files[file] = known
        return known

    def may_join(self, session: Session) -> bool:
        """Tell whether an agent sees the files that tasks of the call open."""
        return _sees(session, [file for file, seen in self._files.items() if seen])

    def needs(self, payload: Payload) -> list[tuple[int, int]]:
        """List the blobs of a batch, with their sizes in bytes."""
        if not (payload.buffers or payload.shared):
            return []
        sizes = {}
        for blob_id in _named(payload):
            copies = self._blobs.get(blob_id)
            sizes[blob_id] = 0 if copies is None else copies.size
        return list(sizes.items())

    def missing(self, session: Session, payload: Payload) -> int:
        """Add up the bytes that an agent does not have yet of what a batch needs."""
        if not (payload.buffers or payload.shared):
            return 0
        blobs = (self._blobs.get(blob_id) for blob_id in set(_named(payload)))
        return sum(blob.size for blob in blobs if blob is not None and session not in blob.names)

    def forget(self, session: Session) -> None:
        """Forget what an agent had that is lost."""
        with self._lock:
            for copies in self._blobs.values():
                copies.names.pop(session, None)
                copies.chain.leave(session)

    def uses(
        self, session: Session, uses: Iterable[tuple[int, Access]]
    ) -> list[tuple[int, Access]]:
        """Name blobs as an agent knows them; what it does not have yet is put.

        Raises
        ------
        SessionLostError
            The agent is lost.
        ClutchError
            It cannot be put.
        """
        return [(self.name(session, blob_id), access) for blob_id, access in uses]

    def name(self, session: Session, blob_id: int) -> int:
        """Name one blob; see `uses`. One thread at a time for each session."""
        copies = self._blobs.get(blob_id)
        if copies is None:
            raise _ended()
        name = copies.names.get(session)
        if name is not None:
            return name
        name = self._put(session, copies)
        with self._lock:
            released = blob_id not in self._blobs
            if not released:
                copies.names[session] = name
        if released:
            session.blobs.release([name])
            raise _ended()
        return name

    def _put(self, session: Session, copies: _Copies) -> int:
        """Have an agent get a blob: from another one, or from here."""
        if session.native.shares_memory:
            name, _ = session.blobs.put(copies.content)
            return name
        digest = copies.digest()
        with self._lock:
            sources = [source.address for source in copies.chain.begin(session)]
        got = False
        try:
            name, _ = session.blobs.put(copies.content, digest=digest, sources=sources)
            got = True
        finally:
            with self._lock:
                if got:
                    copies.chain.have(session)
                else:
                    copies.chain.leave(session)
        return name

    def _keep(self, copies: _Copies, session: Session | None, name: int) -> int:
        if session is not None:
            copies.names[session] = name
        with self._lock:
            self._last += 1
            self._blobs[self._last] = copies
            return self._last


def _named(payload: Payload) -> Iterable[int]:
    for blob_id, _ in payload.buffers:
        yield blob_id
    for pickle_id, parts in payload.shared:
        yield pickle_id
        for blob_id, _ in parts:
            yield blob_id


def _sees(session: Session, files: list[tuple[str, int, int, int]]) -> bool:
    try:
        return all(session.blobs.sees(*file) for file in files)
    except SessionLostError:
        return True  # it gets no batch


def _ended() -> CallCancelledError:
    return CallCancelledError("the call has ended", kind="CANCELLED", fault="NOBODY")
