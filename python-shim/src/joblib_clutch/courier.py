"""Threads that handle the endings of batches which nobody awaits."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblib_clutch import _native

_logger = logging.getLogger("joblib_clutch")


def start_courier(office: _native.Office) -> None:
    """Start a thread that runs errands until the office is closed.

    joblib's callbacks take joblib's lock and consume the user's iterators, so
    the thread that reads from the network must not run them. There is always
    one thread more than there are calls whose callbacks take long.

    Parameters
    ----------
    office : Office
        Where endings wait.
    """
    threading.Thread(
        target=_run_errands, args=(office,), name="clutch-callbacks", daemon=True
    ).start()


def _run_errands(office: _native.Office) -> None:
    while (errand := office.next_errand()) is not None:
        call, endings, last_one = errand
        if last_one:
            start_courier(office)
        try:
            endings[0][0].call.handle(endings)
        except BaseException:
            _logger.exception("a joblib callback failed")
        finally:
            call.handled()
        # An idle thread must not keep the last results alive.
        del errand, call, endings
