"""Calls of many sorts, each with what must come of it."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import delayed

if TYPE_CHECKING:
    from collections.abc import Callable

# How often a batch may be run again: kills come more often than anywhere else.
RETRIES = 20


def _ran(folder: str, number: int) -> None:
    """Leave a file for this run of a task."""
    (Path(folder) / f"{number}.{uuid.uuid4().hex}").touch()


def compute(folder: str, number: int, seconds: float) -> int:
    """Take a while, and return what is easy to check."""
    _ran(folder, number)
    time.sleep(seconds)
    return number * number


def bytes_of(folder: str, number: int, size: int) -> bytes:
    """Return so many bytes, which the number decides."""
    _ran(folder, number)
    return random.Random(number).randbytes(size)


def part_of(folder: str, number: int, array: Any) -> Any:
    """Return an array made of a large one."""
    _ran(folder, number)
    return array[number::7] * number


@dataclass
class Job:
    """One call.

    Parameters
    ----------
    kind : str
        What sort of call it is, for messages.
    tasks : list
        What joblib is given.
    options : dict
        Options of ``Parallel``.
    expected : list
        The results, in the order of the tasks.
    """

    kind: str
    tasks: list[Any]
    options: dict[str, Any]
    expected: list[Any]

    def check(self, results: list[Any]) -> None:
        """Check that the results are those expected, each once."""
        expected = self.expected
        if self.options.get("return_as") == "generator_unordered":
            results, expected = sorted(results), sorted(expected)
        if len(results) != len(expected):
            raise AssertionError(f"{len(results)} results instead of {len(expected)}")
        for number, (got, right) in enumerate(zip(results, expected, strict=True)):
            if not np.array_equal(got, right):
                raise AssertionError(f"the result of task {number} is wrong: {got!r:.200}")


@dataclass
class Mill:
    """Makes jobs, which its dice decide.

    Parameters
    ----------
    dice : random.Random
        Decides.
    most : int
        Most tasks of one job.
    """

    dice: random.Random
    most: int = 200
    _array: Any = field(default_factory=lambda: np.arange(1 << 19, dtype=np.float64))

    def job(self, folder: Path, count: int) -> Job:
        """Make the next job, of so many tasks at most; each notes its runs in the folder."""
        makes: list[Callable[[str, int], Job]] = [
            self._small,
            self._generator,
            self._unordered,
            self._sized,
            self._arrays,
        ]
        job = self.dice.choice(makes)(str(folder), min(count, self.dice.randint(20, self.most)))
        job.options["retries"] = 0 if self.dice.random() < 0.1 else RETRIES
        return job

    def _small(self, folder: str, count: int, **options: Any) -> Job:
        # Some longer ones, so that kills find somebody at work.
        seconds = [self.dice.choice([0, 0, 0, 0.002, 0.002, 0.02, 0.02, 0.1]) for _ in range(count)]
        work = [delayed(compute)(folder, i, seconds[i]) for i in range(count)]
        options = {"batch_size": self.dice.choice(["auto", 1, 4]), **options}
        return Job(options.get("return_as", "list"), work, options, [i * i for i in range(count)])

    def _generator(self, folder: str, count: int) -> Job:
        return self._small(folder, count, return_as="generator")

    def _unordered(self, folder: str, count: int) -> Job:
        return self._small(folder, count, return_as="generator_unordered")

    def _sized(self, folder: str, count: int) -> Job:
        sizes = [self.dice.choice([0, 1, 1000, 70_000, 2_000_000]) for _ in range(count // 4 + 1)]
        work = [delayed(bytes_of)(folder, i, size) for i, size in enumerate(sizes)]
        expected = [random.Random(i).randbytes(size) for i, size in enumerate(sizes)]
        return Job("bytes", work, {"batch_size": 1}, expected)

    def _arrays(self, folder: str, count: int) -> Job:
        self._array = self._array + 1
        numbers = range(1, count // 4 + 2)
        work = [delayed(part_of)(folder, i, self._array) for i in numbers]
        return Job("arrays", work, {}, [self._array[i::7] * i for i in numbers])
