"""Backends of joblib that are no products: joblib's own cost, and the plainest pool."""

from __future__ import annotations

import functools
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import cloudpickle
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase
from model import N_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable


class FloorBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs each batch in the driver at once, and calls back: what joblib itself costs."""

    supports_retrieve_callback = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # A callback submits the next batch: it must find the stack no deeper.
        self._waiting: deque[tuple[Callable[[], Any], Any, Future[Any]]] = deque()
        self._runs = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Say that the workers are there."""
        return n_jobs or N_JOBS

    def submit(self, func: Callable[[], Any], callback: Any) -> Future[Any]:
        """Run a batch."""
        future: Future[Any] = Future()
        self._waiting.append((func, callback, future))
        if not self._runs:
            self._runs = True
            while self._waiting:
                func, callback, done = self._waiting.popleft()
                done.set_result(func())
                callback(done)
            self._runs = False
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Give joblib the results."""
        return out.result()

    def retrieve_result(self, out: Future[Any], timeout: float | None = None) -> Any:
        """Give joblib the results, when it waits for them."""
        return out.result(timeout)


class BlockingFloorBackend(FloorBackend):
    """The same, for calls whose results joblib waits for."""

    supports_retrieve_callback = False


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers)


def _run(pickled: bytes) -> Any:
    return cloudpickle.loads(pickled)()


class FuturesBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs batches in a pool of ``concurrent.futures`` that lives as long as the driver."""

    supports_retrieve_callback = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Tell how many workers there are."""
        return n_jobs or N_JOBS

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Get the pool."""
        workers: int = super().configure(n_jobs, parallel, **options)
        self._executor = _pool(workers)
        return workers

    def submit(self, func: Callable[[], Any], callback: Any) -> Future[Any]:
        """Run a batch; its functions may be closures, which plain pickle refuses."""
        future = self._executor.submit(_run, cloudpickle.dumps(func))
        future.add_done_callback(callback)
        return future

    def retrieve_result(self, out: Future[Any], timeout: float | None = None) -> Any:
        """Wait for the results."""
        return out.result(timeout)
