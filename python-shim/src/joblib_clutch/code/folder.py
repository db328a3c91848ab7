"""The files of folders: those that can be imported, or all of them."""

from __future__ import annotations

import os
from importlib.machinery import all_suffixes
from typing import NamedTuple

# Nothing in these is anybody's code.
_JUNK = frozenset(
    {
        "__pycache__",
        ".bzr",
        ".git",
        ".hg",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        "node_modules",
    }
)
# By these a virtual environment is known.
_ENVIRONMENT = frozenset({"pyvenv.cfg", "conda-meta"})
_SUFFIXES = tuple(suffix for suffix in all_suffixes() if suffix != ".pyc")

Stamp = tuple[int, int, int]


class Bounds(NamedTuple):
    """How much one archive may have.

    Attributes
    ----------
    files : int
        Files.
    size : int
        Their bytes together.
    """

    files: int
    size: int


class TooMuchError(Exception):
    """There are more files, or bytes, than may be; the argument says what is largest."""


class Listing:
    """Files to ship, and what to look at to know whether they have changed.

    Parameters
    ----------
    bounds : Bounds
        How much there may be.

    Attributes
    ----------
    files : dict
        Paths by their names in the archive.
    stamps : dict
        What was seen of each file and folder, by its path.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.files: dict[str, str] = {}
        self.stamps: dict[str, Stamp] = {}
        self._bounds = bounds
        self._bytes = 0
        self._sizes: dict[str, int] = {}
        self._looked = 0

    @property
    def unchanged(self) -> bool:
        """Whether every file and folder is as it was."""
        try:
            return all(_stamp(os.stat(path)) == stamp for path, stamp in self.stamps.items())
        except OSError:
            return False

    @property
    def newest(self) -> int:
        """When anything in it was changed last, in nanoseconds."""
        return max((stamp[0] for stamp in self.stamps.values()), default=0)

    def add_archive(self, path: str) -> None:
        """Add a file that is an archive already."""
        self._add_file(os.path.basename(path), path)

    def add_module(self, name: str, path: str) -> None:
        """Add a module's file, or a package's folder with all that is in it.

        Parameters
        ----------
        name : str
            Its name in the archive, with slashes; without a suffix for a file.
        path : str
            Where it is.
        """
        if os.path.isdir(path):
            self.add_folder(
                name, path, everything=os.path.exists(os.path.join(path, "__init__.py"))
            )
        elif os.path.isfile(path):
            folder, _, _ = name.rpartition("/")
            file = os.path.basename(path)
            self._add_file(f"{folder}/{file}" if folder else file, path)

    def add_folder(self, name: str, path: str, *, everything: bool, without: str = "") -> None:
        """Add what is in a folder.

        Parameters
        ----------
        name : str
            What its files' names begin with in the archive; empty: nothing.
        path : str
            The folder.
        everything : bool
            All files; else modules, and packages with all that is in them.
        without : str
            A name in it that is left out.
        """
        self._walk(name, path, everything, without, frozenset())

    def _walk(
        self,
        name: str,
        path: str,
        everything: bool,
        without: str,
        above: frozenset[tuple[int, int]],
    ) -> None:
        status = os.stat(path)
        place = (status.st_dev, status.st_ino)
        if place in above:  # a link to a folder above
            return
        self.stamps[path] = _stamp(status)
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except PermissionError:
            if above and not everything:  # it may be anybody's
                return
            raise
        self._looked += len(entries)
        if self._looked > 4 * self._bounds.files:
            raise TooMuchError(f"more than {4 * self._bounds.files} files and folders to look at")
        if above and any(entry.name in _ENVIRONMENT for entry in entries):
            return
        for entry in entries:
            if entry.name in _JUNK or entry.name == without:
                continue
            inner = f"{name}/{entry.name}" if name else entry.name
            if entry.is_dir():
                self._walk_inner(inner, entry, everything, above | {place})
            elif entry.is_file() and _is_wanted(entry.name, everything):
                self._add_file(inner, entry.path)

    def _walk_inner(
        self,
        name: str,
        entry: os.DirEntry[str],
        everything: bool,
        above: frozenset[tuple[int, int]],
    ) -> None:
        if everything:
            self._walk(name, entry.path, True, "", above)
        elif entry.name.isidentifier():
            package = os.path.exists(os.path.join(entry.path, "__init__.py"))
            self._walk(name, entry.path, package, "", above)

    def _add_file(self, name: str, path: str) -> None:
        try:
            name.encode()
        except UnicodeEncodeError:  # nobody can name it in an archive
            return
        status = os.stat(path)
        self.files[name] = path
        self.stamps[path] = _stamp(status)
        self._sizes[name] = status.st_size
        self._bytes += status.st_size
        if len(self.files) > self._bounds.files or self._bytes > self._bounds.size:
            largest = sorted(self._sizes, key=lambda name: -self._sizes[name])[:3]
            named = ", ".join(f"{name} ({self._sizes[name] / 1e6:.1f} MB)" for name in largest)
            raise TooMuchError(
                f"more than {self._bounds.files} files or {self._bounds.size >> 20} MiB;"
                f" the largest so far: {named}"
            )


def module_file(path: str) -> str | None:
    """Complete the path of a module that is given without its suffix.

    Parameters
    ----------
    path : str
        A file, a folder, or either without the suffix.

    Returns
    -------
    str or None
        A file or folder that exists.
    """
    candidates = [path, *(path + suffix for suffix in _SUFFIXES)]
    return next((each for each in candidates if os.path.exists(each)), None)


def is_module(name: str) -> bool:
    """Tell whether a file of that name can be imported."""
    return name.endswith(_SUFFIXES) and name.partition(".")[0].isidentifier()


def _is_wanted(name: str, everything: bool) -> bool:
    return not name.endswith((".pyc", ".pyo")) if everything else is_module(name)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino
