"""The native half: conversations with agents. Built from ``python-shim/native``."""

from collections.abc import Sequence
from typing import Any, final

from typing_extensions import Buffer

class OpenFailedError(Exception):
    """The agent cannot be reached; the argument says why."""

class OpenDeniedError(OpenFailedError):
    """One side does not accept the other's credentials; the argument says why."""

class OpenRefusedError(Exception):
    """The agent opens no session; the argument is a dictionary with the keys
    ``kind``, ``fault``, ``message``, ``advice`` and ``available``.
    """

class BlobRefusedError(Exception):
    """The agent has no room for a blob; the argument is a failure as in `Ending`."""

def read_access_file(path: str) -> list[str]:
    """Check an access file; give the addresses of its agents. Raises `OpenDeniedError`."""

@final
class Mapping:
    """A result in shared memory, mapped privately: writable, and unmapped with
    the object. Or a blob that was put, to put it again.
    """

    @property
    def address(self) -> int:
        """Where it begins in this process."""

def digest(content: Buffer | Mapping) -> bytes:
    """Compute the BLAKE3 digest by which content is known to agents."""

Uses = Sequence[tuple[int, int]]
"""Blobs, by name, and what workers may do with each: a ``BlobAccess``."""

Ending = tuple[Any, ...]
"""A batch that ended: what was given to `Call.submit`, then a word, then what belongs to it.

- ``"OK"``: seconds that the tasks ran, pickles, buffers of the last pickle, worker's pid.
  Buffers are None, a list of bytearrays, or a `Mapping` with (offset, length) pairs in bytes.
- ``"FAILED"``: seconds that the tasks ran, the failure as a dictionary: ``kind``,
  ``fault``, ``message``, ``advice``, ``task_index``, ``signal``, ``exit_code``,
  ``stderr_tail``, ``exception_pickle``, ``exception_type``, ``exception_text``,
  ``traceback``, ``pid``, ``attempt``, ``breach`` (None, or limit and peak),
  ``wall_seconds``, ``cpu_seconds``, ``earlier_attempts`` (kind, message, pid and seconds
  of each). Numbers that do not apply are 0.
- ``"UNREADABLE"``: seconds that the tasks ran, why the results cannot be had, worker's pid.
- ``"WITHDRAWN"``: the call ended before the batch was sent.
- ``"LOST"``: the agent was lost before the results were there.
- ``"POSTED"``: it came by `Call.post`.
"""

@final
class Call:
    """A joblib call. Its endings are handled by one thread at a time, in order: by
    whoever calls `take`, or else by a thread that calls `Office.next_errand`.
    """

    def submit(
        self,
        batch: object,
        number: int,
        tasks: int,
        data: bytes,
        buffers: Uses,
        shared: Sequence[tuple[int, Uses]],
        losses: Sequence[str],
        copy: bool = False,
    ) -> bool:
        """Run a batch. Never blocks. `data` is pickled; `batch` comes back with its ending.
        False when the agent is lost: then there is none. `losses`: how each agent was
        lost that had the batch before. `number`: the driver's own name of it. `copy`:
        another agent has it already.
        """

    def take(self) -> list[Ending]:
        """Wait for endings, 100 ms at most; say `handled` after any. None come also
        when another thread has handled some meanwhile.
        """

    def handled(self) -> None:
        """The endings taken last are handled."""

    def post(self, batch: object) -> None:
        """Make an ending, ``"POSTED"``."""

    def close(self) -> None:
        """End the call at once; what has not ended here is cancelled, and nothing is
        taken any more on any session.
        """

    def leave(self) -> None:
        """End the call on this session; what has not ended here is cancelled."""

    def rows(self) -> tuple[list[tuple[Any, ...]], int]:
        """Where the time went: a tuple for each batch, and how many more there were."""

    def remarks(self) -> tuple[list[tuple[str, int]], list[tuple[str, int, int]]]:
        """What was unusual, over all batches: kinds of failure after which batches were
        run again, with numbers of batches; and kinds of notes, with the sums of their
        counts and numbers of batches.
        """

@final
class Office:
    """Where endings and output wait: one for all sessions of a process."""

    def __init__(self) -> None:
        """Raises OSError when there can be no more threads or descriptors."""

    def next_errand(self) -> tuple[Handling, list[Ending], bool] | None:
        """Wait for endings that nobody awaits; say `Handling.handled` in the end. The
        third is true when no other thread waits here. None once it is closed.
        """

    def wait_output(self) -> bool:
        """Wait until tasks printed something; False once it is closed."""

    def take_news(self) -> list[tuple[str, str | None, float]]:
        """What became of connections: the agent's address; why it broke and for how many
        seconds it is tried to be restored; or None, and after how many seconds it was.
        """

    @property
    def output_pending(self) -> bool:
        """Whether something arrived that is not known to be printed."""

    def take_output(self) -> list[tuple[int, int, bool, bytes]]:
        """What workers printed: number of the session, pid, whether on standard error, bytes."""

    def output_printed(self) -> None:
        """What was taken last is printed."""

    def close(self) -> None:
        """Let its threads go, once what is there is seen to."""

@final
class Handling:
    """Endings of a call that a thread has taken."""

    def handled(self) -> None:
        """They are handled."""

