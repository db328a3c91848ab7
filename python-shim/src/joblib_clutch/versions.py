"""What to do when driver and workers have different versions of a package."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = ("ModuleNotFoundError", "ImportError", "AttributeError")
# What Python says that is lacking: a module, a name in it, or in what it was to be found.
_LACKS = re.compile(r"No module named '([^']+)'|from '([^']+)'|on <module '([^']+)'")
# The end of a worker's message, see `failure.rs` of the interpreter.
_HAS = re.compile(r", which has (\S+) (\S+)\)$")

# The first NumPy with `numpy._core`.
_NEW_CORE = 2


def how_to_match(
    type_name: str,
    text: str,
    cause: BaseException | None,
    theirs: Mapping[str, str],
    message: str = "",
) -> str | None:
    """Say which versions of a package do not understand each other, and what to install.

    Parameters
    ----------
    type_name : str
        Type of the exception, on either side.
    text : str
        Its text.
    cause : BaseException or None
        The exception itself, where it is at hand.
    theirs : mapping of str to str
        Versions of packages on the workers, as far as the agent told.
    message : str
        The worker's own message, which tells the version of what failed.

    Returns
    -------
    str or None
        What to do; None when it is something else, or the versions are equal or not known.
    """
    if type_name.rpartition(".")[2] not in _KINDS:
        return None
    package = _package(text, cause)
    if package is None:
        return None
    told = _HAS.search(message)
    their_version = told.group(2) if told and told.group(1) == package else theirs.get(package)
    our_version = version_here(package)
    if their_version is None and our_version is not None and "numpy._core" in text:
        # Not told, but known: that came with NumPy 2.
        their_version = "1" if _major(our_version) >= _NEW_CORE else "2 or newer"
    if their_version is None or our_version is None or their_version == our_version:
        return None
    return (
        f"the driver has {package} {our_version} and the workers have {package} {their_version},"
        " and what one pickles the other does not always know: install the same version on both"
        f" sides, for example '{package}=={our_version}' in the environment of the workers"
    )


def version_here(package: str) -> str | None:
    """Tell the version of a package of ours.

    Parameters
    ----------
    package : str
        Its name, as it is imported.

    Returns
    -------
    str or None
        What it says itself, or what was installed under that name; None: neither.
    """
    version = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(version, str):
        return version
    with suppress(Exception):  # anybody's metadata
        return importlib.metadata.version(package)
    return None


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


def _package(text: str, cause: BaseException | None) -> str | None:
    """Find the package that lacks something."""
    name = getattr(cause, "name", None) if isinstance(cause, ImportError) else None
    if not isinstance(name, str):
        found = _LACKS.search(text)
        name = next(filter(None, found.groups())) if found else None
    return name.partition(".")[0] if name else None
