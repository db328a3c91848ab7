"""Arrays and buffers that are cut out of batches, as a worker gets them."""

from __future__ import annotations

import gc
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from blob_reader import FakeSink, read

from joblib_clutch.blobs import Access
from joblib_clutch.exceptions import CallCancelledError, QuotaExceededError
from joblib_clutch.payload import Payload, TaskPickler

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1000


def tasks_of(*values: Any) -> list[Any]:
    return [(len, values, {})]


def pickler_of(sink: FakeSink, mode: str | None = "r") -> TaskPickler:
    return TaskPickler(sink, LIMIT, mode)


def sent(sink: FakeSink, *values: Any, mode: str | None = "r") -> tuple[Payload, tuple[Any, ...]]:
    payload = pickler_of(sink, mode).dumps(tasks_of(*values))
    ((function, args, kwargs),) = read(sink, payload)
    assert (function, kwargs) == (len, {})
    return payload, args


C = np.arange(600.0).reshape(20, 30)
STRUCTURED = np.zeros(200, dtype=[("a", "i4"), ("b", "f8"), ("c", "S3")])
STRUCTURED["b"] = np.arange(200)


@pytest.mark.parametrize(
    "array",
    [
        C,
        np.asfortranarray(C),
        C.T,
        C[::2, ::2],
        C[::-1],
        C[3:9],
        np.broadcast_to(np.arange(300.0), (2, 300)),
        np.asfortranarray(np.arange(600.0).reshape(2, 10, 30)).transpose(1, 0, 2),
        STRUCTURED,
        np.arange("2000-01-01", "2003-01-01", dtype="M8[D]"),
        np.array(["a" * 300, "b"]),
        np.array("x" * 400),
        np.arange(2000, dtype=np.int8) > 5,
        np.arange(1000, dtype=">i2"),
    ],
)
def test_a_big_array_arrives_as_a_map(array: Any) -> None:
    payload, (got,) = sent(FakeSink(), array)
    assert payload.buffers == [(1, Access.READ)]
    assert len(payload.data) < 500
    assert type(got) is np.memmap
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)
    assert not got.flags.writeable
    if array.flags.f_contiguous:
        assert got.flags.f_contiguous


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(LIMIT, dtype="u1"),  # more bytes are big, as in joblib
        np.array([None] * 1000),
        np.zeros((0, 5)),
        np.rec.array(np.zeros(LIMIT)),
        np.array(["x" * 20] * 500, dtype=np.dtypes.StringDType()),
    ],
)
def test_what_is_not_big_or_not_plain_memory_stays(array: Any) -> None:
    payload, (got,) = sent(FakeSink(), array)
    assert not payload.buffers
    assert type(got) is type(array)
    np.testing.assert_array_equal(got, array)


def test_without_a_limit_arrays_stay() -> None:
    sink = FakeSink()
    payload = TaskPickler(sink, None).dumps(tasks_of(np.zeros(1 << 20)))
    assert sink.puts == 0
    assert len(payload.data) > 8 << 20


def test_a_limit_of_nothing_cuts_every_array_that_has_bytes() -> None:
    sink = FakeSink()
    payload = TaskPickler(sink, 0).dumps(tasks_of(np.zeros(1), np.zeros(0)))
    assert len(payload.buffers) == 1


@pytest.mark.parametrize(
    ("mode", "access", "got_mode"),
    [
        ("r", Access.READ, "r"),
        ("c", Access.COPY, "c"),
        ("r+", Access.WRITE, "r+"),
        ("w+", Access.WRITE, "r+"),
    ],
)
def test_workers_may_write_as_the_mode_says(mode: str, access: Access, got_mode: str) -> None:
    sink = FakeSink()
    payload, (got,) = sent(sink, C, mode=mode)
    assert payload.buffers == [(1, access)]
    assert got.mode == got_mode
    assert got.flags.writeable == (mode != "r")
    assert bool(sink.writable) == (access is Access.WRITE)


def test_without_a_mode_workers_get_arrays_of_their_own() -> None:
    payload, (got,) = sent(FakeSink(), C.T, mode=None)
    assert payload.buffers == [(1, Access.READ)]
    assert type(got) is np.ndarray
    got += 1
    np.testing.assert_array_equal(got, C.T + 1)


def test_nested_arrays_are_cut_out_too() -> None:
    frame = pd.DataFrame({"a": np.arange(500.0), "b": np.arange(500.0)})
    sparse = scipy.sparse.csr_matrix(np.eye(400))
    payload, (got,) = sent(FakeSink(), {"list": [frame, (sparse, C)]})
    assert len(payload.buffers) >= 4
    assert len(payload.data) < 5000
    pd.testing.assert_frame_equal(got["list"][0], frame)
    assert (got["list"][1][0] != sparse).nnz == 0
    np.testing.assert_array_equal(got["list"][1][1], C)


