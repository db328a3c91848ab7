"""Pickles one object and cuts what is big out of it."""

from __future__ import annotations

import copyreg
import pickle
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle

from joblib_clutch import references
from joblib_clutch.blobs import Access, Blob, BlobCache

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from joblib_clutch.arrays import Array, Reduced
    from joblib_clutch.pins import Pins

    Reducer = Callable[[Any], Any]

PROTOCOL = 5  # the oldest supported interpreter's highest
# A pickle with blobs begins with the number of those that are arrays.
HEADER_BYTES = 4
# Where the user does not say from what size on.
DEFAULT_LIMIT_BYTES = 1 << 20
# An object whose pickle is smaller stays in its batch.
SHARED_MIN_BYTES = 256 << 10

_MODES = {"r": Access.READ, "c": Access.COPY, "r+": Access.WRITE, "w+": Access.WRITE, None: None}


class Cutter:
    """What is common to the pickles of a call: where blobs go, and which.

    Parameters
    ----------
    cache : BlobCache
        Keeps the blobs.
    max_nbytes : int or None
        Arrays of more bytes become blobs; None: no array does. Other buffers
        of at least as many do, and of at least 1 MiB when None.
    mmap_mode : str or None
        As in joblib; None: workers get arrays of their own.
    """

    def __init__(self, cache: BlobCache, max_nbytes: int | None, mmap_mode: str | None) -> None:
        self.cache = cache
        self.max_nbytes = max_nbytes
        self.buffer_limit = DEFAULT_LIMIT_BYTES if max_nbytes is None else max(max_nbytes, 1)
        self.access = _MODES[mmap_mode]
        self._tables: dict[bool, dict[type, Reducer]] = {}

    def table(self, *, by_value: bool) -> dict[type, Reducer]:
        """Return a dispatch table without ours, which the caller may change."""
        table = self._tables.get(by_value)
        if table is None:
            # A plain dictionary: the C code looks into it for almost every
            # object, and into nothing else without running Python.
            table = dict(cloudpickle.Pickler.dispatch_table if by_value else copyreg.dispatch_table)
            self._tables[by_value] = table
        return table.copy()


class Cut:
    """One pickle and the blobs that it refers to.

    Parameters
    ----------
    cutter : Cutter
        The call's.
    pins : Pins
        Gets the blobs, for the caller to unpin.

    Attributes
    ----------
    out_of_band_bytes : int
        Bytes of the buffers, other than arrays, that went out of the pickle.
    """

    def __init__(self, cutter: Cutter, pins: Pins) -> None:
        self.out_of_band_bytes = 0
        self._cutter = cutter
        self._pins = pins
        self._arrays: list[tuple[Blob, Access]] = []
        self._places: dict[Blob, int] = {}
        self._streams: list[tuple[Blob, Access]] = []

    @property
    def blobs(self) -> list[Blob]:
        """The blobs, in the order of the references."""
        return [blob for blob, _ in self._arrays + self._streams]

    @property
    def uses(self) -> list[tuple[int, Access]]:
        """The blobs' names and what may be done with them."""
        return [(blob.blob_id, access) for blob, access in self._arrays + self._streams]

    @property
    def header(self) -> bytes:
        """What tells the receiver where the arrays end and other buffers begin."""
        return len(self._arrays).to_bytes(HEADER_BYTES, "little")

    def dump(self, value: object, file: io.BytesIO, *, by_value: bool) -> None:
        """Pickle a value.

        Parameters
        ----------
        value : object
            The value.
        file : BytesIO
            Where to.
        by_value : bool
            Whether to use cloudpickle.
        """
        table = self._cutter.table(by_value=by_value)
        for kind in array_types():
            table[kind] = self._array
        if by_value:
            _ByValue(file, table, self._buffer).dump(value)
            return
        pickler = pickle.Pickler(file, PROTOCOL, buffer_callback=self._buffer)
        pickler.dispatch_table = table
        pickler.dump(value)

    def _array(self, array: Array) -> Reduced | str:
        """Reduce an array."""
        # NumPy is there, so this costs a look into `sys.modules`.
        from joblib_clutch import arrays  # noqa: PLC0415

        cutter = self._cutter
        mapped = arrays.mapped_file(array)
        if mapped is not None and array.size:
            reduced = arrays.by_file(array, mapped, cutter.cache.sink)
            if reduced is not None:
                return reduced
        limit = cutter.max_nbytes
        if limit is None or array.nbytes <= limit or array.dtype.hasobject:
            # A map of no file unpickles as something broken.
            plain = array if mapped is None else array.view(sys.modules["numpy"].ndarray)
            return plain.__reduce_ex__(PROTOCOL)
        writable = cutter.access is Access.WRITE

        made_anew = arrays.is_part(array)

        def fits(blob: Blob) -> bool:
            nonlocal made_anew
            same = arrays.same_content(blob, array)
            if same and blob.thing() is None:
                cutter.cache.adopt(blob, array)
            made_anew = True
            return same

        def put(blob: Blob) -> None:
            # What workers write to has a content of its own.
            digest = made_anew and not writable
            arrays.put_array(cutter.cache, blob, array, writable=writable, digest=digest)

        blob = self._pins.get(arrays.content_key(array), array, fits, put)
        function = references.array if cutter.access is not None else references.private_array
        index = self._places.setdefault(blob, len(self._arrays))
        if index == len(self._arrays):
            self._arrays.append((blob, cutter.access or Access.READ))
        return function, (index, array.dtype, array.shape, arrays.order_of(array))

    def _buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer out of the pickle's stream; True: leave it there."""
        cutter = self._cutter
        try:
            view = buffer.raw()
        except BufferError:
            return True  # not contiguous: the pickler's own error is the better one
        # Of an array, its reducer has decided that it stays.
        if view.nbytes < cutter.buffer_limit or type(view.obj) in array_types():
            return True
        owner = view.obj
        key: tuple[object, ...] = ("buffer", object())
        if memoryview(owner).nbytes == view.nbytes:
            # What may be written to before the next batch is this batch's only.
            key = ("buffer", id(owner), None if type(owner) is bytes else self._pins)
        blob = self._pins.get(
            key, owner, lambda blob: blob.is_of(owner), lambda blob: cutter.cache.put(blob, view)
        )
        self.out_of_band_bytes += view.nbytes
        # Each buffer of the stream takes the next place, also one met before.
        self._streams.append((blob, Access.READ if view.readonly else Access.COPY))
        return False


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle with another table, which its C base reads when it is made."""

    def __init__(
        self,
        file: io.BytesIO,
        table: dict[type, Reducer],
        buffer_callback: Callable[[pickle.PickleBuffer], bool],
    ) -> None:
        self.dispatch_table = table
        super().__init__(file, protocol=PROTOCOL, buffer_callback=buffer_callback)


_array_types: frozenset[type] = frozenset()


def array_types() -> frozenset[type]:
    """Return the types that are cut as arrays; none while NumPy is not loaded."""
    global _array_types  # noqa: PLW0603 - the answer changes once
    if not _array_types:
        numpy = sys.modules.get("numpy")
        # NumPy may be half imported, by another thread.
        kinds: list[Any] = [getattr(numpy, name, None) for name in ("ndarray", "memmap")]
        if None not in kinds:
            _array_types = frozenset(kinds)
    return _array_types
