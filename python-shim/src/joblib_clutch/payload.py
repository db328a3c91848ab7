"""Pickles the tasks of a batch."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle

from joblib_clutch.blobs import Access, Blob, BlobCache, BlobSink
from joblib_clutch.cutter import HEADER_BYTES, PROTOCOL, SHARED_MIN_BYTES, Cut, Cutter
from joblib_clutch.exceptions import ArgumentPickleError, ClutchError
from joblib_clutch.pins import Pins
from joblib_clutch.sharing import Shared, Sharing, are_all
from joblib_clutch.unpicklable import find_unpicklable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Access", "BlobSink", "Payload", "Task", "TaskPickler"]

Task = tuple[Any, tuple[Any, ...], dict[str, Any]]


@dataclass(slots=True)
class Payload:
    """A pickled batch.

    Attributes
    ----------
    data : bytes
        The pickled list of tasks. When there are buffers or shared objects, the
        number of buffers that are arrays precedes it, in four bytes.
    buffers : sequence of (int, Access)
        Blobs that the pickle refers to: arrays, then other buffers.
    shared : sequence of (int, sequence of (int, Access))
        Blobs that are pickles of shared objects, each with its own buffers.
    pins : sequence
        What `TaskPickler.ended` takes back.
    """

    data: bytes
    buffers: Sequence[tuple[int, Access]] = ()
    shared: Sequence[tuple[int, Sequence[tuple[int, Access]]]] = ()
    pins: Sequence[Blob] = ()


class TaskPickler:
    """Pickles the batches of one call. Safe to use from several threads.

    Plain pickle is several times faster than cloudpickle but refers to the
    driver's ``__main__``, and to modules registered to go by value, which the
    worker does not have. Tasks of one call are alike: once one of them needs
    cloudpickle, all get it.

    Parameters
    ----------
    sink : BlobSink or None
        Where large arguments go; None: they stay in their batch.
    max_nbytes : int or None
        Arrays of more bytes are large; None: none is.
    mmap_mode : str or None
        How workers get large arrays, as in joblib.
    """

    def __init__(
        self,
        sink: BlobSink | None = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
    ) -> None:
        self._by_value = False
        self._cache = None if sink is None else BlobCache(sink)
        if self._cache is not None:
            self._cutter = Cutter(self._cache, max_nbytes, mmap_mode)
            self._smallest = min(SHARED_MIN_BYTES, self._cutter.buffer_limit)
            self._sharing = Sharing(self._cutter, self._with_room)
        # Whether the last batch had nothing to cut, so that the next is likely
        # not to have either: it is tried without the means to cut.
        # It shows in the pickle: small maps of files are cut too, so there must
        # be no array in it, and it must be small.
        self._quick = True
        # A batch of as many bytes may hide a large object.
        self._suspicious_bytes = SHARED_MIN_BYTES

    def dumps(self, tasks: list[Task]) -> Payload:
        """Pickle the tasks of one batch.

        Parameters
        ----------
        tasks : list of (function, args, kwargs)
            The tasks.

        Returns
        -------
        Payload
            To be given to `ended` when the batch has.

        Raises
        ------
        ArgumentPickleError
            Naming the part that does not pickle.
        ClutchError
            A blob could not be put, or the call has ended.
        """
        by_value = self._by_value or bool(cloudpickle.list_registry_pickle_by_value())
        if self._cache is None or (
            self._quick
            and are_all(
                tasks,
                self._sharing.dull,
                self._sharing.dull if by_value else self._sharing.dull_functions,
            )
        ):
            data = None if by_value else _plainly(tasks)
            if data is None:
                data = self._by_cloudpickle(tasks)
            if self._cache is None or (len(data) < self._smallest and b"numpy" not in data):
                return Payload(data)
        return self._cut(tasks, self._cache)

    def ended(self, payload: Payload) -> None:
        """Let go of the blobs of a batch that has ended, or never began."""
        if payload.pins and self._cache is not None:
            pins, payload.pins = payload.pins, ()
            self._cache.unpin(pins)

    def close(self) -> None:
        """Let go of all blobs; the call is over."""
        if self._cache is not None:
            self._cache.close()

    def _by_cloudpickle(self, tasks: list[Task]) -> bytes:
        self._by_value = True
        try:
            return bytes(cloudpickle.dumps(tasks, protocol=PROTOCOL))
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise _explained(tasks, cause) from cause

    def _cut(self, tasks: list[Task], cache: BlobCache) -> Payload:
        pins = Pins(cache)
        used: list[Blob] = []
        try:
            shared, cut, file = self._shared(tasks, pins)
            size = file.tell()
            if size >= self._suspicious_bytes:
                again = self._shared(tasks, pins, thorough=True)
                if len(again[0].blobs) > len(shared.blobs):
                    shared, cut, file = again
                else:
                    # Not again for every batch of this size.
                    self._suspicious_bytes = 2 * size
            data = file.getvalue()
            if cut.blobs or shared.blobs:
                data = cut.header + data
            used = cut.blobs + shared.blobs
            self._quick = not used and size < self._smallest and b"numpy" not in data
        except (KeyboardInterrupt, ClutchError):
            raise
        except BaseException as cause:
            raise _explained(tasks, cause) from cause
        finally:
            # Not used: what a first attempt needed that failed.
            kept = pins.keep_only(used)
        return Payload(data, cut.uses, shared.uses, kept)

    def _shared(
        self, tasks: list[Task], pins: Pins, *, thorough: bool = False
    ) -> tuple[Shared, Cut, io.BytesIO]:
        """Pickle the tasks, with large objects apart."""
        by_value = self._wants_by_value()
        shared = Shared(pins)
        rest = self._sharing.share(tasks, shared, by_value=by_value, thorough=thorough)
        cut, file = self._pickled(rest, pins)
        if not by_value and self._by_value:
            # Now functions carry what they refer to.
            shared = Shared(pins)
            rest = self._sharing.share(tasks, shared, by_value=True, thorough=thorough)
            cut, file = self._pickled(rest, pins)
        return shared, cut, file

    def _with_room(self, value: object, pins: Pins) -> tuple[Cut, io.BytesIO]:
        return self._pickled(value, pins, room=HEADER_BYTES)

    def _pickled(self, value: object, pins: Pins, room: int = 0) -> tuple[Cut, io.BytesIO]:
        if not self._wants_by_value():
            cut, file = Cut(self._cutter, pins), _file(room)
            if _attempted(cut, value, file):
                return cut, file
            self._by_value = True
        cut, file = Cut(self._cutter, pins), _file(room)
        cut.dump(value, file, by_value=True)
        return cut, file

    def _wants_by_value(self) -> bool:
        return self._by_value or bool(cloudpickle.list_registry_pickle_by_value())


def _file(room: int) -> io.BytesIO:
    file = io.BytesIO(bytes(room))
    file.seek(room)
    return file


def _plainly(tasks: list[Task]) -> bytes | None:
    """Pickle without cloudpickle; None: cannot, or refers to what workers lack."""
    try:
        data = pickle.dumps(tasks, protocol=PROTOCOL)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it is, cloudpickle may cope
        return None
    return None if b"__main__" in data else data


def _attempted(cut: Cut, value: object, file: io.BytesIO) -> bool:
    """Pickle without cloudpickle into a file; see `_plainly`."""
    try:
        cut.dump(value, file, by_value=False)
    except (KeyboardInterrupt, ClutchError):
        raise
    except BaseException:  # noqa: BLE001 - as above
        return False
    return b"__main__" not in file.getvalue()


def _explained(tasks: list[Task], cause: BaseException) -> ArgumentPickleError:
    found = find_unpicklable(tasks)
    message = "Could not pickle the task to send it to the workers."
    if found is None:
        return ArgumentPickleError(
            f"{message} {type(cause).__name__}: {cause}",
            kind="ARGUMENT_UNPICKLABLE",
            fault="TASK",
        )
    return ArgumentPickleError(
        f"{message} The culprit is {found.path} of type {found.type_name}"
        f" ({type(cause).__name__}: {cause})",
        kind="ARGUMENT_UNPICKLABLE",
        fault="TASK",
        task_index=found.task_index,
        function=found.function,
        type_name=found.type_name,
        advice="create it inside the task, or give its class a __reduce__",
    )
