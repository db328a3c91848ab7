"""From what a worker pickled to the results that joblib gets."""

from __future__ import annotations

import ctypes
import itertools
import pickle
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from joblib_clutch.exceptions import ClutchError, InternalError, ResultUnpickleError
from joblib_clutch.failures import function_name
from joblib_clutch.versions import how_to_match

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joblib_clutch import _native

Buffers = list[bytearray] | tuple["_native.Mapping", list[tuple[int, int]]] | None


def load_results(
    pickles: list[bytes],
    buffers: Buffers,
    tasks: int,
    packages: Mapping[str, str] = MappingProxyType({}),
) -> list[Any]:
    """Unpickle the results of a batch.

    Parameters
    ----------
    pickles : list of bytes
        The pickled lists of results, at least one: those saved ahead, in order,
        then the rest.
    buffers : None, list of bytearray, or (Mapping, list of (offset, length))
        Out-of-band buffers of the last one. Arrays are made on them, writable, without a copy.
    tasks : int
        How many results there have to be.
    packages : mapping of str to str
        Versions of packages on the worker, as far as the agent told.

    Returns
    -------
    list
        The results.

    Raises
    ------
    ClutchError
        They cannot be unpickled, or are not that many.
    """
    try:
        results = pickle.loads(pickles[-1], buffers=_views(buffers))
        if len(pickles) > 1:
            parts = [*map(pickle.loads, pickles[:-1]), results]
            whole = all(isinstance(part, list) for part in parts)
            results = list(itertools.chain.from_iterable(parts)) if whole else None
    except BaseException as cause:
        raise ResultUnpickleError(
            f"the driver could not unpickle a result: {type(cause).__name__}: {cause}",
            kind="RESULT_UNREADABLE",
            fault="TASK",
            advice=how_to_match(type(cause).__name__, str(cause), cause, packages)
            or "make sure that the result's module can be imported by the driver",
        ) from cause
    if not isinstance(results, list) or len(results) != tasks:
        raise InternalError(
            f"the worker did not return {tasks} results", kind="INTERNAL", fault="AGENT"
        )
    return results


def unreadable(why: str) -> ClutchError:
    """Say that results arrived and cannot be had.

    Parameters
    ----------
    why : str
        The reason.

    Returns
    -------
    ClutchError
        The error.
    """
    return ResultUnpickleError(
        f"the driver could not map a result: {why}",
        kind="RESULT_UNREADABLE",
        fault="DRIVER",
        advice="let tasks return less, or let go of earlier results",
    )


def located(error: ClutchError, functions: list[object], host: str, pid: int) -> ClutchError:
    """Add where an error happened.

    Parameters
    ----------
    error : ClutchError
        An error without a place.
    functions : list
        The functions of the batch's tasks.
    host : str
        The agent's machine.
    pid : int
        The worker.

    Returns
    -------
    ClutchError
        The same error.
    """
    error.function = function_name(functions, None)
    error.host = host
    error.pid = pid
    return error


def _views(buffers: Buffers) -> list[Any] | None:
    if not isinstance(buffers, tuple):
        return buffers
    mapping, places = buffers
    views = []
    for offset, length in places:
        # Of all that is made on an address, only this both is writable and can
        # keep something else alive: the mapping, for as long as the array.
        view = (ctypes.c_ubyte * length).from_address(mapping.address + offset)
        view.mapping = mapping  # type: ignore[attr-defined]
        views.append(view)
    return views
