"""Names that stand for blobs inside the pickle of a batch.

The driver only pickles these functions by name. A worker has its own in their
place, which know the batch's blobs, so it needs no `joblib_clutch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from joblib_clutch.exceptions import InternalError

if TYPE_CHECKING:
    import numpy as np


def array(
    index: int,
    dtype: np.dtype[Any],  # noqa: ARG001 - the worker's signature
    shape: tuple[int, ...],  # noqa: ARG001 - as above
    order: str,  # noqa: ARG001 - as above
) -> NoReturn:
    """Make an array that is a map of a blob.

    Parameters
    ----------
    index : int
        Index of the blob among the buffers.
    dtype : numpy.dtype
        Type of the elements.
    shape : tuple of int
        Shape.
    order : str
        ``"C"`` or ``"F"``.

    Raises
    ------
    InternalError
        Always: only a worker can.
    """
    raise _not_here("array", index)


def private_array(
    index: int,
    dtype: np.dtype[Any],  # noqa: ARG001 - the worker's signature
    shape: tuple[int, ...],  # noqa: ARG001 - as above
    order: str,  # noqa: ARG001 - as above
) -> NoReturn:
    """Make an array that is a writable copy of a blob; see `array`."""
    raise _not_here("private_array", index)


def shared(index: int) -> NoReturn:
    """Stand for an object that each task unpickles for itself.

    Parameters
    ----------
    index : int
        Index among the batch's shared objects.

    Raises
    ------
    InternalError
        Always: only a worker can.
    """
    raise _not_here("shared", index)


def shared_method(index: int, name: str) -> NoReturn:
    """Stand for the method `name` of a shared object; see `shared`."""
    raise _not_here("shared_method", f"{index}, {name!r}")


def _not_here(name: str, arguments: object) -> InternalError:
    return InternalError(
        f"{name}({arguments}) stands for a blob of a batch, which only the batch's worker has",
        kind="INTERNAL",
        fault="DRIVER",
    )
