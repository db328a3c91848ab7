"""Modules outside of the installed packages and the standard library."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import NamedTuple

from joblib_clutch.code.folder import is_module, module_file
from joblib_clutch.code.places import is_installed, own_entries

# Where agents are, this is installed; it is much, and made for one machine.
OURS = "joblib_clutch"


class Found(NamedTuple):
    """What the driver has of its own.

    Attributes
    ----------
    roots : tuple of str
        Entries of its search path: folders, and zip files.
    loose : tuple of (str, str)
        Modules that other ways lead to, by their names in an archive, with their files
        or folders: what editable installs map, and what is loaded from elsewhere.
    """

    roots: tuple[str, ...]
    loose: tuple[tuple[str, str], ...]


class _Finder:
    def __init__(self) -> None:
        self._seen: tuple[object, ...] = ()
        self._found = Found((), ())

    def found(self) -> Found:
        roots = tuple(own_entries())
        # Looked at anew only when something was imported, or can be.
        seen = (roots, len(sys.modules), len(sys.meta_path))
        if seen != self._seen:
            self._found, self._seen = Found(roots, tuple(_loose(roots).items())), seen
        return self._found


_finder = _Finder()


def found() -> Found:
    """Find what the driver has of its own, now.

    Returns
    -------
    Found
        It; the same object as before when nothing was imported since.
    """
    return _finder.found()


def loaded_from(root: str) -> list[tuple[str, str]]:
    """List the loaded modules that come from a folder of the search path.

    Parameters
    ----------
    root : str
        The folder.

    Returns
    -------
    list of (str, str)
        Top-level names, with files or folders.
    """
    return [
        (name, path)
        for name, module in _top_level()
        for path in _places(module)
        if os.path.dirname(path) == root
    ]


def _loose(roots: tuple[str, ...]) -> dict[str, str]:
    loose: dict[str, str] = {}
    for finder in list(sys.meta_path):
        with suppress(Exception):  # anybody's objects
            module = sys.modules.get(finder.__module__)
            if module is not None and module.__name__.startswith("__editable__"):
                loose.update(_mapped(module))
    for name, module in _top_level():
        if name.startswith("__editable__"):
            continue
        for path in _places(module):
            if os.path.dirname(path) not in roots and not is_installed(path):
                loose.setdefault(name, path)
    loose.pop(OURS, None)
    return loose


def _mapped(module: ModuleType) -> dict[str, str]:
    """Read what an editable install of setuptools maps names to."""
    mapping = {str(name): module_file(str(path)) for name, path in module.MAPPING.items()}
    return {name.replace(".", "/"): path for name, path in mapping.items() if path is not None}


def _top_level() -> list[tuple[str, ModuleType]]:
    return [
        (name, module)
        for name, module in list(sys.modules.items())
        if "." not in str(name)
        and name not in ("__main__", "__mp_main__", OURS)
        and isinstance(module, ModuleType)
    ]


def _places(module: ModuleType) -> list[str]:
    """Tell where a top-level module is: a file, or folders."""
    # Past its attributes: some modules run code when they are asked for one.
    known = vars(module)
    folders = known.get("__path__")
    if folders is not None:
        with suppress(Exception):  # anybody's objects
            return [os.path.abspath(folder) for folder in folders if os.path.isdir(folder)]
        return []
    file = known.get("__file__")
    if isinstance(file, str) and is_module(os.path.basename(file)) and os.path.isfile(file):
        return [os.path.abspath(file)]
    return []
