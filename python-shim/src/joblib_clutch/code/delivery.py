"""The code that one session has got."""

from __future__ import annotations

import os
import threading
import warnings
from typing import TYPE_CHECKING

from joblib_clutch.exceptions import ClutchWarning, QuotaExceededError
from joblib_clutch.lost import SessionLostError

if TYPE_CHECKING:
    from joblib_clutch.code.shipment import Piece, Shipment
    from joblib_clutch.session import Session

# A code archive of a profile: blob, digest, whether tasks start in it.
Code = tuple[int, bytes, bool]


class Delivery:
    """Brings code to the agent of a session: each archive once.

    Parameters
    ----------
    session : Session
        The session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._blobs: dict[bytes, int] = {}
        # Places of the driver, and whether the agent sees them.
        self._seen: dict[str, bool] = {}
        self._told = False

    def is_elsewhere(self, shipment: Shipment) -> bool:
        """Tell whether the agent does not see the driver's files.

        Parameters
        ----------
        shipment : Shipment
            What a call ships; with automatic shipping off nobody is asked.

        Returns
        -------
        bool
            False: it sees those that matter.
        """
        if shipment.private:
            return False
        if not self._session.native.shares_memory:
            return True
        return shipment.automatic is None and not all(
            self._sees(place) for place in shipment.places()
        )

    def pieces(self, shipment: Shipment, *, elsewhere: bool) -> tuple[Piece, ...]:
        """Tell what has to be there for a call.

        Parameters
        ----------
        shipment : Shipment
            What it ships.
        elsewhere : bool
            Whether the agent does not see the driver's files.

        Returns
        -------
        tuple of Piece
            In the order of the search path.
        """
        automatic = elsewhere if shipment.automatic is None else shipment.automatic
        pieces = shipment.named + (shipment.found() if automatic else ())
        if pieces and not self._session.native.takes_code:
            self._tell()
            return ()
        return tuple(dict.fromkeys(pieces))

    def deliver(self, pieces: tuple[Piece, ...]) -> list[Code]:
        """Bring what is not there yet.

        Parameters
        ----------
        pieces : tuple of Piece
            What has to be there.

        Returns
        -------
        list of (int, bytes, bool)
            As a profile names them. Empty for an agent that is lost: nothing runs there.

        Raises
        ------
        ClutchError
            The agent has no room.
        """
        try:
            return [
                (self._blob(archive.digest, archive.data), archive.digest, working)
                for archive, working in pieces
            ]
        except SessionLostError:
            return []

    def _blob(self, digest: bytes, data: bytes) -> int:
        with self._lock:
            blob = self._blobs.get(digest)
            if blob is None:
                try:
                    blob, _ = self._session.blobs.put(data)
                except QuotaExceededError as error:
                    raise _no_room(len(data), error) from error
                self._blobs[digest] = blob
            return blob

    def _sees(self, place: str) -> bool:
        seen = self._seen.get(place)
        if seen is None:
            try:
                status = os.stat(place)
                seen = self._session.blobs.sees(place, status.st_dev, status.st_ino, status.st_size)
            except (OSError, SessionLostError):
                # Gone meanwhile, or the agent is.
                return True
            self._seen[place] = seen
        return seen

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"the agent at {self._session.address} is of a version that takes no code:"
                " modules that live only here are not shipped to it",
                ClutchWarning,
                stacklevel=2,
            )


def _no_room(size: int, error: QuotaExceededError) -> QuotaExceededError:
    return QuotaExceededError(
        f"an archive of the driver's code, {size} bytes, does not reach the agent: {error.args[0]}",
        kind="QUOTA_EXCEEDED",
        fault="DRIVER",
        advice="ship less: see ship_code and py_modules; or raise the agent's named setting",
    )
