"""Arrow's tables, whose buffers are wrapped anew each time that they are pickled."""

from __future__ import annotations

import pandas as pd
import pyarrow
import pytest
from blob_reader import FakeSink, read

from joblib_clutch.payload import TaskPickler

ROWS = 100_000


@pytest.fixture
def table() -> pyarrow.Table:
    return pyarrow.table({"number": range(ROWS), "text": [str(i) for i in range(ROWS)]})


def test_a_table_is_sent_once_for_many_tasks(table: pyarrow.Table) -> None:
    sink = FakeSink()
    pickler = TaskPickler(sink, 100_000)
    payloads = [pickler.dumps([(len, (table,), {})] * 2) for _ in range(5)]
    assert len({tuple(uses) for payload in payloads for _, uses in payload.shared}) == 1
    ((pickle_id, uses),) = payloads[0].shared
    assert sink.puts == 1 + len(uses)
    assert len(sink.blobs[pickle_id]) < 10_000
    for payload in payloads:
        for _, (got,), _ in read(sink, payload):
            assert got.equals(table)
        pickler.ended(payload)
    pickler.close()
    assert sink.blobs == {}


def test_a_frame_with_columns_of_arrow_is_sent_once(table: pyarrow.Table) -> None:
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    sink = FakeSink()
    pickler = TaskPickler(sink, 100_000)
    payloads = [pickler.dumps([(len, (frame, i), {})]) for i in range(5)]
    puts = sink.puts
    pd.testing.assert_frame_equal(read(sink, payloads[-1])[0][1][0], frame)
    pickler.dumps([(len, (frame,), {})])
    assert sink.puts == puts
    assert all(len(payload.data) < 1000 for payload in payloads)
