"""Arrays that are maps of files: by the file's name, or by their content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blob_reader import FakeSink, read

from joblib_clutch.blobs import Access
from joblib_clutch.payload import Payload, TaskPickler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = np.arange(2000, dtype="i4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"head" + CONTENT.tobytes())
    return path


def mapped(path: Path, mode: Any = "r", shape: Any = (40, 50), order: Any = "C") -> Any:
    return np.memmap(path, dtype="i4", mode=mode, offset=4, shape=shape, order=order)


def sent(sink: FakeSink, value: Any) -> tuple[Payload, Any]:
    payload = TaskPickler(sink, 1000).dumps([(len, (value,), {})])
    ((_, (got,), _),) = read(sink, payload)
    return payload, got


VIEWS: list[Callable[[Any], Any]] = [
    lambda m: m,
    lambda m: m[10:20],
    lambda m: m[3],
    lambda m: m.T,
    lambda m: m[::2, ::-3],
    lambda m: m[::-1],
    lambda m: np.asarray(m)[5:, 1:],
    lambda m: m.view("i2,i2"),
    lambda m: m.T[3:],
]


@pytest.mark.parametrize("how", ["replaced", "removed", "renamed"])
def test_a_map_goes_by_content_once_the_path_names_another_file(path: Path, how: str) -> None:
    sink = FakeSink()
    value = mapped(path)
    if how == "removed":
        path.unlink()
    else:
        if how == "renamed":
            path.rename(path.with_name("old"))
        other = path.with_name("other")
        other.write_bytes(b"tail" + bytes(CONTENT.nbytes))
        other.rename(path)
    _, got = sent(sink, value)
    assert sink.puts == 1
    assert (np.asarray(got) == CONTENT.reshape(40, 50)).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_map_goes_by_the_files_name(path: Path, view: Callable[[Any], Any], order: str) -> None:
    sink = FakeSink()
    value = view(mapped(path, order=order))
    payload, got = sent(sink, value)
    assert sink.puts == 0
    assert len(payload.data) < 600
    assert set(sink.asked) == {str(path)}
    assert got.dtype == value.dtype
    np.testing.assert_array_equal(got, value)
    assert not got.flags.writeable
    # It is the file, not a copy.
    with path.open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * CONTENT.nbytes)
    np.testing.assert_array_equal(got, np.array(-1, "i4").view(value.dtype))


@pytest.mark.parametrize(("mode", "reopened"), [("r", "r"), ("c", "c"), ("r+", "r+"), ("w+", "r+")])
def test_a_map_is_opened_as_the_driver_opened_it(path: Path, mode: str, reopened: str) -> None:
    value = mapped(path, mode)
    value_now = np.array(value)
    _, got = sent(FakeSink(), value)
    assert got.mode == reopened
    assert path.stat().st_size == CONTENT.nbytes + 4
    np.testing.assert_array_equal(got, value_now)
    if mode != "r":
        got[0, 0] = 77
        assert value[0, 0] == (77 if reopened == "r+" else value_now[0, 0])


@pytest.mark.parametrize("view", VIEWS)
def test_where_workers_do_not_see_the_file_its_content_goes(
    path: Path, view: Callable[[Any], Any]
) -> None:
    sink = FakeSink(sees=False)
    value = view(mapped(path))
    payload, got = sent(sink, value)
    assert bool(payload.buffers) == (value.nbytes > 1000)
    if value.nbytes > 1000:
        assert payload.buffers == [(1, Access.READ)]
        assert type(got) is np.memmap
    else:
        assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, value)


def test_a_file_that_is_gone_or_too_short_is_not_asked_for(path: Path) -> None:
    sink = FakeSink()
    value = mapped(path)
    path.rename(path.with_name("moved"))
    np.testing.assert_array_equal(sent(sink, value)[1], value)
    path.write_bytes(b"another")
    np.testing.assert_array_equal(sent(sink, value)[1], value)
    path.unlink()
    os.mkfifo(path)
    np.testing.assert_array_equal(sent(sink, value)[1], value)
    assert sink.asked == []


def test_an_empty_part_of_a_map_stays(path: Path) -> None:
    sink = FakeSink()
    value = mapped(path)[3:3]
    assert sent(sink, value)[1].shape == value.shape
    assert sink.asked == []


def test_a_map_without_a_name_goes_by_content(path: Path) -> None:
    sink = FakeSink()
    with path.open("rb") as file:
        with os.fdopen(os.dup(file.fileno()), "rb") as nameless:
            value = np.memmap(nameless, dtype="i4", mode="r", offset=4)
        assert value.filename is None
    np.testing.assert_array_equal(sent(sink, value)[1], CONTENT)
    assert sink.puts == 1


def test_a_map_inside_another_object_goes_by_the_files_name(path: Path) -> None:
    sink = FakeSink()
    value = mapped(path)
    _, got = sent(sink, {"x": [value, value[1:]]})
    assert sink.puts == 0
    np.testing.assert_array_equal(got["x"][1], value[1:])
