"""The options of the backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Options that joblib passes to every backend, with no meaning for ours.
_JOBLIB_OPTIONS = frozenset(
    {
        "context",
        "max_nbytes",
        "mmap_mode",
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
    """

    agents: str | None = None
    env: str | None = None
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    task_timeout: float | None = None

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
