"""The options of the backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from joblib.disk import memstr_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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

    Attributes
    ----------
    agents : str or None
        Address of the agent, ``unix:/path`` or ``unix-abstract:name``; None:
        one private agent of this process. A list of one address is accepted.
    env : str or None
        Path of the Python interpreter that runs the tasks, on the agent's
        machine; None: one of the driver's own version.
    initializer : callable or None
        Called once in each worker before its first task.
    initargs : tuple
        Arguments of `initializer`.
    task_timeout : float or None
        Wall time that each single task may take, in seconds.
    max_nbytes : int or None
        joblib's: arrays of more bytes are sent once and mapped by the workers;
        None: none is. Text like ``"10M"`` is accepted.
    mmap_mode : str or None
        joblib's: what workers may do with such arrays: read them (``"r"``),
        write to a private copy (``"c"``) or to a common one (``"r+"``,
        ``"w+"``); None: they get an array of their own.
    """

    agents: str | None = None
    env: str | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    task_timeout: float | None = None
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
            An option is not known.
        ValueError
            An option's value cannot be used.
        """
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(options) - known - _JOBLIB_OPTIONS)
        if unknown:
            raise TypeError(
                f"unknown option {', '.join(map(repr, unknown))} of the clutch backend;"
                f" it knows {', '.join(sorted(known))}"
            )
        return dataclasses.replace(
            self, **{name: options[name] for name in options if name in known}
        )

    def __post_init__(self) -> None:
        """Normalize and check the values."""
        # The dataclass is frozen for its users, not for its own constructor.
        object.__setattr__(self, "agents", _one_address(self.agents))
        object.__setattr__(self, "initargs", tuple(self.initargs))
        if self.initializer is not None and not callable(self.initializer):
            raise TypeError(f"initializer must be callable, not {self.initializer!r}")
        if self.task_timeout is not None and not self.task_timeout > 0:
            raise ValueError(
                f"task_timeout must be a positive number of seconds, not {self.task_timeout!r}"
            )
        object.__setattr__(self, "max_nbytes", _bytes(self.max_nbytes))
        if self.mmap_mode not in _MMAP_MODES:
            raise ValueError(
                f"mmap_mode must be one of {', '.join(map(repr, _MMAP_MODES))},"
                f" not {self.mmap_mode!r}"
            )


def _one_address(agents: object) -> str | None:
    if agents is None or isinstance(agents, str):
        return agents
    if not isinstance(agents, (list, tuple)) or not all(
        isinstance(address, str) for address in agents
    ):
        raise TypeError(f"agents must be an address or a list of one, not {agents!r}")
    if len(agents) != 1:
        raise ValueError(
            f"agents must name exactly one agent: spreading a call over several is"
            f" not supported yet, and {len(agents)} were given"
        )
    return str(agents[0])


def _bytes(size: object) -> int | None:
    if size is None:
        return None
    problem: Exception | None = None
    try:
        # joblib compares with whatever number it is given, 1e6 included.
        number = int(memstr_to_bytes(size) if isinstance(size, str) else _real(size))
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        problem, number = error, -1
    if number < 0:
        raise ValueError(
            f"max_nbytes must be a number of bytes, text like '10M', or None, not {size!r}"
        ) from problem
    return number


def _real(size: object) -> float:
    if not isinstance(size, Real):
        raise TypeError
    return float(size)
