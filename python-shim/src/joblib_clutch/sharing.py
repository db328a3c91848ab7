"""Large objects that many tasks use: pickled once, unpickled for each task."""

from __future__ import annotations

import types
import zlib
from typing import TYPE_CHECKING, Any, cast

from joblib_clutch import references
from joblib_clutch.cutter import SHARED_MIN_BYTES, array_types

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Collection

    from joblib_clutch.blobs import Access, Blob
    from joblib_clutch.cutter import Cut, Cutter
    from joblib_clutch.payload import Task
    from joblib_clutch.pins import Pins

    Pickled = Callable[[object, Pins], tuple[Cut, io.BytesIO]]

# Nothing large is ever in them.
ATOMS: frozenset[type] = frozenset(
    {bool, int, float, complex, type(None), type(...), range, slice, type}
)
_SIZED: frozenset[type] = frozenset({bytes, str, bytearray})
# Pickled by name, unless by value or bound to an object.
_NAMED: frozenset[type] = frozenset({types.FunctionType, types.BuiltinFunctionType})


class Sharing:
    """Finds the objects of a call that are worth a blob of their own.

    Only pickling tells how large an object is, so one object of each type is
    tried. While those of a type are small, the others of it are not tried.

    Parameters
    ----------
    cutter : Cutter
        The call's.
    pickled : callable
        Pickles a value behind four bytes of room for a header.

    Attributes
    ----------
    dull : frozenset of type
        Types of which those seen are small, and those that always are.
    dull_functions : frozenset of type
        The same for the functions of tasks, where they are pickled by name.
    """

    def __init__(self, cutter: Cutter, pickled: Pickled) -> None:
        self._cutter = cutter
        self._pickled = pickled
        self._note(ATOMS)
        self._large: set[type] = set()

    def share(
        self, tasks: list[Task], shared: Shared, *, by_value: bool, thorough: bool = False
    ) -> list[Task]:
        """Put placeholders in the place of large objects.

        Parameters
        ----------
        tasks : list of (function, args, kwargs)
            The batch; not changed.
        shared : Shared
            Gets the objects.
        by_value : bool
            Whether functions may be pickled by value.
        thorough : bool
            Whether to try every object, whatever its type.

        Returns
        -------
        list of (function, args, kwargs)
            What to pickle.
        """
        if not thorough:
            kept = self.dull | shared.array_types
            if are_all(tasks, kept, kept if by_value else kept | _NAMED):
                return tasks
        search = _Search(self, shared, by_value=by_value, thorough=thorough)
        return [search.task(task) for task in tasks]

    def blob_of(self, value: object, shared: Shared, *, thorough: bool) -> Blob | None:
        """Return an object's blob; None when it stays in its batch."""
        kind = type(value)
        if kind in ATOMS or kind in shared.array_types:
            return None
        if kind in _SIZED:
            if _is_short(value):
                return None
        elif kind in self.dull and not thorough:
            return None
        return self._tried(value, shared)

    def _tried(self, value: object, shared: Shared) -> Blob | None:
        stamp = _stamp(value)
        blob = shared.pins.get(
            ("object", id(value)),
            value,
            lambda blob: blob.is_of(value) and blob.stamp == stamp,
            lambda blob: self._put(blob, value, stamp, shared.pins),
        )
        return blob if blob.blob_id else None

    def _put(self, blob: Blob, value: object, stamp: object, pins: Pins) -> None:
        cut, file = self._pickled(value, pins)
        kind = type(value)
        if file.tell() + cut.out_of_band_bytes < SHARED_MIN_BYTES:
            if kind not in self._large:
                self._note(self.dull | {kind})
            return
        self._large.add(kind)
        self._note(self.dull - {kind})
        with file.getbuffer() as data:
            data[: len(cut.header)] = cut.header
            self._cutter.cache.put(blob, data)
        blob.stamp = stamp
        blob.uses = cut.uses
        self._cutter.cache.keep(blob, cut.blobs)

    def _note(self, dull: frozenset[type]) -> None:
        self.dull, self.dull_functions = dull, dull | _NAMED


