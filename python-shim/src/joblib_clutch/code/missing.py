"""What to do about a module that a worker lacks and the driver has."""

from __future__ import annotations

import importlib.util
import re
import sys
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES

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
    origin = _origin(name) if name is not None else None
    if name is None or origin is None:
        return None
    compiled = origin.endswith(tuple(EXTENSION_SUFFIXES))
    return (
        f"the driver has the module {name!r}: ship it with py_modules=[{name.partition('.')[0]!r}],"
        " or install it in that environment"
        + ("; it is compiled, for this platform and Python version" if compiled else "")
    )


def _origin(name: str) -> str | None:
    """Tell where the driver has a module from; None when it has none."""
    module = sys.modules.get(name)
    if module is not None:
        return str(getattr(module, "__file__", None) or "")
    parent, dot, _ = name.rpartition(".")
    if dot and parent not in sys.modules:
        # Looking for it would import the parent.
        return _origin(parent)
    with suppress(Exception):  # anybody's finders
        spec = importlib.util.find_spec(name)
        return str(spec.origin or "") if spec is not None else None
    return None