def test_arrays_of_a_closure_that_goes_by_value_are_cut_out() -> None:
    function = lambda: C.sum() + array.sum()
    array = np.ones(500)
    function.__module__ = "__main__"
    sink = FakeSink()
    payload = pickler_of(sink).dumps([(function, (), {})])
    assert len(payload.buffers) == 2
    ((rebuilt, _, _),) = read(sink, payload)
    assert rebuilt() == C.sum() + 500


def test_the_same_array_is_put_once_and_stays_one_array() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    array = C.copy()
    payload = pickler.dumps([(len, (array, [array]), {"a": array})] * 2)
    (first, _) = read(sink, payload)
    assert first[1][0] is first[1][1][0] is first[2]["a"]
    for _ in range(5):
        again = pickler.dumps(tasks_of({"x": array}))
        assert again.buffers == payload.buffers
    assert sink.puts == 1


def test_a_strided_view_is_copied_once() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    view = C[::2]
    payloads = [pickler.dumps(tasks_of(view)) for _ in range(3)]
    payloads += [pickler.dumps(tasks_of(C[::2]))]  # another object
    assert sink.puts == 1
    assert len({tuple(payload.buffers) for payload in payloads}) == 1


def test_views_made_anew_for_each_task_are_put_at_most_twice() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    payloads = [pickler.dumps(tasks_of(C.T)) for _ in range(10)]
    assert sink.puts == 2
    assert len({tuple(payload.buffers) for payload in payloads[1:]}) == 1
    for payload in payloads:
        pickler.ended(payload)
    pickler.dumps(tasks_of(0))
    assert sink.blobs == {}


def test_workers_that_write_share_only_what_is_the_same_object() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink, "r+")
    view = C[::2]
    assert pickler.dumps(tasks_of(view)).buffers == pickler.dumps(tasks_of(view)).buffers
    pickler.dumps(tasks_of(C[::2]))
    assert sink.puts == 2


def test_a_buffer_filled_again_is_put_again_when_it_is_passed_by_a_view() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    frame = np.zeros(1000)
    payloads = []
    for number in range(4):
        frame[:] = number
        payloads.append(pickler.dumps(tasks_of(frame[:])))
    assert [read(sink, payload)[0][1][0][0] for payload in payloads] == [0, 1, 2, 3]


def test_a_new_call_sends_what_was_changed_since() -> None:
    sink = FakeSink()
    array = np.zeros(1000)
    for number in range(3):
        array[0] = number
        pickler = pickler_of(sink)
        payload = pickler.dumps(tasks_of(array))
        assert read(sink, payload)[0][1][0][0] == number
        pickler.close()
    assert sink.blobs == {}


def test_memory_used_again_is_put_again() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    places = set()
    reused = 0
    for number in range(200):
        array = np.full(1000, float(number))
        place = array.ctypes.data
        reused += place in places
        places.add(place)
        payload = pickler.dumps(tasks_of(array))
        del array
        got = read(sink, payload)[0][1][0]
        assert got[0] == got[-1] == number
        if number % 2:  # the others' batches are still open
            pickler.ended(payload)
    assert reused > 0
    assert sink.puts == 200


def test_arrays_of_a_generator_live_only_while_batches_use_them() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    payloads = []
    for number in range(1000):
        payloads.append(pickler.dumps(tasks_of(np.full(1000, number))))
        if len(payloads) > 3:
            pickler.ended(payloads.pop(0))
        assert len(sink.blobs) <= 4
    for payload in payloads:
        pickler.ended(payload)
    assert sink.blobs == {}
    assert sink.puts == 1000


def test_an_array_that_lives_keeps_its_blob_until_it_dies() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    array = C.copy()
    payload = pickler.dumps(tasks_of(array))
    pickler.ended(payload)
    pickler.ended(payload)
    assert len(sink.blobs) == 1
    del array
    pickler.ended(pickler.dumps(tasks_of(C)))
    assert len(sink.blobs) == 1
    pickler.close()
    assert sink.blobs == {}


def test_nothing_stays_after_the_end_and_late_words_do_no_harm() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    payload = pickler.dumps(tasks_of(C, np.zeros(1000)))
    pickler.close()
    assert sink.blobs == {}
    pickler.ended(payload)
    pickler.close()
    with pytest.raises(CallCancelledError):
        pickler.dumps(tasks_of(C))
    assert sink.blobs == {}


def test_a_call_that_ends_while_a_blob_is_put_keeps_nothing() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    sink.before_put = pickler.close
    with pytest.raises(CallCancelledError):
        pickler.dumps(tasks_of(C))
    assert sink.blobs == {}


def test_a_failing_put_is_told_as_it_is_and_tried_again() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    sink.failure = QuotaExceededError("no room", kind="QUOTA_EXCEEDED")
    with pytest.raises(QuotaExceededError, match="no room"):
        pickler.dumps(tasks_of(C))
    sink.failure = None
    pickler.ended(pickler.dumps(tasks_of(C.copy())))
    assert sink.puts == 1


