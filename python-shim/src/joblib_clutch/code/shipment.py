"""The code that one call ships."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import zipfile
from typing import TYPE_CHECKING, NamedTuple

from joblib_clutch.code.archive import AUTOMATIC, Archive, Archives
from joblib_clutch.code.explicit import module_archive, working_archive
from joblib_clutch.code.finding import OURS, found, loaded_from
from joblib_clutch.code.folder import Listing, TooMuchError
from joblib_clutch.exceptions import ClutchWarning, QuotaExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from joblib_clutch.settings import Settings

_archives = Archives()
os.register_at_fork(after_in_child=_archives.after_fork)
# Folders of which the user was told that not all is shipped.
_told: set[str] = set()


class Piece(NamedTuple):
    """An archive, and what for.

    Attributes
    ----------
    archive : Archive
        It.
    working_directory : bool
        Whether tasks start where it is unpacked.
    """

    archive: Archive
    working_directory: bool = False


class Shipment:
    """What one call ships. Equal ones ship the same, but for what is found by itself.

    Parameters
    ----------
    named : tuple of Piece
        What the user named.
    automatic : bool or None
        Whether what is found goes along; None: where the agent does not see it.
    private : bool
        Whether the agent is this process's own, and sees what it sees.
    """

    def __init__(
        self, named: tuple[Piece, ...], automatic: bool | None, *, private: bool = False
    ) -> None:
        self.named = named
        self.automatic = automatic
        self.private = private
        self._key = (
            tuple((p.archive.digest, p.working_directory) for p in named),
            automatic,
            private,
        )
        self._found: tuple[Piece, ...] | None = None
        self._lock = threading.Lock()

    def __eq__(self, other: object) -> bool:
        """Compare by content."""
        return isinstance(other, Shipment) and self._key == other._key

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(self._key)

    @property
    def is_local(self) -> bool:
        """Whether there is nothing to ship, whatever the driver has."""
        return self.private and not self.named and not self.automatic

    def found(self) -> tuple[Piece, ...]:
        """Archive what the driver has of its own: once, so that every agent gets the same."""
        with self._lock:
            if self._found is None:
                self._found = tuple(Piece(archive) for archive in _found_archives())
            return self._found

    @staticmethod
    def places() -> list[str]:
        """List the files and folders that have code of the driver."""
        roots, loose = found()
        return [*roots, *(path for _, path in loose)]


# That of a private agent whose user named nothing.
NOTHING = Shipment((), None, private=True)


def shipment_of(settings: Settings) -> Shipment:
    """Archive what the user named.

    Parameters
    ----------
    settings : Settings
        The call's settings.

    Returns
    -------
    Shipment
        What the call ships.

    Raises
    ------
    ValueError
        Something named is not there.
    QuotaExceededError
        Something named is too large.
    """
    if settings.agents is None and _asks_nothing(settings):
        return NOTHING
    automatic = None if settings.ship_code == "auto" else bool(settings.ship_code)
    named: list[Piece] = []
    if settings.working_dir is not None:
        archive = working_archive(_archives, settings.working_dir)
        if archive is not None:
            named.append(Piece(archive, working_directory=True))
    named += [Piece(module_archive(_archives, wanted)) for wanted in settings.py_modules]
    return Shipment(tuple(named), automatic, private=settings.agents is None)


def _asks_nothing(settings: Settings) -> bool:
    return (
        settings.ship_code is not True and not settings.py_modules and settings.working_dir is None
    )


def _found_archives() -> list[Archive]:
    roots, loose = found()
    found_archives = [_of_root(root) for root in roots]
    if loose:

        def fill(listing: Listing) -> None:
            for name, path in loose:
                listing.add_module(name, path)

        found_archives.append(_last_resort("", loose, "modules of the driver", fill))
    return [archive for archive in found_archives if archive is not None]


def _of_root(root: str) -> Archive | None:
    if not os.path.isdir(root):
        if not zipfile.is_zipfile(root):
            return None
        return _last_resort(
            root, None, root, lambda listing: listing.add_archive(root), verbatim=True
        )

    def fill(listing: Listing) -> None:
        listing.add_folder("", root, everything=False, without=OURS)

    def fill_loaded(listing: Listing) -> None:
        for name, path in loaded_from(root):
            listing.add_module(name, path)

    try:
        return _archives.get(root, AUTOMATIC, fill)
    except (TooMuchError, OSError) as error:
        if root not in _told:
            _told.add(root)
            warnings.warn(
                f"not all modules in {root} are shipped to agents that do not see it, only those"
                f" that are imported now: {error}. Name others with py_modules, or set"
                " ship_code=False",
                ClutchWarning,
                stacklevel=2,
            )
    return _last_resort(root, len(sys.modules), f"the imported modules of {root}", fill_loaded)


def _last_resort(
    key: str,
    version: Hashable,
    what: str,
    fill: Callable[[Listing], None],
    *,
    verbatim: bool = False,
) -> Archive | None:
    try:
        return _archives.get(("loaded", key), AUTOMATIC, fill, version, verbatim=verbatim)
    except (TooMuchError, OSError) as error:
        raise QuotaExceededError(
            f"{what} cannot be shipped: {error}",
            kind="QUOTA_EXCEEDED",
            fault="DRIVER",
            advice="set ship_code=False, and name what tasks need with py_modules",
        ) from error
