"""Archives of code: the same files are the same bytes, wherever and whenever."""

from __future__ import annotations

import io
import os
import stat
import threading
import time
import zipfile
from typing import TYPE_CHECKING, NamedTuple

from joblib_clutch import _native
from joblib_clutch.code.folder import Bounds, Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# What is found by itself.
AUTOMATIC = Bounds(files=5_000, size=64 << 20)
# What the user named. An agent unpacks at most 50,000 files.
NAMED = Bounds(files=50_000, size=512 << 20)

# A file that was changed so shortly before it was looked at may change again without a
# sign: the clock of file systems is coarse.
_COARSE_NANOSECONDS = 50_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Archive(NamedTuple):
    """A zip archive.

    Attributes
    ----------
    digest : bytes
        BLAKE3 digest of `data`.
    data : bytes
        The archive.
    """

    digest: bytes
    data: bytes

    def __repr__(self) -> str:
        """Show no megabytes."""
        return f"Archive({self.digest.hex()[:12]}, {len(self.data)} bytes)"


class _Made(NamedTuple):
    listing: Listing
    archive: Archive | None
    version: Hashable
    # Whether a look at the files tells all.
    settled: bool


class Archives:
    """Archives that were made, to be had again while their files have not changed."""

    def __init__(self) -> None:
        self._made: dict[Hashable, _Made] = {}
        self._lock = threading.Lock()

    def get(
        self,
        key: Hashable,
        bounds: Bounds,
        fill: Callable[[Listing], None],
        version: Hashable = None,
        *,
        verbatim: bool = False,
    ) -> Archive | None:
        """Make an archive, unless it is known and current.

        Parameters
        ----------
        key : hashable
            What is archived.
        bounds : Bounds
            How much it may be.
        fill : callable
            Lists its files.
        version : hashable
            What else decides which files these are.
        verbatim : bool
            Whether the one file is an archive already.

        Returns
        -------
        Archive or None
            None when there is no file.

        Raises
        ------
        TooMuchError
            There is more than may be.
        OSError
            Something cannot be read.
        """
        made = self._made.get(key)
        current = made is not None and made.settled and made.version == version
        if made is not None and current and made.listing.unchanged:
            return made.archive
        with self._lock:
            before = time.time_ns()
            listing = Listing(bounds)
            fill(listing)
            make = _as_it_is if verbatim else _archive
            archive = make(listing.files)
            settled = listing.newest < before - _COARSE_NANOSECONDS
            self._made[key] = _Made(listing, archive, version, settled)
            return archive

    def after_fork(self) -> None:
        """Forget who was at it: that thread does not exist in a forked child."""
        self._lock = threading.Lock()


def _archive(files: dict[str, str]) -> Archive | None:
    if not files:
        return None
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            with open(files[name], "rb") as file:
                content = file.read()
                runs = os.fstat(file.fileno()).st_mode & stat.S_IXUSR
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix
            entry.external_attr = (stat.S_IFREG | (0o755 if runs else 0o644)) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 3)
    return _named(out.getvalue())


def _as_it_is(files: dict[str, str]) -> Archive:
    (path,) = files.values()
    with open(path, "rb") as file:
        return _named(file.read())


def _named(data: bytes) -> Archive:
    return Archive(_native.digest(data), data)
