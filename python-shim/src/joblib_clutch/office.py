"""Where the endings and the output of all sessions of this process are seen to."""

from __future__ import annotations

import os
import threading
from typing import Any

from joblib_clutch import _native
from joblib_clutch.courier import start_courier
from joblib_clutch.output import OutputPrinter


class Office:
    """The threads that sessions share: however many agents, there are no more.

    Attributes
    ----------
    native : _native.Office
        Where things wait.
    printer : OutputPrinter
        Prints what tasks print.
    """

    def __init__(self) -> None:
        self.native = _native.Office()
        self.printer = OutputPrinter(self.native)
        start_courier(self.native)


class _Current:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.office: Office | None = None
        self.abandoned: list[Any] = []

    def get(self) -> Office:
        office = self.office
        if office is not None:
            return office
        with self.lock:
            if self.office is None:
                self.office = Office()
            return self.office

    def close(self) -> None:
        with self.lock:
            office, self.office = self.office, None
        if office is not None:
            office.native.close()

    def forget(self) -> None:
        # In a forked child its threads are not there, and its locks may be held.
        self.abandoned.append(self.office)
        self.office = None
        self.lock = threading.Lock()


_current = _Current()
os.register_at_fork(after_in_child=_current.forget)


def the_office() -> Office:
    """Give the office of this process, opened when it is first needed."""
    return _current.get()


def close_office() -> None:
    """Let the office's threads go, once what is there is seen to."""
    _current.close()
