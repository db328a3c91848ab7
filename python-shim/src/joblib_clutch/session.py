"""A driver's session on one agent."""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import cloudpickle
import joblib

from joblib_clutch import _native
from joblib_clutch.access import denied
from joblib_clutch.code.delivery import Delivery
from joblib_clutch.exceptions import AgentUnavailableError, ClutchError, QuotaExceededError
from joblib_clutch.failures import class_of
from joblib_clutch.lost import SessionLostError
from joblib_clutch.office import the_office
from joblib_clutch.profile import setup_elsewhere
from joblib_clutch.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from joblib_clutch.call import CallPlan
    from joblib_clutch.code.shipment import Piece
    from joblib_clutch.profile import WorkerProfile
    from joblib_clutch.settings import Lease

# What is known of a private agent's end.
_EVIDENCE = ("pid", "exit_code", "signal", "stderr_tail")
# A profile is one frame, and a frame must fit in one envelope.
_MAX_SETUP_BYTES = 3 << 20


class Session:
    """One lease on one agent. Once lost it stays lost; open another.

    Parameters
    ----------
    address : str
        The agent's address.
    lease : Lease
        What to ask for.
    evidence : callable
        Called when the agent is lost; returns what is known about that, as
        keyword arguments of `ClutchError`.
    access : str or None
        Path of the access file that the agent asks for; None on Unix sockets.

    Attributes
    ----------
    native : _native.Session
        The conversation.
    blobs : SessionBlobs
        Where large arguments go.
    ended : bool
        Whether this process ended it, while the agent was there.

    Raises
    ------
    ClutchError
        The agent refused, or could not be reached.
    """

    def __init__(
        self,
        address: str,
        lease: Lease,
        evidence: Callable[[], dict[str, Any]],
        access: str | None = None,
    ) -> None:
        self.address = address
        self._evidence = evidence
        # Reentrant: a collected generator of joblib ends its call from wherever
        # the collector happens to run, here included.
        self._lock = threading.RLock()
        self._lost: AgentUnavailableError | None = None
        self._lost_by = ""
        self.ended = False
        # By the digests of the code that goes with each.
        self._profiles: dict[tuple[WorkerProfile, tuple[bytes, ...]], int] = {}
        self._delivery = Delivery(self)
        self.native = _open(address, lease, access)
        self.blobs = SessionBlobs(self)
        self.host = self.native.host
        self.packages = self.native.packages

    @property
    def alive(self) -> bool:
        """Whether new calls can be opened."""
        return self.native.lost is None

    @property
    def attached(self) -> bool:
        """Whether the agent can be reached now; it may be alive without."""
        return self.native.attached

    @property
    def slots(self) -> int:
        """Batches of this session that the agent runs at once, now."""
        return self.native.slots

    def open_call(self, profile: WorkerProfile, plan: CallPlan, *, awaited: bool) -> _native.Call:
        """Open a joblib call.

        Parameters
        ----------
        profile : WorkerProfile
            Workers that run it.
        plan : CallPlan
            What it asks for.
        awaited : bool
            Whether joblib waits for the futures.

        Returns
        -------
        _native.Call
            The call.

        Raises
        ------
        QuotaExceededError
            The profile is too large.
        """
        if len(profile.setup) > _MAX_SETUP_BYTES:
            raise QuotaExceededError(
                f"the pickled initializer and its arguments take {len(profile.setup)}"
                f" bytes, more than {_MAX_SETUP_BYTES}",
                kind="QUOTA_EXCEEDED",
                fault="DRIVER",
                advice="let the initializer load its data itself",
            )
        return self.native.open_call(
            self._profile_id(profile),
            max_running=plan.max_running,
            nesting_level=plan.nesting_level,
            task_timeout_seconds=plan.settings.task_timeout or 0.0,
            task_cpu_seconds=plan.settings.task_cpu_timeout or 0.0,
            retries=plan.settings.retries,
            awaited=awaited,
        )

    def join_call(
        self, call: _native.Call, profile: WorkerProfile, max_running: int
    ) -> _native.Call:
        """Go on with a call of another session.

        Parameters
        ----------
        call : _native.Call
            The call; its endings are handled as before.
        profile : WorkerProfile
            Workers that run it.
        max_running : int
            Batches that may run here at once; 0: the agent's slots.

        Returns
        -------
        _native.Call
            The call on this session.
        """
        return self.native.join_call(call, self._profile_id(profile), max_running)

    def lose(self, reason: str) -> None:
        """Give the agent up: part of it does not answer any more.

        Parameters
        ----------
        reason : str
            What was seen.
        """
        with self._lock:
            if self.alive:
                self._lost_by = reason
                self.native.close()

    def lost_error(self) -> AgentUnavailableError:
        """Say why the agent is lost, once it is.

        Returns
        -------
        AgentUnavailableError
            The same object each time.
        """
        with self._lock:
            if self._lost is None:
                self._lost = AgentUnavailableError(
                    f"lost the agent at {self.address}: {self._lost_by or self.native.lost}",
                    kind="AGENT_UNAVAILABLE",
                    fault="AGENT",
                    **self._evidence(),
                )
            return self._lost

    def evidence(self) -> dict[str, Any]:
        """Tell what is known of the agent's loss, as keyword arguments of `ClutchError`."""
        error = self.lost_error()
        return {name: getattr(error, name) for name in _EVIDENCE}

    def how(self) -> str:
        """Tell in a few words how the agent was lost."""
        error = self.lost_error()
        if error.signal is not None:
            return f"ended by {signal_name(error.signal)}"
        if error.exit_code is not None:
            return f"exit code {error.exit_code}"
        return self._lost_by or self.native.lost or ""

    def close(self) -> None:
        """End the session; what runs for it is killed."""
        self.ended = self.ended or self.alive
        self.native.close()

    def _profile_id(self, profile: WorkerProfile) -> int:
        pieces: tuple[Piece, ...] = ()
        elsewhere = False
        if not profile.shipment.is_local:
            # Without the lock: it may take as long as an upload.
            elsewhere = self._delivery.is_elsewhere(profile.shipment)
            pieces = self._delivery.pieces(profile.shipment, elsewhere=elsewhere)
        key = (profile, tuple(piece.archive.digest for piece in pieces))
        profile_id = self._profiles.get(key)
        if profile_id is not None:
            return profile_id
        code = self._delivery.deliver(pieces)
        setup = setup_elsewhere(profile.setup) if elsewhere else profile.setup
        with self._lock:
            profile_id = self._profiles.get(key)
            if profile_id is None:
                profile_id = self.native.define_profile(
                    profile.variables, profile.workers, setup, profile.limits, code
                )
                self._profiles[key] = profile_id
            return profile_id


