"""How the workers of a call are set up."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
from joblib.parallel import ParallelBackendBase

from joblib_clutch.exceptions import ArgumentPickleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.settings import Settings


class WorkerProfile(NamedTuple):
    """Content of a profile; equal profiles share their workers.

    Attributes
    ----------
    variables : tuple of (str, str)
        Environment variables of the workers, by name.
    workers : int
        Batches that run at once; 0: the agent's slots.
    setup : bytes
        Pickled dictionary for the interpreter host.
    """

    variables: tuple[tuple[str, str], ...]
    workers: int
    setup: bytes


class DeferredInitializer:
    """An initializer that is unpickled only when it is called.

    By then the worker has the driver's ``sys.path``, which the initializer's
    module may need; the rest of the setup is what brings that path.

    Parameters
    ----------
    data : bytes
        Pickled pair of the initializer and its arguments.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self) -> None:
        """Run the initializer."""
        initializer, initargs = pickle.loads(self.data)
        initializer(*initargs)


def worker_profile(
    settings: Settings, inner_max_num_threads: int | None, workers: int
) -> WorkerProfile:
    """Describe the workers that a call wants, from the driver as it is now.

    Parameters
    ----------
    settings : Settings
        The call's settings.
    inner_max_num_threads : int or None
        Threads that each worker's numerical libraries may use.
    workers : int
        Batches that the call runs at once; 0: the agent's slots.

    Returns
    -------
    WorkerProfile
        The profile.

    Raises
    ------
    ArgumentPickleError
        The initializer or its arguments do not pickle.
    """
    setup: dict[str, Any] = {
        "authkey": bytes(multiprocessing.current_process().authkey),
        "sys_path": list(sys.path),
    }
    try:
        cwd = str(Path.cwd())
    except FileNotFoundError:
        pass  # the driver's directory was removed: workers keep the agent's
    else:
        setup["cwd"] = cwd
        setup["sys_path"] = [entry or cwd for entry in sys.path]
    if settings.initializer is not None:
        setup["initializer"] = _deferred(settings.initializer, settings.initargs)
        setup["initargs"] = ()
    return WorkerProfile(
        variables=_variables(inner_max_num_threads),
        workers=workers,
        setup=pickle.dumps(setup, protocol=5),
    )


def _deferred(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> DeferredInitializer:
    try:
        return DeferredInitializer(cloudpickle.dumps((initializer, initargs)))
    except Exception as error:
        raise ArgumentPickleError(
            f"Could not pickle the initializer {initializer!r} or its arguments to"
            f" send them to the workers. {type(error).__name__}: {error}",
            kind="ARGUMENT_UNPICKLABLE",
            fault="TASK",
        ) from error


def _variables(inner_max_num_threads: int | None) -> tuple[tuple[str, str], ...]:
    thread_variables = list(ParallelBackendBase.MAX_NUM_THREADS_VARS)
    if inner_max_num_threads is not None:
        return tuple((name, str(inner_max_num_threads)) for name in thread_variables)
    # What the user set at the driver wins; the agent fills in the rest, because
    # only it knows its machine's cores.
    wanted = [*thread_variables, ParallelBackendBase.TBB_ENABLE_IPC_VAR]
    return tuple((name, os.environ[name]) for name in wanted if name in os.environ)
