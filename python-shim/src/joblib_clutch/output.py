"""Prints at the driver what tasks printed on their workers."""

from __future__ import annotations

import codecs
import contextlib
import logging
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblib_clutch import _native

_logger = logging.getLogger("joblib_clutch")
# Workers of all agents whose last bytes may be half a character.
_MOST_DECODERS = 10_000


class OutputPrinter:
    """Decodes the workers' bytes and writes them to the driver's streams.

    Also logs what becomes of the connections to agents.

    The bytes of a stream are cut anywhere, so each worker and stream has its
    own incremental decoder, until it has printed nothing for long.

    Parameters
    ----------
    office : Office
        Where the output comes from.
    """

    def __init__(self, office: _native.Office) -> None:
        self._office = office
        self._decoders: dict[tuple[int, int, bool], codecs.IncrementalDecoder] = {}
        # Reentrant: a stream of the user's may run anything.
        self._lock = threading.RLock()
        threading.Thread(target=self._run, name="clutch-output", daemon=True).start()

    def flush(self) -> None:
        """Print what has arrived; returns when it is printed."""
        with self._lock:
            try:
                for session, pid, is_error, data in self._office.take_output():
                    self._write((session, pid, is_error), data, is_error=is_error)
            finally:
                self._office.output_printed()

    def _run(self) -> None:
        while self._office.wait_output():
            self._log_news()
            self.flush()

    def _log_news(self) -> None:
        for agent, why, seconds in self._office.take_news():
            if why is not None:
                _logger.warning(
                    "the connection to the agent at %s broke: %s; its tasks go on, and it is"
                    " tried again for %g s",
                    agent,
                    why,
                    seconds,
                )
            else:
                _logger.warning(
                    "the connection to the agent at %s is back after %.1f s; nothing was lost",
                    agent,
                    seconds,
                )

    def _write(self, source: tuple[int, int, bool], data: bytes, *, is_error: bool) -> None:
        decoder = self._decoders.pop(source, None)
        if decoder is None:
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            if len(self._decoders) >= _MOST_DECODERS:
                del self._decoders[next(iter(self._decoders))]
        self._decoders[source] = decoder
        text = decoder.decode(data)
        # Looked up each time: notebooks and test runners replace them.
        stream = sys.stderr if is_error else sys.stdout
        # A closed or broken terminal must not cost anyone their results.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.write(text)
            stream.flush()
