"""What to do about a module that a worker lacks and the driver has."""

from __future__ import annotations

import importlib.util
import re
import sys
from contextlib import suppress

_LACKS = re.compile(r"No module named '([^']+)'")
_KINDS = ("ModuleNotFoundError", "ImportError")


def how_to_ship(type_name: str, text: str, cause: BaseException | None) -> str | None:
    """Say how a module that a worker lacks gets there.

    Parameters
    ----------
    type_name : str
        Type of the exception on the worker.
    text : str
        Its text.
    cause : BaseException or None
        The exception itself, where it travelled.

    Returns
    -------
    str or None
        What to do; None when it is something else, or the driver lacks it, too.
    """
    if type_name not in _KINDS:
        return None
    name = getattr(cause, "name", None)
    if type_name == "ImportError" or not isinstance(name, str):
        found = _LACKS.search(text)
        name = found.group(1) if found else None
    if name is None or not _has(name):
        return None
    top = name.partition(".")[0]
    return (
        f"the driver has the module {name!r}: ship it with py_modules=[{top!r}],"
        " or install it in that environment"
    )


def _has(name: str) -> bool:
    if name in sys.modules:
        return True
    parent, dot, _ = name.rpartition(".")
    if dot and parent not in sys.modules:
        # Looking for it would import the parent.
        return _has(parent)
    with suppress(Exception):  # anybody's finders
        return importlib.util.find_spec(name) is not None
    return False
