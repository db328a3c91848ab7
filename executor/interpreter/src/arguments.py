"""Arguments that travel beside their batch, as blobs.

Runs inside the interpreter host. Blobs are mapped, so many workers share one copy.
"""

# ruff: noqa: ANN401  (what users pass may be anything)

import os
import sys
from collections.abc import Callable
from io import BytesIO
from mmap import ACCESS_COPY, ACCESS_READ, ACCESS_WRITE, mmap
from pickle import Unpickler
from typing import Any

# The module whose names stand for blobs inside a pickle. It need not exist here.
REFERENCES = "joblib_clutch.references"
# The number of blobs that are arrays, in front of a pickle.
COUNT_BYTES = 4
# From 3.13 on a map need not keep a descriptor of its own.
UNTRACKED: dict[str, bool] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class Blob:
    """Bytes behind a descriptor, which its owner keeps open."""

    __slots__ = ("_readable", "_writable", "descriptor", "length")

    def __init__(self, descriptor: int, length: int) -> None:
        self.descriptor = descriptor
        self.length = length
        self._readable: mmap | None = None
        self._writable: mmap | None = None

    def readable(self) -> mmap:
        """Return the map that all readers of this worker share."""
        if self._readable is None:
            self._readable = self._map(ACCESS_READ)
        return self._readable

    def writable(self) -> mmap:
        """Return the map through which workers see each other's writes."""
        if self._writable is None:
            self._writable = self._map(ACCESS_WRITE)
        return self._writable

    def private(self) -> mmap:
        """Return a new map. Nobody sees what is written to it, nor does a later batch."""
        return self._map(ACCESS_COPY)

    def path(self) -> str:
        """Return a name under which other processes can open it, while the blob is kept."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def _map(self, access: int) -> mmap:
        try:
            return mmap(self.descriptor, self.length, access=access, **UNTRACKED)
        except PermissionError:
            if access != ACCESS_READ:
                raise
        # Before Linux 6.7 sealed memory is shared only through a descriptor that cannot write.
        descriptor = os.open(self.path(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mmap(descriptor, self.length, access=access, **UNTRACKED)
        finally:
            os.close(descriptor)


class BlobFile:
    """Reads a blob as a file, without copying all of it."""

    __slots__ = ("_at", "_map", "_view")

    def __init__(self, blob: Blob) -> None:
        self._map = blob.readable()
        self._view = memoryview(self._map)
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        begin, self._at = self._at, min(self._at + size, len(self._view))
        return bytes(self._view[begin : self._at])

    def readinto(self, target: bytearray) -> int:
        """Copy the next bytes to where they are needed."""
        begin, self._at = self._at, min(self._at + len(target), len(self._view))
        target[: self._at - begin] = self._view[begin : self._at]
        return self._at - begin

    def readline(self) -> bytes:
        """Return the next bytes up to the end of a line."""
        end = self._map.find(b"\n", self._at)
        return self.read((len(self._view) if end < 0 else end + 1) - self._at)


# A blob, and the mode of a `numpy.memmap` that says what may be done with it.
Use = tuple[Blob, str]


class Shared:
    """Stands for an object that each task gets a fresh copy of."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class SharedMethod:
    """Stands for a method of such an object."""

    __slots__ = ("index", "name")

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = name


class References:
    """What the names of the module `REFERENCES` mean in one pickle."""

    shared = Shared
    shared_method = SharedMethod

    def __init__(self, uses: list[Use]) -> None:
        self._uses = uses
        self._maps: dict[int, mmap] = {}

    def map(self, index: int) -> mmap:
        """Return the memory of a blob of this pickle, once for each use."""
        found = self._maps.get(index)
        if found is None:
            blob, mode = self._use(index)
            if mode == "r":
                found = blob.readable()
            else:
                found = blob.private() if mode == "c" else blob.writable()
            self._maps[index] = found
        return found

    def array(self, index: int, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
        """Return the array whose memory is the blob, as `numpy.memmap` would open it."""
        from numpy import memmap, ndarray  # noqa: PLC0415

        memory = self.map(index)
        blob, mode = self._use(index)
        array: Any = ndarray.__new__(memmap, shape, dtype=dtype, buffer=memory, order=order)
        array._mmap = memory
        array.mode = mode
        array.offset = 0
        # joblib's other backends hand such arrays on by their file's name.
        array.filename = blob.path()
        return array

    def private_array(self, index: int, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
        """Return an ordinary array that is a copy of the blob."""
        from numpy import ndarray  # noqa: PLC0415

        blob, _ = self._use(index)
        return ndarray(shape, dtype=dtype, buffer=blob.readable(), order=order).copy("K")

    def _use(self, index: int) -> Use:
        if not 0 <= index < len(self._uses):
            raise IndexError(f"the pickle uses blob {index} of {len(self._uses)}")
        return self._uses[index]


class TaskUnpickler(Unpickler):
    """Unpickles what refers to blobs."""

    def __init__(self, file: Any, references: References, streams: list[memoryview]) -> None:
        super().__init__(file, buffers=streams)
        # It must not refer back to this unpickler: that would keep maps alive.
        self._references = references

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle means."""
        if module == REFERENCES and name in ("array", "private_array", "shared", "shared_method"):
            return getattr(self._references, name)
        return super().find_class(module, name)


def load(file: Any, uses: list[Use]) -> Any:
    """Unpickle from a file that begins with the number of blobs that are arrays."""
    arrays = int.from_bytes(file.read(COUNT_BYTES), "little")
    references = References(uses)
    streams = [memoryview(references.map(index)) for index in range(arrays, len(uses))]
    return TaskUnpickler(file, references, streams).load()


def load_batch(payload: bytes, uses: list[Use]) -> Any:
    """Unpickle a batch."""
    return load(BytesIO(payload), uses)


class SharedObjects:
    """The objects that a batch's tasks share, each as its pickle and that pickle's blobs."""

    def __init__(self, pickles: list[tuple[Blob, list[Use]]]) -> None:
        self._pickles = pickles

    def resolve(
        self,
        function: Any,
        arguments: Any,
        keywords: dict[str, Any] | None,
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None]:
        """Put objects of this one task where something stands for them."""
        fresh: dict[int, Any] = {}

        def resolved(value: Any) -> Any:
            kind = type(value)
            if kind is Shared:
                return self._object(value.index, fresh)
            if kind is SharedMethod:
                return getattr(self._object(value.index, fresh), value.name)
            return value

        function = resolved(function)
        arguments = tuple([resolved(value) for value in arguments])
        if keywords:
            keywords = {name: resolved(value) for name, value in keywords.items()}
        return function, arguments, keywords

    def _object(self, index: int, fresh: dict[int, Any]) -> Any:
        if index not in fresh:
            if not 0 <= index < len(self._pickles):
                raise IndexError(f"the task uses shared object {index} of {len(self._pickles)}")
            blob, uses = self._pickles[index]
            fresh[index] = load(BlobFile(blob), uses)
        return fresh[index]
