"""Large objects that are pickled once and unpickled for each task."""

from __future__ import annotations

import collections
import functools
import threading
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest
from blob_reader import FakeSink, read

from joblib_clutch.cutter import SHARED_MIN_BYTES
from joblib_clutch.exceptions import ArgumentPickleError, QuotaExceededError
from joblib_clutch.payload import TaskPickler

BIG = SHARED_MIN_BYTES + 1
pickled: collections.Counter[int] = collections.Counter()


class Model:
    """Counts how often it is pickled."""

    def __init__(self, size: int, number: int = 0) -> None:
        self.number = number
        self.text = "x" * size
        self.extra: Any = None

    def __reduce__(self) -> Any:
        pickled[self.number] += 1
        return _model, (self.text, self.number, self.extra)

    def predict(self, value: object) -> object:
        return (self.number, value)


def _model(text: str, number: int, extra: Any) -> Model:
    model = Model(0, number)
    model.text = text
    model.extra = extra
    return model


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    pickled.clear()


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def pickler(sink: FakeSink) -> TaskPickler:
    return TaskPickler(sink, 1 << 20)


def test_a_large_object_is_pickled_once_however_many_tasks_use_it(
    sink: FakeSink, pickler: TaskPickler
) -> None:
    model = Model(BIG, 7)
    payloads = [pickler.dumps([(len, (model, i), {"again": model})] * 3) for i in range(20)]
    assert pickled == {7: 1}
    assert sink.puts == 1
    assert all(len(payload.data) < 500 for payload in payloads)
    for payload in payloads:
        pickler.ended(payload)
    assert len(sink.blobs) == 1
    pickler.close()
    assert sink.blobs == {}


def test_it_is_one_object_in_a_task_and_another_in_the_next(
    sink: FakeSink, pickler: TaskPickler
) -> None:
    model = Model(BIG)
    first, second = read(sink, pickler.dumps([(len, (model, model), {"a": model})] * 2))
    assert first[1][0] is first[1][1] is first[2]["a"]
    assert first[1][0] is not second[1][0]
    assert second[1][0].text == model.text


def test_the_object_of_a_method_is_shared(sink: FakeSink, pickler: TaskPickler) -> None:
    model = Model(BIG, 3)
    for _ in range(3):
        payload = pickler.dumps([(model.predict, (5, model), {})])
        ((function, args, _),) = read(sink, payload)
        assert function(5) == (3, 5)
        assert function.__self__ is args[1]
    assert pickled == {3: 1}


def test_the_object_of_a_small_methods_object_is_not(sink: FakeSink, pickler: TaskPickler) -> None:
    ((function, _, _),) = read(sink, pickler.dumps([(Model(1, 4).predict, (), {})]))
    assert function(6) == (4, 6)
    assert sink.puts == 0


