"""The smaller parts, each by itself."""

from __future__ import annotations

import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from joblib_clutch import report as report_module
from joblib_clutch._wire.clutch.v1 import executor_pb2, outcome_pb2
from joblib_clutch.batch import Batch
from joblib_clutch.courier import Courier
from joblib_clutch.inbox import BrokenContractError, Inbox
from joblib_clutch.outbox import PART_BYTES, Outbox
from joblib_clutch.output import OutputPrinter
from joblib_clutch.profile import worker_profile
from joblib_clutch.report import Report, row_of
from joblib_clutch.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def batch(batch_id: int, payload: bytes, call_id: int = 1) -> Batch:
    nobody: Any = None
    return Batch(call_id, [len], payload, nobody, nobody, batch_id=batch_id)


def test_courier_survives_what_it_runs_and_restarts_after_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    courier = Courier("test")
    threads: list[threading.Thread] = []
    done = [threading.Event(), threading.Event()]

    def act(event: threading.Event) -> None:
        threads.append(threading.current_thread())
        event.set()

    with caplog.at_level(logging.CRITICAL):
        courier.post(lambda: 1 / 0)
        courier.post(lambda: act(done[0]))
        assert done[0].wait(10)
    courier.close()
    threads[0].join(10)
    assert not threads[0].is_alive()
    courier.post(lambda: act(done[1]))
    assert done[1].wait(10)
    assert threading.current_thread() not in threads


def test_outbox_coalesces_small_batches_and_splits_large_ones() -> None:
    outbox = Outbox(max_open_batches=10, max_open_bytes=1 << 30)
    for batch_id in (1, 2, 3):
        outbox.put_batch(batch(batch_id, b"x" * 10))
    outbox.put_batch(batch(4, b"y" * (2 * PART_BYTES + 5)))
    outbox.put_control(executor_pb2.ClientFrame(close_call={"call_id": 9}))
    stream = outbox.envelopes("s")
    assert next(stream).session_id == "s"
    bodies = [frame.WhichOneof("body") for frame in next(stream).frames]
    assert bodies == ["close_call", "submit_batch", "submit_batch", "submit_batch"]
    (head,) = next(stream).frames
    assert head.submit_batch.payload_bytes == 2 * PART_BYTES + 5
    parts = [next(stream).frames[0].payload_part.data for _ in range(2)]
    assert head.submit_batch.payload + b"".join(parts) == b"y" * (2 * PART_BYTES + 5)
    outbox.close()
    assert list(stream) == []


def test_outbox_withdraws_what_waits_for_room() -> None:
    outbox = Outbox(max_open_batches=1, max_open_bytes=1 << 30)
    for batch_id, call_id in ((1, 1), (2, 1), (3, 2)):
        outbox.put_batch(batch(batch_id, b"", call_id))
    stream = outbox.envelopes("s")
    next(stream)
    assert [f.submit_batch.batch_id for f in next(stream).frames] == [1]
    assert [b.batch_id for b in outbox.withdraw(1)] == [2]
    outbox.batch_ended(1)
    assert [f.submit_batch.batch_id for f in next(stream).frames] == [3]


def test_outbox_holds_back_what_is_over_the_sessions_bytes() -> None:
    outbox = Outbox(max_open_batches=10, max_open_bytes=15)
    for batch_id in (1, 2, 3):
        outbox.put_batch(batch(batch_id, b"x" * 10))
    stream = outbox.envelopes("s")
    next(stream)
    for batch_id in (1, 2, 3):
        assert [f.submit_batch.batch_id for f in next(stream).frames] == [batch_id]
        outbox.batch_ended(batch_id)


def test_outbox_sends_a_batch_that_is_alone_whatever_its_size() -> None:
    outbox = Outbox(max_open_batches=10, max_open_bytes=5)
    outbox.put_batch(batch(1, b"x" * 10))
    stream = outbox.envelopes("s")
    next(stream)
    assert [f.submit_batch.batch_id for f in next(stream).frames] == [1]


def test_inbox_refuses_what_the_contract_does_not_allow() -> None:
    whole = outcome_pb2.BatchEnded(batch_id=1, value={"payload": b"ab", "payload_bytes": 3})
    inbox = Inbox()
    assert inbox.begin(whole) is None
    with pytest.raises(BrokenContractError):
        inbox.begin(whole)
    with pytest.raises(BrokenContractError):
        inbox.resume(executor_pb2.PayloadPart(batch_id=2, data=b"c"))
    with pytest.raises(BrokenContractError):
        inbox.resume(executor_pb2.PayloadPart(batch_id=1, data=b"cd"))
    with pytest.raises(BrokenContractError):
        Inbox().begin(outcome_pb2.BatchEnded(batch_id=1))


def test_output_is_decoded_across_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    printer = OutputPrinter()
    stdout, stderr = executor_pb2.OUTPUT_STREAM_STDOUT, executor_pb2.OUTPUT_STREAM_STDERR
    data = "é\n".encode()
    for pid, stream, piece in [
        (1, stdout, data[:1]),
        (2, stdout, b"two\n"),
        (1, stdout, data[1:]),
        (1, stderr, b"\xff!\n"),
    ]:
        printer.write(executor_pb2.Output(pid=pid, stream=stream, data=piece))
    captured = capsys.readouterr()
    assert captured.out == "two\né\n"
    assert captured.err == "\ufffd!\n"


def test_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "MAX_ROWS", 2)
    report = Report()
    ended = outcome_pb2.BatchEnded(
        batch_id=1,
        worker_pid=5,
        timings={"queued_at": 1_000_000_000, "assigned_at": 3_000_000_000, "task_nanoseconds": [7]},
    )
    for _ in range(3):
        report.add(row_of(ended, tasks=1, host="h", outcome="OK"))
    assert len(report.rows) == 2
    assert report.rows[0].queued_seconds == pytest.approx(2)
    assert report.rows[0].pickled_seconds == 0
    assert report.summary()["batches"] == 3


def test_profile_describes_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    profile = worker_profile(Settings(initializer=seen.append, initargs=(4,)), None, 3)
    assert dict(profile.variables)["OMP_NUM_THREADS"] == "5"
    assert "MKL_NUM_THREADS" not in dict(profile.variables)
    setup = pickle.loads(profile.setup)
    assert setup["cwd"] == str(tmp_path) == setup["sys_path"][0]
    assert isinstance(setup["authkey"], bytes)
    setup["initializer"](*setup["initargs"])


seen: list[int] = []