Decisions = list[tuple[int, int, bool]]
"""Batches with the members that get them, and whether another member has them too."""

@final
class Placement:
    """Which agent gets which batch of a call. Every event may lead to decisions."""

    def __init__(self, max_running: int, speculative: bool) -> None:
        """`max_running`: batches that may run at once; 0: as many as there are slots."""

    def joined(self, member: int, slots: int) -> Decisions:
        """A member is there, under a new name."""

    def slots_are(self, member: int, slots: int) -> Decisions:
        """A member runs so many batches at once; with 0 it takes no more."""

    def lost(self, member: int) -> Decisions:
        """A member is gone; what it had comes back by `returned`."""

    def submitted(self, batch: int, needs: Sequence[tuple[int, int]]) -> Decisions:
        """A batch is to run that needs these blobs, with their bytes."""

    def ended(self, member: int, batch: int, ran: float | None) -> Decisions:
        """A batch has its outcome; `ran`: how long its tasks ran, in seconds."""

    def returned(self, member: int, batch: int) -> Decisions:
        """A member will not end a batch that it had."""

    def holds(self, member: int, blobs: Sequence[int]) -> Decisions:
        """A member has blobs already."""

    def moved(self, member: int, bytes: int, seconds: float) -> Decisions:
        """So many bytes went to a member in that time."""

    def dropped(self, blobs: Sequence[int]) -> Decisions:
        """Blobs are not needed any more."""

    def tick(self) -> Decisions:
        """Time went by."""

    @property
    def waiting(self) -> int:
        """Batches that wait for a member."""

    def take_waiting(self) -> list[int]:
        """Give up what waits."""

@final
class Session:
    """A session on an agent. Safe to use from any thread."""

    @staticmethod
    def open(
        office: Office,
        address: str,
        *,
        client_version: str,
        python_version: str,
        implementation: str,
        executable: str,
        cloudpickle_version: str,
        joblib_version: str,
        python: str,
        name: str,
        silence_seconds: float | None,
        weight: float,
        max_running: int,
        access: str | None = None,
    ) -> Session:
        """Open a session; an agent on TCP asks for an access file. `silence_seconds`: how long
        it is to outlive a connection that broke; None: 60 where that can happen, and else not
        at all. Raises `OpenFailedError`, `OpenDeniedError`, `OpenRefusedError`, or ValueError
        for an address that is none.
        """

    @property
    def slots(self) -> int:
        """Batches that the agent runs at once, now."""

    @property
    def host(self) -> str:
        """The agent's machine."""

    @property
    def packages(self) -> dict[str, str]:
        """Versions of packages that its zygote has imported, by name; empty: not told."""

    @property
    def max_batch_bytes(self) -> int:
        """Most bytes of a batch's payload."""

    @property
    def silence_seconds(self) -> float:
        """How long it outlives a connection that broke; 0: not at all."""

    @property
    def attached(self) -> bool:
        """Whether a connection carries it now; False while one that broke is restored."""

    @property
    def lost(self) -> str | None:
        """Why the agent is lost; None while it is not."""

    @property
    def shares_memory(self) -> bool:
        """Whether blobs go through shared memory."""

    @property
    def takes_code(self) -> bool:
        """Whether the agent knows what code of a driver is."""

    def define_profile(
        self,
        variables: Sequence[tuple[str, str]],
        workers: int,
        setup: bytes,
        limits: tuple[int, float, int, int, int, bool],
        code: Sequence[tuple[int, bytes, bool]],
    ) -> int:
        """Describe workers, see `WorkerProfile`; gives the profile's name. `code`: blobs that
        are archives, their digests, and whether tasks start in them.
        """

    def open_call(
        self,
        profile_id: int,
        *,
        max_running: int,
        nesting_level: int,
        task_timeout_seconds: float,
        task_cpu_seconds: float,
        retries: int | None,
        awaited: bool,
    ) -> Call:
        """Open a call. `awaited`: some thread will call `Call.take` most of the time."""

    def join_call(self, call: Call, profile_id: int, max_running: int) -> Call:
        """Go on with a call of another session. What is submitted to the call that
        this gives runs here; the endings of both can be taken from either.
        """

    def put(
        self,
        content: Buffer | Mapping,
        writable: bool,
        digest: bytes | None = None,
        sources: Sequence[str] = (),
    ) -> tuple[int, Mapping | None]:
        """Copy bytes to the agent; gives the blob's name, and its memory where nobody
        can write to it any more. Raises `BlobRefusedError`, `OpenFailedError` when the
        agent is lost, or OSError.

        With a digest (see `digest`) they have a name by which other agents get them from
        this one, from the moment in which this begins, and this one gets them from
        ``sources``, addresses of agents that have them or are receiving them, the best
        first. They leave this process only when it gets them nowhere.
        """

    def release(self, blob_ids: Sequence[int]) -> None:
        """Let go of blobs."""

    def sees(self, path: str, device: int, inode: int, bytes: int) -> bool:
        """Whether workers would open the same file by that path. Raises
        `OpenFailedError` when the agent is lost.
        """

    def close(self) -> None:
        """End the session; what runs for it is killed."""
