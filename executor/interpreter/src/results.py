"""Results as pickles, with large buffers beside them.

Runs inside the interpreter host. What it needs is looked up once, in the zygote:
no task can take it away.
"""

# ruff: noqa: ANN401  (what users pass may be anything)

import sys
from collections import ChainMap
from copyreg import dispatch_table
from io import BytesIO
from pickle import PickleBuffer, Pickler, dumps
from typing import Any

# The highest protocol that every supported Python reads.
PROTOCOL = 5
# A buffer of this many bytes or more stays outside of the pickle. Smaller ones
# cost less inside.
OUTSIDE_BYTES = 256 << 10
# A pickler that wrote more than this is not used again.
KEPT_BYTES = 64 << 10

# What becomes of arrays, by their type; empty until NumPy has been imported.
_array_reducers: dict[type, Any] = {}


class _Writable:
    """Says that another array's memory may be written to, and keeps it alive."""

    __slots__ = ("__array_interface__", "_owner")

    def __init__(self, owner: Any, address: int, length: int) -> None:
        self._owner = owner
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (length,),
            "data": (address, False),
        }


def _reducer(numpy: Any) -> Any:
    """Make the function that says how an array is pickled."""
    ndarray, asarray, ascontiguousarray = numpy.ndarray, numpy.asarray, numpy.ascontiguousarray
    frombuffer, uint8, int64 = numpy.frombuffer, numpy.uint8, numpy.int64

    def is_outside(reduction: Any) -> bool:
        return type(reduction[1][0]) is PickleBuffer

    def reduce(array: Any) -> Any:
        if type(array) is not ndarray:
            # A `memmap`: its file may mean nothing to the driver, its content does.
            array = asarray(array)
        writeable = array.flags.writeable
        if array.nbytes < OUTSIDE_BYTES:
            return (array if writeable else array.copy("K")).__reduce_ex__(PROTOCOL)
        if array.dtype.kind in "mM":
            # Python knows no buffers of times.
            return ndarray.view, (array.view(int64), array.dtype)
        reduction = array.__reduce_ex__(PROTOCOL)
        if not (array.flags.forc or array.dtype.hasobject or is_outside(reduction)):
            array = ascontiguousarray(array)
            writeable = True
            reduction = array.__reduce_ex__(PROTOCOL)
        if writeable or not is_outside(reduction):
            return reduction
        # The driver may write to what it gets, as to any result. Nobody writes here.
        function, (buffer, *others), *rest = reduction
        content = frombuffer(buffer.raw(), uint8)
        address = content.__array_interface__["data"][0]
        view = asarray(_Writable(content, address, content.nbytes))
        return function, (PickleBuffer(view), *others), *rest

    return reduce


def _with_arrays() -> bool:
    """Return whether there can be arrays, and learn how to pickle them."""
    if _array_reducers:
        return True
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "memmap"):
        return False
    reduce = _reducer(numpy)
    _array_reducers.update({numpy.ndarray: reduce, numpy.memmap: reduce})
    return True


def cloud_pickler(module: Any) -> Any:
    """Make a cloudpickle pickler that treats arrays as results."""
    base = module.CloudPickler
    tables = {"dispatch_table": ChainMap(_array_reducers, base.dispatch_table)}
    return type("CloudPickler", (base,), tables)


class _Outside:
    """The buffers that stay outside of a pickle."""

    __slots__ = ("views",)

    def __init__(self) -> None:
        self.views: list[memoryview] = []

    def __call__(self, buffer: PickleBuffer) -> bool:
        """Return whether the buffer goes into the pickle."""
        view = buffer.raw()
        if view.nbytes < OUTSIDE_BYTES:
            return True
        self.views.append(view)
        return False


class _TooLongError(Exception):
    pass


class _Bounded:
    """A file that takes only so many bytes."""

    __slots__ = ("_left", "parts")

    def __init__(self, most: int) -> None:
        self._left = most
        self.parts: list[bytes] = []

    def write(self, part: Any) -> None:
        self._left -= memoryview(part).nbytes
        if self._left < 0:
            raise _TooLongError
        self.parts.append(bytes(part))


class _ArrayPickler:
    """Pickles arrays as results; used again, because making one takes a microsecond."""

    __slots__ = ("_file", "_outside", "_pickler")

    def __init__(self) -> None:
        self._file = BytesIO()
        self._outside = _Outside()
        self._pickler = Pickler(self._file, PROTOCOL, buffer_callback=self._outside)

    def dump(self, value: Any) -> tuple[bytes, list[memoryview]]:
        # A plain dictionary, made anew: a task may import what registers its types.
        self._pickler.dispatch_table = dispatch_table | _array_reducers
        self._pickler.dump(value)
        return self._file.getvalue(), self._outside.views

    def forget(self) -> None:
        """Get ready for the next value."""
        self._pickler.clear_memo()
        self._file.seek(0)
        self._file.truncate()
        self._outside.views = []


# At most one, that is not in use.
_kept: list[_ArrayPickler] = []


def dump(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle by what the driver can import."""
    if not _with_arrays():
        outside = _Outside()
        return dumps(value, PROTOCOL, buffer_callback=outside), outside.views
    pickler = _kept.pop() if _kept else _ArrayPickler()
    pickled, views = pickler.dump(value)
    # One that failed, or that remembers much, is not kept.
    if len(pickled) <= KEPT_BYTES:
        pickler.forget()
        _kept.append(pickler)
    return pickled, views


def dump_by_value(pickler: Any, value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle with a `cloud_pickler`, by value where the driver cannot import."""
    _with_arrays()
    outside = _Outside()
    file = BytesIO()
    pickler(file, PROTOCOL, buffer_callback=outside).dump(value)
    return file.getvalue(), outside.views


def dump_inside(pickler: Any, value: Any, most: int) -> bytes | None:
    """Pickle with all buffers inside, by a `cloud_pickler` or without one by importable names.

    Return None when that would be more than so many bytes.
    """
    with_arrays = _with_arrays()
    file = _Bounded(most)
    try:
        if pickler is None:
            plain = Pickler(file, PROTOCOL)
            if with_arrays:
                plain.dispatch_table = dispatch_table | _array_reducers
            plain.dump(value)
        else:
            pickler(file, PROTOCOL).dump(value)
    except _TooLongError:
        return None
    return b"".join(file.parts)
