"""What the user named with ``py_modules`` and ``working_dir``."""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from types import ModuleType
from typing import TYPE_CHECKING

from joblib_clutch.code.archive import NAMED, Archive, Archives
from joblib_clutch.code.folder import Listing, TooMuchError
from joblib_clutch.exceptions import QuotaExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

_ARCHIVES = (".zip", ".whl", ".egg")


def module_archive(archives: Archives, wanted: object) -> Archive:
    """Archive one of ``py_modules``.

    Parameters
    ----------
    archives : Archives
        Those that are known.
    wanted : module, str or path
        A module; its name; or the path of a package's folder, a module's file, a zip
        file or a wheel.

    Returns
    -------
    Archive
        It.

    Raises
    ------
    ValueError
        There is no such module, or it has no files.
    QuotaExceededError
        It is too large.
    """
    if isinstance(wanted, ModuleType):
        return _of_module(archives, wanted.__name__)
    path = os.path.abspath(os.fspath(wanted))  # type: ignore[call-overload]
    is_name = isinstance(wanted, str) and all(map(str.isidentifier, wanted.split(".")))
    if isinstance(wanted, str) and is_name and not wanted.endswith((".py", *_ARCHIVES)):
        return _of_module(archives, wanted)
    if os.path.isfile(path) and path.endswith(_ARCHIVES):
        return _of_zip(archives, path)
    name = os.path.basename(path).partition(".")[0]
    if not os.path.exists(path):
        raise ValueError(f"py_modules: there is no file or folder {str(wanted)!r}")
    if not name.isidentifier():
        raise ValueError(f"py_modules: {str(wanted)!r} cannot be imported by its name")
    return _archived(
        archives, path, f"py_modules: {path}", lambda listing: _fill(listing, name, path)
    )


def working_archive(archives: Archives, path: str) -> Archive | None:
    """Archive ``working_dir``.

    Parameters
    ----------
    archives : Archives
        Those that are known.
    path : str
        The folder.

    Returns
    -------
    Archive or None
        None when it is empty.

    Raises
    ------
    QuotaExceededError
        It is too large.
    """

    def fill(listing: Listing) -> None:
        listing.add_folder("", path, everything=True)

    return _get(archives, ("working_dir", path), f"working_dir: {path}", fill)


def _of_module(archives: Archives, name: str) -> Archive:
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    spec = getattr(module, "__spec__", None) or importlib.util.find_spec(top)
    if spec is None:
        raise ValueError(f"py_modules: this process has no module {name!r}")
    folders = list(spec.submodule_search_locations or [])
    paths = folders or [str(spec.origin)]
    if not all(os.path.exists(path) for path in paths):
        raise ValueError(f"py_modules: the module {name!r} has no file ({spec.origin})")

    def fill(listing: Listing) -> None:
        for path in paths:
            _fill(listing, top, path)

    return _archived(archives, (top, *paths), f"py_modules: {name}", fill)


def _fill(listing: Listing, name: str, path: str) -> None:
    if os.path.isdir(path):
        # Named, so all of it, whether it has an ``__init__.py`` or not.
        listing.add_folder(name, path, everything=True)
    else:
        listing.add_module(name, path)


def _of_zip(archives: Archives, path: str) -> Archive:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"py_modules: {path!r} is not a zip file")
    what = f"py_modules: {path}"
    return _archived(archives, path, what, lambda listing: listing.add_archive(path), verbatim=True)


def _archived(
    archives: Archives,
    key: object,
    what: str,
    fill: Callable[[Listing], None],
    *,
    verbatim: bool = False,
) -> Archive:
    archive = _get(archives, ("py_modules", key), what, fill, verbatim=verbatim)
    if archive is None:
        raise ValueError(f"{what} has no files")
    return archive


def _get(
    archives: Archives,
    key: tuple[str, object],
    what: str,
    fill: Callable[[Listing], None],
    *,
    verbatim: bool = False,
) -> Archive | None:
    try:
        return archives.get(key, NAMED, fill, verbatim=verbatim)
    except TooMuchError as error:
        raise _too_large(what, str(error)) from None


def _too_large(what: str, why: str) -> QuotaExceededError:
    return QuotaExceededError(
        f"{what}: {why}",
        kind="QUOTA_EXCEEDED",
        fault="DRIVER",
        advice="name less, or put large files where the workers can read them",
    )
