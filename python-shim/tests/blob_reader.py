"""What stands for an agent's blobs and for a worker's reading of them."""

from __future__ import annotations

import io
import mmap
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from joblib_clutch.blobs import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from joblib_clutch.payload import Payload

MODES = {Access.READ: "r", Access.COPY: "c", Access.WRITE: "r+"}
MAPS = {
    Access.READ: mmap.ACCESS_READ,
    Access.COPY: mmap.ACCESS_COPY,
    Access.WRITE: mmap.ACCESS_WRITE,
}


class FakeSink:
    """Keeps blobs in anonymous files, and counts."""

    def __init__(self, *, sees: bool = True) -> None:
        self.blobs: dict[int, bytes] = {}
        self.writable: set[int] = set()
        self.puts = 0
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.before_put: Callable[[], object] = int
        self._sees = sees
        self._lock = threading.Lock()

    def put(self, buffer: Any, *, writable: bool = False) -> int:
        self.before_put()
        if self.failure is not None:
            raise self.failure
        content = bytes(buffer)
        assert content, "a blob has at least one byte"
        with self._lock:
            self.puts += 1
            self.blobs[self.puts] = content
            if writable:
                self.writable.add(self.puts)
            return self.puts

    def release(self, blob_ids: list[int]) -> None:
        for blob_id in blob_ids:
            del self.blobs[blob_id]  # a KeyError: released twice

    def sees(self, path: str, device: int, inode: int, size: int) -> bool:
        self.asked.append(path)
        return self._sees


class _Shared:
    def __init__(self, index: int, method: str | None = None) -> None:
        self.index = index
        self.method = method


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, sink: FakeSink, data: bytes, uses: Sequence[tuple[int, Access]], *, header: bool
    ) -> None:
        arrays = int.from_bytes(data[:4], "little") if header else 0
        assert arrays <= len(uses)
        self._sink = sink
        self._uses = uses
        streams = [self._map(index) for index in range(arrays, len(uses))]
        super().__init__(io.BytesIO(data[4:] if header else data), buffers=streams)

    def find_class(self, module: str, name: str) -> Any:
        if module != "joblib_clutch.references":
            return super().find_class(module, name)
        return {
            "array": self._array,
            "private_array": self._private_array,
            "shared": _Shared,
            "shared_method": _Shared,
        }[name]

    def _map(self, index: int) -> mmap.mmap:
        blob_id, access = self._uses[index]
        content = self._sink.blobs[blob_id]
        assert (access is Access.WRITE) <= (blob_id in self._sink.writable)
        room = mmap.mmap(-1, len(content))
        room.write(content)
        if access is not Access.READ:
            return room
        return memoryview(room).toreadonly()  # type: ignore[return-value]

    def _array(self, index: int, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
        array = np.ndarray.__new__(
            np.memmap, shape, dtype=dtype, buffer=self._map(index), order=order
        )
        array.mode = MODES[self._uses[index][1]]
        return array

    def _private_array(self, index: int, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
        array = np.ndarray(shape, dtype=dtype, buffer=self._map(index), order=order)
        return array.copy(order="K")


def read(sink: FakeSink, payload: Payload) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Unpickle a batch as a worker does, each task's shared objects afresh."""
    header = bool(payload.buffers or payload.shared)
    tasks = _Unpickler(sink, payload.data, payload.buffers, header=header).load()
    return [_resolved(sink, payload, task) for task in tasks]


def _resolved(sink: FakeSink, payload: Payload, task: Any) -> Any:
    made: dict[int, Any] = {}

    def value(given: Any) -> Any:
        if not isinstance(given, _Shared):
            return given
        if given.index not in made:
            pickle_id, uses = payload.shared[given.index]
            made[given.index] = _Unpickler(sink, sink.blobs[pickle_id], uses, header=True).load()
        thing = made[given.index]
        return thing if given.method is None else getattr(thing, given.method)

    function, args, kwargs = task
    return (
        value(function),
        tuple(map(value, args)),
        {name: value(given) for name, given in kwargs.items()},
    )