def full(sink: FakeSink, most: int) -> Callable[[], object]:
    """Refuse blobs while there are so many."""

    def refuse() -> None:
        if len(sink.blobs) >= most:
            raise QuotaExceededError("full", kind="QUOTA_EXCEEDED", fault="DRIVER")

    return refuse


def test_arrays_that_no_batch_uses_make_way_for_others() -> None:
    sink = FakeSink()
    sink.before_put = full(sink, 2)
    pickler = TaskPickler(sink, 1000)
    arrays = [np.full(1000, number) for number in range(6)]
    for number, array in enumerate(arrays * 2):
        payload = pickler.dumps([(len, (array,), {})])
        ((_, (got,), _),) = read(sink, payload)
        assert (got == number % 6).all()
        pickler.ended(payload)
    assert len(sink.blobs) <= 2
    pickler.close()
    assert sink.blobs == {}


def test_arrays_that_a_batch_uses_do_not_make_way() -> None:
    sink = FakeSink()
    sink.before_put = full(sink, 2)
    pickler = TaskPickler(sink, 1000)
    arrays = [np.full(1000, number) for number in range(3)]
    payloads = [pickler.dumps([(len, (array,), {})]) for array in arrays[:2]]
    with pytest.raises(QuotaExceededError, match="full"):
        pickler.dumps([(len, (arrays[2],), {})])
    assert [read(sink, payload)[0][1][0][0] for payload in payloads] == [0, 1]


def test_what_workers_wrote_does_not_make_way() -> None:
    sink = FakeSink()
    sink.before_put = full(sink, 1)
    pickler = TaskPickler(sink, 1000, "r+")
    array = np.zeros(1000)
    pickler.ended(pickler.dumps([(len, (array,), {})]))
    with pytest.raises(QuotaExceededError, match="full"):
        pickler.dumps([(len, (np.ones(1000),), {})])
    assert len(sink.blobs) == 1


def test_threads_put_an_array_once() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    array = np.zeros(1 << 20)
    entered = threading.Event()
    others_wait = threading.Event()

    def slow() -> None:
        entered.set()
        assert others_wait.wait(30)

    sink.before_put = slow
    payloads: list[Payload] = []
    threads = [
        threading.Thread(target=lambda: payloads.append(pickler.dumps(tasks_of(array))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    assert pickler.dumps(tasks_of(1)).data  # others go on meanwhile
    others_wait.set()
    for thread in threads:
        thread.join()
    assert sink.puts == 1
    assert {tuple(payload.buffers) for payload in payloads} == {((1, Access.READ),)}
    for payload in payloads:
        pickler.ended(payload)
    assert len(sink.blobs) == 1


class Exporter:
    """Pickles by an out-of-band buffer, as Arrow's tables do."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Exporter, (pickle.PickleBuffer(self.buffer),)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_other_buffers_go_out_of_band_after_the_arrays(kind: type) -> None:
    sink = FakeSink()
    big, small = kind(b"b" * 5000), kind(b"s" * 10)
    payload, (got, array, little) = sent(sink, Exporter(big), C, Exporter(small))
    access = Access.READ if kind is bytes else Access.COPY
    # Blob 1 is the buffer, met first; blob 2 the array.
    assert payload.buffers == [(2, Access.READ), (1, access)]
    assert bytes(got.buffer) == big
    assert memoryview(got.buffer).readonly == (kind is bytes)
    assert little.buffer == small
    np.testing.assert_array_equal(array, C)


def test_a_buffer_that_may_be_written_is_put_for_each_batch() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    exporter = Exporter(bytearray(5000))
    payloads = []
    for number in range(3):
        exporter.buffer[0] = number
        payloads.append(pickler.dumps(tasks_of(exporter)))
    assert [read(sink, payload)[0][1][0].buffer[0] for payload in payloads] == [0, 1, 2]
    for payload in payloads:
        pickler.ended(payload)
    assert sink.blobs == {}


def test_a_part_of_bytes_is_not_taken_for_another_part() -> None:
    sink = FakeSink()
    whole = bytes(range(250)) * 40
    halves = [Exporter(memoryview(whole)[:5000]), Exporter(memoryview(whole)[5000:])]
    _, got = sent(sink, *halves)
    assert [bytes(half.buffer) for half in got] == [whole[:5000], whole[5000:]]


def test_a_garbage_collection_in_the_middle_does_no_harm() -> None:
    sink = FakeSink()
    pickler = pickler_of(sink)
    sink.before_put = gc.collect
    for _ in range(20):
        array = np.zeros(1000)
        loop: list[Any] = [array]
        loop.append(loop)
        pickler.ended(pickler.dumps(tasks_of(array)))
        del array, loop
    pickler.close()
    assert sink.blobs == {}
