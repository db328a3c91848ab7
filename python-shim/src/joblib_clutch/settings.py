"""The options of the backend."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblib_clutch import quantities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# joblib's own default, "1M".
_MAX_NBYTES = 1 << 20
_MMAP_MODES = ("r", "c", "r+", "w+", None)
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


@dataclass(frozen=True)
class Settings:
    """What the user asked of the backend.

    A limit that is None is the agent's default, mostly none. Limits are for
    each worker with all the processes that it starts, and a worker runs one
    task at a time.

    Attributes
    ----------
    agents : str, list of str or None
        Address of the agent, ``unix:/path`` or ``unix-abstract:name``; None:
        one private agent of this process. The agents of a list run a call
        together; those added to the list while it runs take part.
    env : str or None
        Path of the Python interpreter that runs the tasks, on the agent's
        machine; None: one of the driver's own version.
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
    """

    agents: str | Sequence[str] | None = None
    env: str | None = None
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
    speculative: bool = False
    max_nbytes: int | None = _MAX_NBYTES
    mmap_mode: str | None = "r"

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

    def __post_init__(self) -> None:
        """Normalize and check the values."""
        _check_addresses(self.agents)
        self._set("initargs", tuple(self.initargs))
        if self.initializer is not None and not callable(self.initializer):
            raise TypeError(f"initializer must be callable, not {self.initializer!r}")
        for name in ("task_timeout", "task_cpu_timeout"):
            self._set(name, quantities.seconds(name, getattr(self, name)))
        for name in ("memory_limit", "scratch_limit"):
            self._set(name, quantities.size(name, getattr(self, name)))
        for name, least in (("process_limit", 1), ("open_files_limit", 1), ("retries", 0)):
            self._set(name, quantities.count(name, getattr(self, name), least))
        self._set("cpus_per_task", quantities.cpus("cpus_per_task", self.cpus_per_task))
        self._set("max_nbytes", quantities.array_size("max_nbytes", self.max_nbytes))
        for name in ("soft_memory", "speculative"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.mmap_mode not in _MMAP_MODES:
            raise ValueError(
                f"mmap_mode must be one of {', '.join(map(repr, _MMAP_MODES))},"
                f" not {self.mmap_mode!r}"
            )

    def _set(self, name: str, value: object) -> None:
        # The dataclass is frozen for its users, not for its own constructor.
        object.__setattr__(self, name, value)


def _check_addresses(agents: object) -> None:
    if agents is None or isinstance(agents, str):
        return
    if not isinstance(agents, (list, tuple)) or not all(
        isinstance(address, str) for address in agents
    ):
        raise TypeError(f"agents must be an address or a list of addresses, not {agents!r}")
    if not agents:
        raise ValueError("agents must name at least one agent, and the list is empty")
