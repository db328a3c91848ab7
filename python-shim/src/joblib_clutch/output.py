"""Prints at the driver what tasks printed on their workers."""

from __future__ import annotations

import codecs
import contextlib
import sys

from joblib_clutch._wire.clutch.v1 import executor_pb2 as wire


class OutputPrinter:
    """Decodes the workers' bytes and writes them to the driver's streams.

    The bytes of a stream are cut anywhere, so each worker and stream has its
    own incremental decoder.
    """

    def __init__(self) -> None:
        self._decoders: dict[tuple[int, int], codecs.IncrementalDecoder] = {}

    def write(self, output: wire.Output) -> None:
        """Print one piece.

        Parameters
        ----------
        output : Output
            What the agent forwarded.
        """
        key = (output.pid, output.stream)
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            self._decoders[key] = decoder
        text = decoder.decode(output.data)
        is_error = output.stream == wire.OUTPUT_STREAM_STDERR
        # Looked up each time: notebooks and test runners replace them.
        stream = sys.stderr if is_error else sys.stdout
        # A closed or broken terminal must not cost anyone their results.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.write(text)
            stream.flush()