class SessionBlobs:
    """Copies large arguments to the agent.

    Parameters
    ----------
    session : Session
        The session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(
        self,
        buffer: Buffer | _native.Mapping,
        *,
        writable: bool = False,
        digest: bytes | None = None,
        sources: Sequence[str] = (),
    ) -> tuple[int, _native.Mapping | None]:
        """Copy a buffer out.

        Parameters
        ----------
        buffer : contiguous buffer, or Mapping of what was put before
            At least one byte. Not used after the return.
        writable : bool
            Whether workers may write to the blob.
        digest : bytes or None
            Name of the content, by `_native.digest`, for other agents that will have it
            too; None: it is for this one alone.
        sources : sequence of str
            Addresses of agents that have the content or are receiving it, the best first;
            see `joblib_clutch.broadcast`.

        Returns
        -------
        int
            The blob's name in the session.
        Mapping or None
            The blob's memory, where nobody can write to it any more.

        Raises
        ------
        SessionLostError
            The agent is lost.
        ClutchError
            It cannot be copied.
        """
        try:
            return self._session.native.put(buffer, writable, digest, sources)
        except _native.BlobRefusedError as error:
            failure = error.args[0]
        except _native.OpenFailedError as error:
            self._session.lose(str(error))
            raise SessionLostError from None
        except OSError as error:
            raise QuotaExceededError(
                f"a large argument does not fit into the agent's memory: {error}",
                kind="QUOTA_EXCEEDED",
                fault="DRIVER",
                advice="free memory, or let the agent spill to a larger disk",
            ) from error
        raise class_of(failure["kind"])(
            f"the agent does not take a large argument: {failure['message']}",
            kind=failure["kind"],
            fault=failure["fault"],
            advice=failure["advice"],
        )

    def release(self, blob_ids: list[int]) -> None:
        """Let go of blobs, by their names in the session. Never raises."""
        self._session.native.release(blob_ids)

    def sees(self, path: str, device: int, inode: int, size: int) -> bool:
        """Tell whether workers open the same file by that path.

        Raises
        ------
        SessionLostError
            The agent is lost.
        """
        try:
            return self._session.native.sees(path, device, inode, size)
        except _native.OpenFailedError as error:
            self._session.lose(str(error))
            raise SessionLostError from None


def signal_name(number: int) -> str:
    """Name a signal.

    Parameters
    ----------
    number : int
        Its number.

    Returns
    -------
    str
        For example ``"SIGKILL"``.
    """
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"


def _open(address: str, lease: Lease, access: str | None) -> _native.Session:
    try:
        return _native.Session.open(
            the_office().native,
            address,
            client_version=__version__,
            python_version=platform.python_version(),
            implementation=sys.implementation.name,
            executable=sys.executable or "",
            cloudpickle_version=cloudpickle.__version__,
            joblib_version=joblib.__version__,
            python=lease.python or "",
            weight=lease.weight or 0.0,
            max_running=lease.max_slots or 0,
            name=f"{socket.gethostname()}:{os.getpid()}",
            silence_seconds=lease.silence,
            access=access,
        )
    except _native.OpenDeniedError as error:
        raise denied(
            f"the agent at {address} did not open a session: {error}",
            "name the access file with which the agent was started, or a copy of it"
            " (`clutch access --for-drivers`); certificates are valid from a day before they"
            " were made, by the clocks of both machines",
        ) from error
    except (_native.OpenFailedError, OSError, ValueError) as error:
        raise AgentUnavailableError(
            f"the agent at {address} did not open a session: {error}",
            kind="AGENT_UNAVAILABLE",
            fault="AGENT",
            advice="check that the agent runs and that the address is right",
        ) from error
    except _native.OpenRefusedError as error:
        raise refused(error.args[0], address) from None


def refused(refusal: dict[str, Any], address: str) -> ClutchError:
    """Turn a refusal into the exception that the user sees.

    Parameters
    ----------
    refusal : dict
        See `_native.OpenRefusedError`.
    address : str
        The agent's address.

    Returns
    -------
    ClutchError
        The exception.
    """
    message = f"the agent at {address} refused the session: {refusal['message']}"
    if refusal["available"]:
        message += "; it has " + ", ".join(refusal["available"])
    return class_of(refusal["kind"])(
        message,
        kind=refusal["kind"],
        fault=refusal["fault"],
        advice=refusal["advice"],
    )