@pytest.mark.parametrize(
    "value",
    [
        b"b" * BIG,
        "s" * BIG,
        bytearray(BIG),
        list(range(BIG // 2)),
        tuple(range(BIG // 2)),
        {i: str(i) for i in range(BIG // 4)},
        set(range(BIG // 2)),
        pd.DataFrame({"a": ["text" * 10] * 100 + [str(i) for i in range(BIG // 4)]}),
        functools.partial(max, "z" * BIG),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_values_of_all_kinds_are_shared(
    sink: FakeSink, pickler: TaskPickler, value: Any
) -> None:
    payloads = [pickler.dumps([(len, (value,), {}), (len, (), {"v": value})]) for _ in range(3)]
    assert sink.puts == 1
    for payload in payloads:
        assert len(payload.shared) == 1
        first, second = read(sink, payload)
        for got in (first[1][0], second[2]["v"]):
            assert type(got) is type(value)
            if isinstance(value, pd.DataFrame):
                pd.testing.assert_frame_equal(got, value)
            elif isinstance(value, functools.partial):
                assert (got.func, got.args) == (value.func, value.args)
            else:
                assert got == value
        pickler.ended(payload)
    pickler.close()
    assert sink.blobs == {}


def test_a_closure_that_goes_by_value_is_shared(sink: FakeSink, pickler: TaskPickler) -> None:
    text = "x" * BIG
    array = np.zeros(1 << 20)
    function = lambda i: (len(text), len(array), i)
    payloads = [pickler.dumps([(function, (i,), {})]) for i in range(3)]
    assert sink.puts == 2
    for i, payload in enumerate(payloads):
        assert len(payload.data) < 500
        ((rebuilt, args, _),) = read(sink, payload)
        assert rebuilt(*args) == (BIG, 1 << 20, i)


def test_arrays_in_a_shared_object_are_its_own_buffers(
    sink: FakeSink, pickler: TaskPickler
) -> None:
    model = Model(BIG)
    array = np.arange(1.0 + (1 << 20))
    model.extra = {"a": array, "b": np.asfortranarray(np.ones((1024, 1024))), "c": array}
    payload = pickler.dumps([(len, (model, array), {})])
    assert sink.puts == 3
    ((_, (got, outside), _),) = read(sink, payload)
    np.testing.assert_array_equal(got.extra["a"], array)
    np.testing.assert_array_equal(outside, array)
    assert got.extra["a"] is got.extra["c"]
    assert got.extra["b"].flags.f_contiguous
    assert [len(uses) for _, uses in payload.shared] == [2]
    pickler.ended(payload)
    del array
    model.extra = None
    # The arrays are dead, but the shared object, which lives, needs them.
    again = pickler.dumps([(len, (model,), {})])
    ((_, (got,), _),) = read(sink, again)
    assert got.extra["a"][5] == 5
    pickler.ended(again)
    del model
    pickler.ended(pickler.dumps([(len, ([],), {})]))
    assert sink.blobs == {}


def test_small_objects_are_tried_once_for_each_type(sink: FakeSink, pickler: TaskPickler) -> None:
    for number in range(10):
        pickler.dumps([(len, (Model(10, number),), {})])
    assert pickled == {0: 2} | dict.fromkeys(range(1, 10), 1)
    assert sink.puts == 0


def test_a_large_object_behind_a_small_one_of_its_type_is_found(
    sink: FakeSink, pickler: TaskPickler
) -> None:
    small, large = Model(10, 1), Model(BIG, 2)
    payloads = [pickler.dumps([(len, (small,), {}), (len, (large,), {})]) for _ in range(5)]
    assert all(len(payload.data) < 1000 for payload in payloads)
    # Once within the batch, before it was found to be large.
    assert pickled[2] == 2
    assert sink.puts == 1


def test_batches_that_are_large_for_another_reason_are_not_tried_for_ever(
    pickler: TaskPickler,
) -> None:
    models = [Model(BIG // 10, number) for number in range(20)]
    for _ in range(10):
        pickler.dumps([(len, tuple(models), {})])
    assert pickled[5] <= 12


def test_a_list_that_grows_is_pickled_again(sink: FakeSink, pickler: TaskPickler) -> None:
    values: list[Any] = [str(i) for i in range(BIG // 4)]
    buffer = bytearray(BIG)
    sizes = []
    for number in range(3):
        values.append(number)
        buffer[0] = number
        ((_, (got, got_buffer), _),) = read(sink, pickler.dumps([(len, (values, buffer), {})]))
        sizes.append((got[-1], got_buffer[0]))
    assert sizes == [(0, 0), (1, 1), (2, 2)]


def test_what_cannot_be_watched_is_held_only_while_batches_use_it(
    sink: FakeSink, pickler: TaskPickler
) -> None:
    class Witness:
        pass

    held: Any = {"text": "x" * BIG, "array": np.zeros(1)}
    watched = weakref.ref(held["array"])
    payload = pickler.dumps([(len, (held,), {})])
    del held
    assert watched() is not None
    pickler.ended(payload)
    assert watched() is None
    assert sink.blobs == {}


def test_an_id_used_again_does_not_bring_the_old_object(
    sink: FakeSink, pickler: TaskPickler
) -> None:
    ids = set()
    payloads = []
    for number in range(50):
        model = Model(BIG, number)
        ids.add(id(model))
        payloads.append(pickler.dumps([(len, (model,), {})]))
        del model
        assert read(sink, payloads[-1])[0][1][0].number == number
    assert len(ids) < 50
    for payload in payloads:
        pickler.ended(payload)
    assert sink.blobs == {}


def test_objects_of_main_are_shared_by_cloudpickle(sink: FakeSink, pickler: TaskPickler) -> None:
    kind = type("Local", (), {"__module__": "__main__"})
    value = kind()
    value.text = "x" * BIG
    value.array = np.zeros(1 << 20)
    function = lambda: 5
    function.__module__ = "__main__"
    payload = pickler.dumps([(function, (value,), {})])
    assert sink.puts == 2  # the array was not put for plain pickle, and again
    ((rebuilt, (got,), _),) = read(sink, payload)
    assert rebuilt() == 5
    assert (got.text, got.array.shape) == (value.text, value.array.shape)
    pickler.ended(payload)
    del value, got
    pickler.close()
    assert sink.blobs == {}


@pytest.mark.parametrize("value", [threading.Lock(), [0, threading.Lock()]])
def test_what_does_not_pickle_is_named_and_leaves_nothing(
    sink: FakeSink, pickler: TaskPickler, value: Any
) -> None:
    with pytest.raises(ArgumentPickleError, match=r"args\[2\]") as caught:
        pickler.dumps([(len, (np.zeros(1 << 20), "x" * BIG, value), {})])
    assert caught.value.type_name == "_thread.lock"
    assert sink.blobs == {}


def test_a_put_that_fails_is_told_as_it_is(sink: FakeSink, pickler: TaskPickler) -> None:
    sink.failure = QuotaExceededError("no room", kind="QUOTA_EXCEEDED")
    with pytest.raises(QuotaExceededError, match="no room"):
        pickler.dumps([(len, ("x" * BIG,), {})])


def test_threads_pickle_an_object_once(sink: FakeSink, pickler: TaskPickler) -> None:
    model = Model(BIG, 9)
    barrier = threading.Barrier(6)

    def run() -> None:
        barrier.wait(30)
        for _ in range(20):
            pickler.ended(pickler.dumps([(len, (model, [1]), {})]))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pickled == {9: 1}
    assert sink.puts == 1


def test_without_a_sink_everything_stays() -> None:
    sink = FakeSink()
    payload = TaskPickler().dumps([(len, ("x" * BIG, np.zeros(1 << 20), Model(BIG)), {})])
    assert not payload.buffers
    assert not payload.shared
    ((_, (text, array, _), _),) = read(sink, payload)
    assert (len(text), len(array)) == (BIG, 1 << 20)
