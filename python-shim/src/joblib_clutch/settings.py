"""The options of the backend."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from joblib_clutch import access, quantities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# joblib's own default, "1M".
_MAX_NBYTES = 1 << 20
_MMAP_MODES = ("r", "c", "r+", "w+", None)
# Options that are whole numbers, and the least that each can be.
_COUNTS = (("process_limit", 1), ("open_files_limit", 1), ("retries", 0), ("max_slots", 1))
# Options that joblib passes to every backend, with no meaning for ours.
_JOBLIB_OPTIONS = frozenset(
    {
        "context",
        "prefer",
        "require",
        "temp_folder",
        "verbose",
    }
)


class Lease(NamedTuple):
    """What a session asks its agent for; calls that ask for other things have other sessions.

    Attributes
    ----------
    python : str or None
        Interpreter, by its path on the agent's machine; None: one of the
        driver's own version.
    silence : float or None
        Seconds that the session outlives a connection that broke; None: 60
        where that can happen, and else not at all.
    weight : float or None
        Share of the slots relative to other sessions'; None: 1.
    max_slots : int or None
        Batches that run at once; None: all slots.
    """

    python: str | None = None
    silence: float | None = None
    weight: float | None = None
    max_slots: int | None = None


@dataclass(frozen=True)
class Settings:
    """What the user asked of the backend.

    A limit that is None is the agent's default, mostly none. Limits are for
    each worker with all the processes that it starts, and a worker runs one
    task at a time.

    Attributes
    ----------
    agents : Agents or None
        The agents; None: those of `connect`, or else one private agent of this
        process. An address, the path of an access file and a list of addresses
        are accepted. The agents of a file or a list run a call together; those
        added to it while the call runs take part.
    env : str or None
        Path of the Python interpreter that runs the tasks, on the agent's
        machine; None: one of the driver's own version.
    silence_limit : float or None
        How long a session with a named agent, and what runs there, outlives a
        connection that broke, in seconds; 0: not at all. None: 60 where a
        connection can break, and 0 on a Unix socket of this machine. The agent
        may allow less.
    initializer : callable or None
        Called once in each worker before its first task.
    initargs : tuple
        Arguments of `initializer`.
    task_timeout : float or None
        Wall time that each single task may take, in seconds.
    task_cpu_timeout : float or None
        CPU time that each single task may use, in seconds.
    memory_limit : int or None
        Memory in bytes. Text like ``"2GB"`` or ``"512MiB"`` is accepted.
    soft_memory : bool
        Whether allocations are to fail, with `MemoryError`, short of the
        memory limit, where that is possible.
    cpus_per_task : float or None
        CPUs, fractions included.
    process_limit : int or None
        Processes and threads.
    open_files_limit : int or None
        Open files of each process.
    scratch_limit : int or None
        Bytes in the scratch directory, which exists only with such a limit, by
        the name in ``TMPDIR``. Text is accepted.
    retries : int or None
        How often a batch may be run again, whatever ended it; None: at most
        twice, and only when nobody but the machine or the agent is to blame.
    weight : float or None
        Share of the agent's slots when several drivers want them, relative to
        the others', from 0.01 to 100; None: 1.
    max_slots : int or None
        Tasks of this process that the agent runs at once, over all calls with
        this option; None: no bound but its slots and its own setting.
    max_nbytes : int or None
        joblib's: arrays of more bytes are sent once and mapped by the workers;
        None: none is. Text like ``"10M"`` is accepted.
    speculative : bool
        Whether agents with nothing to do may run second copies of batches that
        take long, at the end of a call; the first that ends counts. Side effects
        of tasks may happen twice then.
    mmap_mode : str or None
        joblib's: what workers may do with such arrays: read them (``"r"``),
        write to a private copy (``"c"``) or to a common one (``"r+"``,
        ``"w+"``); None: they get an array of their own.
    ship_code : bool or str
        Whether modules that live only at the driver go to the workers: ``"auto"``,
        where the agent does not see the driver's files; True, always; False, never.
    py_modules : tuple
        Modules that go to the workers in any case: modules, their names, or paths of
        package folders, files, zip files and wheels.
    working_dir : str or None
        A folder of which each agent gets a copy, in which tasks start; None: tasks
        start in the driver's directory where the agent has it.
    """

    agents: access.Agents | None = None
    env: str | None = None
    silence_limit: float | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    task_timeout: float | None = None
    task_cpu_timeout: float | None = None
    memory_limit: int | None = None
    soft_memory: bool = False
    cpus_per_task: float | None = None
    process_limit: int | None = None
    open_files_limit: int | None = None
    scratch_limit: int | None = None
    retries: int | None = None
    weight: float | None = None
    max_slots: int | None = None
    speculative: bool = False
    max_nbytes: int | None = _MAX_NBYTES
    mmap_mode: str | None = "r"
    ship_code: bool | str = "auto"
    py_modules: tuple[Any, ...] = ()
    working_dir: str | None = None

    def merged(self, options: Mapping[str, Any]) -> Settings:
        """Apply options on top of these.

        Parameters
        ----------
        options : mapping
            Options by name; joblib's own are ignored.

        Returns
        -------
        Settings
            The new settings.

        Raises
        ------
        TypeError
            An option is not known, or its value is of a wrong type.
        ValueError
            An option's value cannot be used.
        """
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(options) - {*known} - _JOBLIB_OPTIONS)
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(map(repr, unknown))} of the clutch backend;"
                f" it knows {', '.join(known)}"
            )
        return dataclasses.replace(
            self, **{name: options[name] for name in options if name in known}
        )

    @property
    def whole_cpus(self) -> int:
        """CPUs that one task takes from others, and threads that it may have."""
        return 1 if self.cpus_per_task is None else math.ceil(self.cpus_per_task)

    @property
    def lease(self) -> Lease:
        """What a session with these settings asks its agent for."""
        if self.agents is None:
            # Nobody shares a private agent, and no connection to it breaks: other
            # values are no reason for another one.
            return Lease(self.env, None, None, self.max_slots)
        return Lease(self.env, self.silence_limit, self.weight, self.max_slots)

    def __post_init__(self) -> None:
        """Normalize and check the values."""
        self._set("agents", access.parse(self.agents) or access.default())
        # No silence is a choice too, which no limit on tasks is.
        if self.silence_limit != 0 or isinstance(self.silence_limit, bool):
            self._set("silence_limit", quantities.seconds("silence_limit", self.silence_limit))
        self._set("initargs", tuple(self.initargs))
        if self.initializer is not None and not callable(self.initializer):
            raise TypeError(f"initializer must be callable, not {self.initializer!r}")
        for name in ("task_timeout", "task_cpu_timeout"):
            self._set(name, quantities.seconds(name, getattr(self, name)))
        for name in ("memory_limit", "scratch_limit"):
            self._set(name, quantities.size(name, getattr(self, name)))
        for name, least in _COUNTS:
            self._set(name, quantities.count(name, getattr(self, name), least))
        self._set("cpus_per_task", quantities.cpus("cpus_per_task", self.cpus_per_task))
        self._set("weight", quantities.weight("weight", self.weight))
        self._set("max_nbytes", quantities.array_size("max_nbytes", self.max_nbytes))
        for name in ("soft_memory", "speculative"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.ship_code not in (True, False, "auto"):
            raise ValueError(f"ship_code must be True, False or 'auto', not {self.ship_code!r}")
        self._set("py_modules", _modules(self.py_modules))
        self._set("working_dir", _folder(self.working_dir))
        if self.mmap_mode not in _MMAP_MODES:
            raise ValueError(
                f"mmap_mode must be one of {', '.join(map(repr, _MMAP_MODES))},"
                f" not {self.mmap_mode!r}"
            )

    def _set(self, name: str, value: object) -> None:
        # The dataclass is frozen for its users, not for its own constructor.
        object.__setattr__(self, name, value)


def _modules(wanted: object) -> tuple[Any, ...]:
    many = isinstance(wanted, Iterable) and not isinstance(wanted, (str, os.PathLike))
    items = tuple(wanted) if many else (wanted,)  # type: ignore[arg-type]
    for item in items:
        if not isinstance(item, (ModuleType, str, os.PathLike)):
            raise TypeError(f"py_modules must be modules, names or paths, not {item!r}")
    return items


def _folder(path: object) -> str | None:
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"working_dir must be a path, not {path!r}")
    absolute = Path(os.fspath(path)).absolute()
    if not absolute.is_dir():
        raise ValueError(f"working_dir: there is no folder {str(path)!r}")
    return str(absolute)
