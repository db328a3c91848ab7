"""Large arguments and results through joblib, by shared memory and by the network."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
from joblib import Parallel, delayed
from support.agents import Agent

# What importing this module takes.
WARM = ("cloudpickle", "joblib", "numpy", "pandas", "pyarrow", "pytest", "scipy.sparse")
LENGTH = 1 << 19
NUMBERS = np.random.default_rng(0).permutation(LENGTH).astype(np.float64)
MATRIX = NUMBERS.reshape(512, 1024)
RECORDS = np.zeros(LENGTH // 2, dtype=[("id", "<i4"), ("place", "<f8", (2,)), ("name", "S4")])
RECORDS["id"] = np.arange(len(RECORDS))
RECORDS["name"] = b"abc"

ARRAYS = {
    "one dimension": NUMBERS,
    "C order": MATRIX,
    "Fortran order": np.asfortranarray(MATRIX),
    "a transposed view": MATRIX.reshape(64, 8, 1024).T,
    "axes in no order": np.moveaxis(MATRIX.reshape(64, 8, 1024), 0, 1),
    "every second column": MATRIX[:, ::2],
    "backwards": NUMBERS[::-1],
    "one row many times": np.broadcast_to(NUMBERS[:512], (1024, 512)),
    "a part of another": NUMBERS[100 : 100 + (LENGTH >> 1) + 8],
    "not to be written": np.frombuffer(NUMBERS.tobytes()),
    "records": RECORDS,
    "bits": NUMBERS.repeat(8) > LENGTH / 2,
    "complex numbers": NUMBERS + 1j,
    "foreign byte order": NUMBERS.astype(">f8"),
    "times": NUMBERS.astype("datetime64[s]"),
    "texts": np.array(["a", "öäü"] * (LENGTH // 4)),
    "raw bytes": np.frombuffer(NUMBERS.tobytes(), dtype="V16"),
}


@pytest.fixture(scope="module")
def big_agent():
    """Return an agent that only this module uses, so that its books are ours."""
    with Agent("--slots", "2", warm=WARM) as agent:
        yield agent


def digest(array):
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes()).hexdigest()


def look(array):
    """Say what a task sees of an array."""
    return {
        "type": type(array).__name__,
        "mode": getattr(array, "mode", None),
        "writeable": array.flags.writeable,
        "dtype": array.dtype,
        "shape": array.shape,
        "order": (array.flags.c_contiguous, array.flags.f_contiguous),
        "digest": digest(array),
    }


def identity(value):
    return value


def mapped_by_us(path):
    """Tell whether this process has the file mapped."""
    return str(path) in Path("/proc/self/maps").read_text()


# Arguments.


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_task_sees_the_array_and_no_copy(way, kind):
    array = ARRAYS[kind]
    assert array.nbytes > 1 << 20
    for seen in way.parallel()(delayed(look)(array) for _ in range(3)):
        order = array.flags.c_contiguous, array.flags.f_contiguous
        assert (seen["type"], seen["mode"], seen["writeable"]) == ("memmap", "r", False)
        assert (seen["dtype"], seen["shape"]) == (array.dtype, array.shape)
        assert seen["digest"] == digest(array)
        # What has holes, or goes backwards, is sent without and in C order.
        assert seen["order"] == (order if True in order else (True, array.ndim == 1))


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_comes_back_to_be_written(way, kind):
    array = ARRAYS[kind]
    for back in way.parallel()(delayed(identity)(array) for _ in range(2)):
        assert type(back) is np.ndarray
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert digest(back) == digest(array)
        back[...] = back[..., :1]


def test_an_array_of_objects_is_pickled(way):
    array = np.array([{"number": i} for i in range(100_000)])
    (seen,) = way.parallel()([delayed(type)(array)])
    assert seen is np.ndarray
    (back,) = way.parallel()([delayed(identity)(array)])
    assert list(back) == list(array)


@pytest.mark.parametrize(
    ("mode", "kind", "writeable"),
    [
        ("r", "memmap", False),
        ("c", "memmap", True),
        ("r+", "memmap", True),
        ("w+", "memmap", True),
        (None, "ndarray", True),
    ],
)
def test_the_mode_says_what_a_task_may_do(way, mode, kind, writeable):
    (seen,) = way.parallel(mmap_mode=mode)([delayed(look)(NUMBERS)])
    assert (seen["type"], seen["writeable"]) == (kind, writeable)
    assert seen["digest"] == digest(NUMBERS)


def count_up(array):
    """Add one to the first element; return what it is then."""
    array[0] += 1
    return float(array[0])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("c", [1, 1, 1, 1]), (None, [1, 1, 1, 1]), ("r+", [1, 2, 3, 4])],
)
def test_only_a_common_array_shows_what_others_write(way, mode, expected):
    array = np.zeros(LENGTH)
    # One after the other, in two workers.
    run = way.parallel(mmap_mode=mode, pre_dispatch=1)
    assert run(delayed(count_up)(array) for _ in range(4)) == expected
    assert array[0] == 0, "the driver's own is its own"


def test_without_a_limit_every_array_is_the_tasks_own(way):
    (seen,) = way.parallel(max_nbytes=None)([delayed(look)(NUMBERS)])
    assert (seen["type"], seen["writeable"]) == ("ndarray", True)
    assert seen["digest"] == digest(NUMBERS)


def test_the_limit_is_the_users(way):
    array = np.arange(100.0)
    for limit, kind in ((array.nbytes - 1, "memmap"), (array.nbytes, "ndarray"), ("1K", "ndarray")):
        (seen,) = way.parallel(max_nbytes=limit)([delayed(look)(array)])
        assert seen["type"] == kind, limit


@pytest.mark.parametrize("change", [1, 5, LENGTH - 1])
def test_a_new_call_sees_what_was_written_since(way, change):
    array = NUMBERS.copy()
    with way.parallel() as run:
        for _ in range(3):
            array[change] += 1
            seen = run(delayed(look)(array) for _ in range(3))
            assert {facts["digest"] for facts in seen} == {digest(array)}


def test_a_buffer_that_is_filled_again_and_again_is_seen_as_it_was(way):
    buffer = np.empty((4, LENGTH))

    def chunks():
        for number in range(12):
            # Tasks of the same part of the buffer are not open at the same time.
            buffer[number % 4] = number
            yield buffer[number % 4].copy()

    run = way.parallel(pre_dispatch=2)
    assert run(delayed(np.max)(chunk) for chunk in chunks()) == list(range(12))


# Maps of files.


@pytest.fixture
def file(tmp_path):
    """Return the path of a file with the numbers, behind 4 KiB of something else."""
    path = tmp_path / "numbers"
    path.write_bytes(b"x" * 4096 + NUMBERS.tobytes())
    return path


def opened(path, mode="r"):
    return np.memmap(path, dtype=np.float64, mode=mode, offset=4096, shape=MATRIX.shape)


def look_and_find(array, path):
    return {**look(array), "found": mapped_by_us(path)}


@pytest.mark.parametrize(
    "part", [np.s_[:], np.s_[3:400], np.s_[:, ::3], np.s_[::-1], np.s_[5, 5:6]], ids=str
)
def test_a_map_of_a_file_is_passed_by_its_file_where_workers_see_it(way, file, part):
    array = opened(file)[part]
    (seen,) = way.parallel()([delayed(look_and_find)(array, file)])
    assert seen["found"] == way.shares_memory
    assert (seen["shape"], seen["dtype"]) == (array.shape, array.dtype)
    assert seen["digest"] == digest(array)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_a_map_of_a_file_keeps_its_mode(big_agent, file, mode):
    run = Parallel(2, backend="clutch", agents=big_agent.address, batch_size=1)
    array = opened(file, mode)
    (seen,) = run([delayed(look_and_find)(array, file)])
    assert (seen["found"], seen["writeable"]) == (True, mode != "r")
    if mode == "r":
        return
    first = array[0, 0]
    run([delayed(count_up)(array.reshape(-1))])
    assert opened(file)[0, 0] == first + (mode == "r+")


def test_a_new_file_is_not_emptied_by_the_workers_that_open_it(big_agent, tmp_path):
    array = np.memmap(tmp_path / "new", dtype=np.float64, mode="w+", shape=NUMBERS.shape)
    array[:] = NUMBERS
    run = Parallel(2, backend="clutch", agents=big_agent.address, batch_size=1)
    assert run(delayed(count_up)(array) for _ in range(2))[-1] > NUMBERS[0]
    assert array[0] == NUMBERS[0] + 2


def test_a_file_that_was_replaced_since_is_passed_by_content(way, file):
    array = opened(file)
    expected = digest(array)
    file.unlink()
    file.write_bytes(bytes(4096 + NUMBERS.nbytes))
    (seen,) = way.parallel()([delayed(look)(array)])
    assert seen["digest"] == expected


# Things with arrays in them.


def frame():
    return pd.DataFrame(
        {
            "number": NUMBERS,
            "half": NUMBERS / 2,
            "name": pd.Series(["a", "b"] * (LENGTH // 2), dtype=object),
            "kind": pd.Categorical(["x", "y"] * (LENGTH // 2)),
            "time": NUMBERS.astype("datetime64[s]"),
        }
    )


def test_a_data_frame_arrives_and_returns(way):
    sent = frame()
    sums = way.parallel()(delayed(lambda frame: frame.half.sum())(sent) for _ in range(4))
    assert sums == [NUMBERS.sum() / 2] * 4
    (back,) = way.parallel()([delayed(identity)(sent)])
    pd.testing.assert_frame_equal(back, sent)
    back.loc[0, "number"] = -1


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_matrix"])
def test_a_sparse_matrix_arrives_and_returns(way, kind):
    sent = getattr(scipy.sparse, kind)(MATRIX)
    (back, again) = way.parallel()(delayed(identity)(sent) for _ in range(2))
    for matrix in (back, again):
        assert type(matrix) is type(sent)
        assert (matrix != sent).nnz == 0
        matrix.data[0] = 7


def test_arrow_arrives_and_returns(way):
    sent = pa.table({"number": NUMBERS, "text": ["a", None] * (LENGTH // 2)})
    (back, again) = way.parallel()(delayed(identity)(sent) for _ in range(2))
    assert back.equals(sent)
    assert again.equals(sent)


def test_arrays_anywhere_in_an_argument_are_mapped(way):
    def kinds(tree):
        return type(tree["a"]).__name__, type(tree["b"][0][1]).__name__, float(tree["a"].sum())

    tree = {"a": NUMBERS, "b": [("x", MATRIX)]}
    seen = way.parallel()(delayed(kinds)(tree) for _ in range(3))
    assert seen == [("memmap", "memmap", NUMBERS.sum())] * 3


def test_what_is_large_and_no_array_arrives(way):
    text, data, numbers = "ö" * LENGTH, bytes(LENGTH) + b"end", {i: str(i) for i in range(LENGTH)}

    def lengths(text, data, numbers, extra):
        numbers[-1] = "each task has its own"
        return len(text), data[-3:], len(numbers), extra

    work = (delayed(lengths)(text, data, numbers, extra=i) for i in range(4))
    assert way.parallel()(work) == [(LENGTH, b"end", LENGTH + 1, i) for i in range(4)]


def test_a_closure_takes_its_array_along(way):
    array = NUMBERS.copy()
    assert way.parallel()(delayed(lambda i: array[i])(i) for i in range(8)) == list(array[:8])


class Model:
    """Has an array and a method, as estimators do."""

    def __init__(self):
        self.weights = NUMBERS.copy()
        self.calls = 0

    def predict(self, number):
        self.calls += 1
        return self.calls, float(self.weights[number])


def test_a_method_takes_its_large_object_along(way):
    model = Model()
    results = way.parallel()(delayed(model.predict)(i) for i in range(6))
    assert results == [(1, model.weights[i]) for i in range(6)]


def test_a_loky_call_inside_a_task_opens_the_array_by_its_name(way):
    def inner(array):
        parts = Parallel(2, backend="loky", max_nbytes=0)(
            delayed(np.sum)(part) for part in (array, array[: len(array) // 2])
        )
        # Only what loky did not need to write anew is worth anything.
        return type(array).__name__, [float(part) for part in parts]

    (seen,) = way.parallel()([delayed(inner)(NUMBERS)])
    assert seen == ("memmap", [NUMBERS.sum(), NUMBERS[: LENGTH // 2].sum()])


# Results.


def test_large_results_are_the_drivers_own(way):
    results = way.parallel()(delayed(np.full)((4, LENGTH), i, dtype=float) for i in range(6))
    for number, array in enumerate(results):
        assert (array == number).all()
        np.add(array, 1, out=array)
    for number, array in enumerate(results):
        assert (array == number + 1).all()


def test_a_generator_lets_go_of_results_that_were_taken(way):
    run = way.parallel(return_as="generator")
    for number, array in enumerate(run(delayed(np.full)(LENGTH, i) for i in range(20))):
        assert array[-1] == number
        assert way.used_blobs() <= 8


def test_threads_of_the_driver_send_and_get_large_things_at_once(way):
    sums = []

    def call(number):
        array = np.full(LENGTH, number)
        results = way.parallel()(delayed(identity)(array) for _ in range(4))
        sums.extend(int(result.sum()) for result in results)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sums) == sorted([number * LENGTH for number in range(4)] * 4)
