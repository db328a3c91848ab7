"""Batches pickled by hand, with blobs in the place of arrays."""

import struct
import sys
import types
from typing import Any

import cloudpickle

_MODULE = "joblib_clutch.references"


class Reference:
    """A call of a function that only workers know.

    Parameters
    ----------
    name : str
        Of the function.
    *arguments : object
        Of the call.
    """

    def __init__(self, name: str, *arguments: Any) -> None:
        self._name, self._arguments = name, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr(sys.modules[_MODULE], self._name), self._arguments


def with_references(content: Any, *, arrays: int) -> bytes:
    """Pickle something that refers to so many arrays."""
    if _MODULE not in sys.modules:
        sys.modules[_MODULE] = _references()
    return struct.pack("<I", arrays) + cloudpickle.dumps(content, protocol=5)


def plain_batch(function: Any, *arguments: Any) -> bytes:
    """Pickle a batch of one task that uses no blobs."""
    return cloudpickle.dumps([(function, arguments, {})], protocol=5)


def batch(function: Any, *arguments: Any, arrays: int = 0) -> bytes:
    """Pickle a batch of one task that uses blobs; so many of them are arrays."""
    return with_references([(function, arguments, {})], arrays=arrays)


def _references() -> types.ModuleType:
    """Make a module whose functions pickle by name, and do nothing else."""
    module = types.ModuleType(_MODULE)
    for name in ("array", "private_array", "shared", "shared_method"):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = _MODULE, name
        setattr(module, name, function)
    return module