class Shared:
    """The shared objects of one batch.

    Parameters
    ----------
    pins : Pins
        Gets the blobs.

    Attributes
    ----------
    blobs : list of Blob
        The objects' pickles, by index.
    """

    def __init__(self, pins: Pins) -> None:
        self.pins = pins
        self.blobs: list[Blob] = []
        self.array_types = array_types()

    @property
    def uses(self) -> list[tuple[int, list[tuple[int, Access]]]]:
        """The blobs' names, each with its own buffers."""
        return [(blob.blob_id, blob.uses) for blob in self.blobs]

    def index(self, blob: Blob) -> int:
        """Return the index of a blob, which is added when it is new."""
        if blob not in self.blobs:
            self.blobs.append(blob)
        return self.blobs.index(blob)


class _Placeholder:
    """Pickles as a call of a function of `references`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


class _Search:
    """Goes through the tasks of one batch."""

    def __init__(self, sharing: Sharing, shared: Shared, *, by_value: bool, thorough: bool) -> None:
        self._sharing = sharing
        self._shared = shared
        self._by_value = by_value
        self._thorough = thorough
        # What was looked at, which the tasks keep alive, by `id`.
        self._found: dict[int, Blob | None] = {}

    def task(self, task: Task) -> Task:
        function, args, kwargs = task
        new_function = self._function(function)
        new_args = [self._value(value) for value in args]
        new_kwargs = {name: self._value(value) for name, value in kwargs.items()}
        same = (
            new_function is function
            and all(map(_is, new_args, args))
            and all(map(_is, new_kwargs.values(), kwargs.values()))
        )
        return task if same else (new_function, tuple(new_args), new_kwargs)

    def _function(self, function: object) -> object:
        if type(function) is types.MethodType:
            blob = self._blob(function.__self__)
            if blob is None:
                return function
            index = self._shared.index(blob)
            return _Placeholder(references.shared_method, index, function.__func__.__name__)
        if not self._by_value and type(function) is types.FunctionType:
            return function  # by name
        return self._value(function)

    def _value(self, value: object) -> object:
        blob = self._blob(value)
        if blob is None:
            return value
        return _Placeholder(references.shared, self._shared.index(blob))

    def _blob(self, value: object) -> Blob | None:
        if type(value) in ATOMS:
            return None
        key = id(value)
        if key not in self._found:
            self._found[key] = self._sharing.blob_of(value, self._shared, thorough=self._thorough)
        return self._found[key]


def are_all(tasks: list[Task], dull: frozenset[type], functions: frozenset[type]) -> bool:
    """Tell whether tasks have only functions and arguments of these types.

    Parameters
    ----------
    tasks : list of (function, args, kwargs)
        The batch.
    dull : frozenset of type
        Of arguments; text and bytes that are short are allowed besides.
    functions : frozenset of type
        Of functions.

    Returns
    -------
    bool
        Whether.
    """
    last: object = None
    for function, args, kwargs in tasks:
        if function is not last:
            if type(function) not in functions:
                return False
            last = function
        for value in args:
            if type(value) not in dull and not _is_short(value):
                return False
        if kwargs:
            for value in kwargs.values():
                if type(value) not in dull and not _is_short(value):
                    return False
    return True


def _is_short(value: Any) -> bool:  # noqa: ANN401 - its type is looked at
    return type(value) in _SIZED and len(value) < SHARED_MIN_BYTES


def _is(one: object, other: object) -> bool:
    return one is other


def _stamp(value: object) -> object:
    """Note what tells, for little, that a container was changed since."""
    if type(value) is bytearray:
        return zlib.crc32(value)
    if type(value) in (list, set):
        return tuple(map(id, cast("Collection[object]", value)))
    if type(value) is dict:
        return tuple(map(id, value)), tuple(map(id, value.values()))
    return None
