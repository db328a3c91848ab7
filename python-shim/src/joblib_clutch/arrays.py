"""NumPy arrays as blobs and as files. Imported only where NumPy is."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from joblib_clutch.blobs import Blob, BlobCache, BlobSink

try:
    from numpy.lib.array_utils import byte_bounds
except ImportError:  # before NumPy 2
    from numpy import byte_bounds  # type: ignore[attr-defined,no-redef]

Array = np.ndarray[Any, Any]
# What `__reduce__` returns.
Reduced = tuple[Any, ...]


class Call:
    """Pickles as the result of a call.

    Parameters
    ----------
    function : callable
        Known by name where it is unpickled.
    *arguments
        Pickled along.
    """

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Reduced:
        """Pickle the call."""
        return self.reduced


# --- content --------------------------------------------------------------------


def content_key(array: Array) -> tuple[object, ...]:
    """Name the memory that an array shows, while its owner lives."""
    return (
        "array",
        id(_owner(array)),
        array.__array_interface__["data"][0],
        array.shape,
        array.strides,
        array.dtype,
    )


def order_of(array: Array) -> str:
    """Return the order in which `put_array` writes an array, ``"C"`` or ``"F"``."""
    flags = array.flags
    return "F" if flags.f_contiguous and not flags.c_contiguous else "C"


def put_array(cache: BlobCache, blob: Blob, array: Array, *, writable: bool, digest: bool) -> None:
    """Put an array's content.

    Parameters
    ----------
    cache : BlobCache
        Where to.
    blob : Blob
        As what; pinned and locked.
    array : ndarray
        Any type but objects, at least one byte.
    writable : bool
        Whether workers may write to it.
    digest : bool
        Whether another view of the same content may use the blob. That costs
        another pass over the memory, a fraction of the copy's.
    """
    data = _flat(array)
    cache.put(blob, data, writable=writable)
    blob.stamp = (weakref.ref(_owner(array)), zlib.crc32(data) if digest else None)


def is_part(array: Array) -> bool:
    """Whether an array shows a part of another one.

    Such views are often made anew for each task.
    """
    return array.nbytes != _owner(array).nbytes


def same_content(blob: Blob, array: Array) -> bool:
    """Whether a blob put earlier may stand for this array.

    The very array that was put does, as in joblib, whatever was written to it
    since. Another view of the same memory does when its content is the same:
    people fill one buffer again and again, and pass views of it.

    Parameters
    ----------
    blob : Blob
        By the array's key.
    array : ndarray
        The array.
    """
    if blob.is_of(array):
        return True
    if not isinstance(blob.stamp, tuple):
        return False
    owner, digest = blob.stamp
    return owner() is _owner(array) and digest is not None and digest == zlib.crc32(_flat(array))


def _owner(array: Array) -> Array:
    """Return the array that views are views of: while it lives, so does the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _flat(array: Array) -> memoryview:
    """Return the bytes of an array; a copy when it has holes."""
    array = array.view(np.ndarray)
    if order_of(array) == "F":
        array = array.T
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


# --- files ----------------------------------------------------------------------


def mapped_file(array: Array) -> np.memmap[Any, Any] | None:
    """Return the `numpy.memmap` whose file an array shows, if there is one."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base.base, mmap.mmap):
            return base if isinstance(base, np.memmap) else None
        base = base.base
    return None


def by_file(array: Array, mapped: np.memmap[Any, Any], sink: BlobSink) -> Reduced | None:
    """Reduce an array to a map of its file.

    Parameters
    ----------
    array : ndarray
        The array.
    mapped : memmap
        What it is a view of, see `mapped_file`.
    sink : BlobSink
        Knows what workers see.

    Returns
    -------
    tuple or None
        The reduction; only NumPy's own names are in it. None when the workers
        do not see the file.
    """
    path = _path(mapped)
    if path is None or not _is_mapped_from(path, mapped):
        return None
    mode = mapped.mode
    first, end = byte_bounds(array)
    # `mapped` begins at this offset of the file.
    offset = mapped.offset + first - mapped.__array_interface__["data"][0]
    if not _seen(path, offset + end - first, sink):
        return None
    if mode == "w+":
        mode = "r+"  # the file must not be emptied
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return np.memmap, (path, array.dtype, mode, offset, array.shape, order_of(array))
    whole = Call(np.memmap, path, np.dtype(np.uint8), mode, offset, (end - first,))
    # With negative strides the first element is not the first byte.
    start = array.__array_interface__["data"][0] - first
    return np.ndarray, (array.shape, array.dtype, whole, start, array.strides)


def _path(mapped: np.memmap[Any, Any]) -> str | None:
    filename = mapped.filename
    path = os.fspath(filename) if filename is not None else None
    return path if isinstance(path, str) else None


def _is_mapped_from(path: str, mapped: np.memmap[Any, Any]) -> bool:
    """Whether the path still names the file: people write new ones over old ones."""
    memory = np.frombuffer(mapped.base, np.uint8)  # type: ignore[arg-type] # it is a map
    begin = memory.__array_interface__["data"][0]
    end = -(-(begin + memory.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        now = os.readlink(f"/proc/self/map_files/{begin:x}-{end:x}")  # noqa: PTH115 - as below
    except OSError:
        # The kernel shows neighbouring maps as one. joblib believes the path too.
        return True
    try:
        return now == path or os.path.samefile(now, path)  # noqa: PTH121 - as below
    except OSError:
        return False


def _seen(path: str, end: int, sink: BlobSink) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116 - a path object costs more than the call
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size < end:
        return False
    return sink.sees(path, status.st_dev, status.st_ino, status.st_size)
