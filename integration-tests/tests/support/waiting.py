"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.01


def until(
    read: Callable[[], T],
    accept: Callable[[T], object] = bool,
    *,
    seconds: float = 10,
    what: str = "",
) -> T:
    """Return the first value that is accepted; fail with the last one seen."""
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if accept(value):
            return value
        if time.monotonic() > deadline:
            what = what or getattr(read, "__name__", repr(read))
            raise AssertionError(f"not within {seconds} s: {what}; last seen: {value!r}")
        time.sleep(_POLL_SECONDS)


class Stopwatch:
    """Measures a ``with`` block; ``seconds`` counts on until its end."""

    def __enter__(self) -> "Stopwatch":
        self._begin = time.monotonic()
        self._end: float | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._end = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, or of the whole block once it has ended."""
        return (self._end or time.monotonic()) - self._begin
