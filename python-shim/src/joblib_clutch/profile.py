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

from joblib_clutch.code.places import is_installed
from joblib_clutch.code.shipment import NOTHING, Shipment, shipment_of
from joblib_clutch.exceptions import ArgumentPickleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from joblib_clutch.settings import Settings


# Where joblib looks first when a task asks for its number of CPUs.
_JOBLIB_CPUS = "LOKY_MAX_CPU_COUNT"


class WorkerLimits(NamedTuple):
    """What a worker and all that it starts may use; 0: the agent's default.

    Attributes
    ----------
    memory_bytes : int
        Memory.
    cpus : float
        CPUs.
    processes : int
        Processes and threads.
    open_files : int
        Open files of each process.
    scratch_bytes : int
        Size of the scratch directory.
    soft_memory : bool
        Whether allocations fail short of the memory limit.
    """

    memory_bytes: int = 0
    cpus: float = 0.0
    processes: int = 0
    open_files: int = 0
    scratch_bytes: int = 0
    soft_memory: bool = False


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
    limits : WorkerLimits
        What each worker may use.
    shipment : Shipment
        Code that goes along.
    """

    variables: tuple[tuple[str, str], ...]
    workers: int
    setup: bytes
    limits: WorkerLimits = WorkerLimits()
    shipment: Shipment = NOTHING


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
        variables=_variables(settings, inner_max_num_threads),
        workers=workers,
        setup=pickle.dumps(setup, protocol=5),
        limits=_limits(settings),
        shipment=shipment_of(settings),
    )


def setup_elsewhere(setup: bytes) -> bytes:
    """Change a setup for workers that do not see the driver's files.

    What is installed at the driver is not theirs; of the rest they have what is there
    all the same.

    Parameters
    ----------
    setup : bytes
        As in `WorkerProfile`.

    Returns
    -------
    bytes
        Likewise.
    """
    values = pickle.loads(setup)
    values["sys_path"] = [entry for entry in values["sys_path"] if not is_installed(entry)]
    values["elsewhere"] = True
    return pickle.dumps(values, protocol=5)


def _limits(settings: Settings) -> WorkerLimits:
    return WorkerLimits(
        memory_bytes=settings.memory_limit or 0,
        cpus=settings.cpus_per_task or 0.0,
        processes=settings.process_limit or 0,
        open_files=settings.open_files_limit or 0,
        scratch_bytes=settings.scratch_limit or 0,
        soft_memory=settings.soft_memory,
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


def _variables(
    settings: Settings, inner_max_num_threads: int | None
) -> tuple[tuple[str, str], ...]:
    thread_variables = list(ParallelBackendBase.MAX_NUM_THREADS_VARS)
    variables: dict[str, str] = {}
    if inner_max_num_threads is not None:
        variables.update(dict.fromkeys(thread_variables, str(inner_max_num_threads)))
    else:
        # What the user set at the driver wins; the agent fills in the rest, because
        # only it knows its machine's cores.
        wanted = [*thread_variables, ParallelBackendBase.TBB_ENABLE_IPC_VAR]
        variables.update({name: os.environ[name] for name in wanted if name in os.environ})
    if settings.cpus_per_task is not None:
        variables[_JOBLIB_CPUS] = str(settings.whole_cpus)
        if inner_max_num_threads is None:
            # More threads than CPUs would only wait for each other.
            for name in thread_variables:
                variables[name] = _at_most(settings.whole_cpus, variables.get(name))
    return tuple(variables.items())


def _at_most(threads: int, said: str | None) -> str:
    if said is None:
        return str(threads)
    try:
        return said if 0 < int(said) <= threads else str(threads)
    except ValueError:  # for example a list, with a number for each level
        return said
