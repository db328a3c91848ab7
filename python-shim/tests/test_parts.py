"""The smaller parts, each by itself."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from joblib_clutch.output import OutputPrinter
from joblib_clutch.profile import worker_profile
from joblib_clutch.report import Report
from joblib_clutch.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_output_is_decoded_across_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    data = "é\n".encode()
    pieces = [
        (0, 1, False, data[:1]),
        (0, 2, False, b"two\n"),
        # A worker of another agent that has the same number.
        (1, 1, False, b"three\n"),
        (0, 1, False, data[1:]),
        (0, 1, True, b"\xff!\n"),
    ]
    OutputPrinter(Printed(pieces)).flush()  # type: ignore[arg-type]
    captured = capsys.readouterr()
    assert captured.out == "two\nthree\né\n"
    assert captured.err == "\ufffd!\n"


def test_report_adds_up_what_the_call_kept() -> None:
    row = (1, 2, 5, "h", 9.0, 0.5, 0.25, 0.0, (1.0, 2.0), 0.0, 0.1, 0.2)
    again = ("WORKER_KILLED", "MEMORY_PRESSURE")
    kept = [
        (*row, 7 << 20, "OK", 3, again, (("CPU_THROTTLED", 40),), "unix:/a", 0, False),
        (*row, 9 << 20, "TIME_LIMIT", 1, (), (), "unix:/a", 1, False),
    ]
    report = Report(Kept(kept))  # type: ignore[arg-type]
    assert [(r.outcome, r.host, r.queued_at_seconds) for r in report.rows] == [
        ("OK", "h", 9.0),
        ("TIME_LIMIT", "h", 9.0),
    ]
    summary = report.summary()
    assert (summary["batches"], summary["batches_failed"], summary["tasks"]) == (5, 1, 4)
    assert (summary["ran_seconds"], summary["peak_memory_bytes"]) == (6.0, 9 << 20)
    assert (summary["batches_retried"], summary["retries"]) == (1, 2)
    header, first, second, total, note = str(report).splitlines()
    assert header.split()[-2:] == ["attempts", "outcome"]
    assert first.endswith("  3  OK after WORKER_KILLED, MEMORY_PRESSURE")
    assert second.endswith("  1  TIME_LIMIT")
    assert "1 failed, 1 run again; ran 6.000 s" in total
    assert note == "CPU_THROTTLED: 40 ms in 1 batch"


def test_a_report_without_attempts_says_nothing_of_them() -> None:
    row = (1, 2, 5, "h", 9.0, 0.5, 0.25, 0.0, (1.0, 2.0), 0.0, 0.1, 0.2)
    row = (*row, 7 << 20, "OK", 1, (), (), "unix:/a", 0, False)
    assert "attempts" not in str(Report(Kept([row])))  # type: ignore[arg-type]
    assert "again" not in str(Report(Kept([row])))  # type: ignore[arg-type]


def test_a_report_of_several_agents_names_them_and_counts_copies_once() -> None:
    def row(host: str, agent: str, number: int, *, copy: bool) -> tuple[object, ...]:
        times = (9.0, 0.5, 0.25, 0.0, (1.0, 2.0), 0.0, 0.1, 0.2, 7 << 20, "OK", 1, (), ())
        return (1, 2, 5, host, *times, agent, number, copy)

    rows = [
        row("one", "unix:/a", 0, copy=False),
        row("two", "unix:/b", 1, copy=False),
        row("two", "unix:/b", 0, copy=True),
    ]
    report = Report(Kept(rows))  # type: ignore[arg-type]
    summary = report.summary()
    assert (summary["tasks"], summary["agents"], summary["copies"]) == (4, 2, 1)
    assert summary["workers"] == 2
    header, first, second, _, total = str(report).splitlines()
    assert header.split()[0] == "agent"
    assert (first.split()[0], second.split()[0]) == ("one", "two")
    assert "on 2 workers of 2 agents, 0 failed, 1 of them copies" in total
    # Two on one machine go by their addresses.
    rows[0] = row("two", "unix:/a", 0, copy=False)
    assert str(report).splitlines()[1].split()[0] == "unix:/a"


def test_a_report_of_a_call_that_never_began_is_empty() -> None:
    assert Report().rows == []
    assert Report().summary()["batches"] == 0


class Kept:
    """A call that kept these rows and dropped three."""

    def __init__(self, rows: list[tuple[object, ...]]) -> None:
        self._rows = rows

    def rows(self) -> tuple[list[tuple[object, ...]], int]:
        return self._rows, 3

    def remarks(self) -> tuple[list[tuple[str, int]], list[tuple[str, int, int]]]:
        notes = [note for row in self._rows for note in row[-4]]  # type: ignore[attr-defined]
        return [], [(kind, count, 1) for kind, count in notes]


class Printed:
    """An office with this output, and no more to come."""

    def __init__(self, pieces: list[tuple[int, int, bool, bytes]]) -> None:
        self._pieces = pieces

    def wait_output(self) -> bool:
        return False

    def take_output(self) -> list[tuple[int, int, bool, bytes]]:
        return self._pieces

    def output_printed(self) -> None:
        pass


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
