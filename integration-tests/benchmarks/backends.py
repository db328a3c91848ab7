"""The backends: how each is set up in a driver, as its own documentation says."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import secrets
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import joblib
from model import N_JOBS, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Context = contextlib.AbstractContextManager[None]


@dataclass(frozen=True)
class Backend:
    """A backend.

    Attributes
    ----------
    name : str
        What it is called here.
    use : callable
        Given the address of a running service or None, returns a context in
        which joblib's calls run on the backend.
    modules : tuple of str
        What a driver imports for it, beside joblib.
    pace : Pace
        How much work it can be given.
    is_reference : bool
        Whether it is a yardstick, and no peer.
    has_service : bool
        Whether it can run before its drivers do.
    environment : tuple of pairs
        Variables of its drivers and its service.
    """

    name: str
    use: Callable[[str | None], Context]
    modules: tuple[str, ...] = ()
    pace: Pace = Pace.FAST
    is_reference: bool = False
    has_service: bool = False
    environment: tuple[tuple[str, str], ...] = ()

    def missing(self) -> list[str]:
        """Return the packages that this environment lacks."""
        packages = {module.partition(".")[0] for module in self.modules}
        return sorted(name for name in packages if importlib.util.find_spec(name) is None)

    def load(self) -> None:
        """Import what a driver imports."""
        for module in self.modules:
            importlib.import_module(module)


def _by_name(name: str) -> Callable[[str | None], Context]:
    def use(_: str | None) -> Context:
        return joblib.parallel_config(backend=name, n_jobs=N_JOBS)

    return use


def _in_process(name: str) -> Callable[[str | None], Context]:
    """Return how to use a class of `in_process`."""

    @contextlib.contextmanager
    def use(_: str | None) -> Iterator[None]:
        import in_process

        joblib.register_parallel_backend(name, getattr(in_process, name))
        with joblib.parallel_config(backend=name, n_jobs=N_JOBS):
            yield

    return use


def _serial(_: str | None) -> Context:
    # Tasks say how many workers they want; this one has only itself.
    return joblib.parallel_config(backend="sequential", n_jobs=1)


def _clutch(address: str | None) -> Context:
    options = {"agents": address} if address else {}
    return joblib.parallel_config(backend="clutch", n_jobs=N_JOBS, **options)


@contextlib.contextmanager
def _dask(address: str | None) -> Iterator[None]:
    with dask_client(address), joblib.parallel_config(backend="dask", n_jobs=N_JOBS):
        yield


@contextlib.contextmanager
def dask_client(address: str | None) -> Iterator[str]:
    """Connect to a cluster, or start one; give its address."""
    from distributed import Client, LocalCluster

    if address:
        with Client(address, set_as_default=True):
            yield address
        return
    with (
        LocalCluster(
            n_workers=N_JOBS, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=True),
    ):
        yield cluster.scheduler_address


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[None]:
    from ray.util.joblib import register_ray

    register_ray()
    with ray_cluster(address), joblib.parallel_config(backend="ray", n_jobs=N_JOBS):
        yield


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[str]:
    """Connect to a cluster, or start one; give its address."""
    import ray

    # "local" is a new cluster, also where another one runs on this machine.
    options = {} if address else {"num_cpus": N_JOBS, "include_dashboard": False}
    ray.init(address or "local", logging_level="ERROR", log_to_driver=False, **options)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _spark(_: str | None) -> Iterator[None]:
    from joblibspark import register_spark
    from pyspark.sql import SparkSession

    settings = SparkSession.builder.master(f"local[{N_JOBS}]")
    settings = settings.config("spark.driver.memory", "8g").config("spark.ui.enabled", "false")
    session = settings.getOrCreate()
    register_spark()
    try:
        with joblib.parallel_config(backend="spark", n_jobs=N_JOBS):
            yield
    finally:
        session.stop()


ALL = (
    Backend("clutch", _clutch, ("joblib_clutch",), has_service=True),
    Backend("loky", _by_name("loky")),
    Backend("multiprocessing", _by_name("multiprocessing")),
    Backend("concurrent.futures", _in_process("FuturesBackend")),
    Backend(
        "ray",
        _ray,
        ("ray", "ray.util.joblib"),
        has_service=True,
        # Without one of ours, each cluster makes one up and keeps it to itself.
        environment=(("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", secrets.token_hex(32))),
    ),
    Backend("dask", _dask, ("distributed",), Pace.SLOW, has_service=True),
    Backend(
        "spark",
        _spark,
        ("joblibspark", "pyspark"),
        Pace.CRAWLING,
        # Its workers would run the first python3 of the PATH.
        environment=(("PYSPARK_PYTHON", sys.executable),),
    ),
    Backend("floor", _in_process("FloorBackend"), is_reference=True),
    Backend("floor-blocking", _in_process("BlockingFloorBackend"), is_reference=True),
    Backend(
        "serial",
        _serial,
        is_reference=True,
        # As many as a worker of two on two cores gets.
        environment=(("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")),
    ),
)
BY_NAME = {backend.name: backend for backend in ALL}
