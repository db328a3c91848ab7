"""Which agents, and what they ask for: the option ``agents``, and `connect`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib

from joblib_clutch import _native
from joblib_clutch.exceptions import AccessDeniedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

_UNIX = ("unix:", "unix-abstract:")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]+")
# The agent's setting has the same name.
_ACCESS_VARIABLE = "CLUTCH_ACCESS_FILE"


@dataclass(frozen=True)
class Agents:
    """Agents that belong to one call.

    Attributes
    ----------
    addresses : tuple of str
        Their addresses; empty: those in the access file, whenever one looks.
    access : str or None
        Absolute path of the access file that agents on TCP ask for.
    listed : sequence or None
        The user's own list of addresses, which may grow and shrink; None: there is
        none.
    """

    addresses: tuple[str, ...] = ()
    access: str | None = None
    listed: Sequence[Any] | None = field(default=None, compare=False, repr=False)

    @property
    def several(self) -> bool:
        """Whether there may be more than one, now or later."""
        return self.listed is not None or not self.addresses

    def one(self, address: str) -> Agents:
        """Give one of them alone."""
        return Agents((address,), self.access_of(address))

    def now(self) -> tuple[str, ...]:
        """Give the addresses as they are now; reads the list or the access file again.

        Returns
        -------
        tuple of str
            Each once. At least one, but for a list that the user has emptied.

        Raises
        ------
        AccessDeniedError
            The access file cannot be used, or names no agent.
        """
        if self.listed is not None and self.addresses:
            return _addresses(map(str, self.listed))
        if self.addresses or self.access is None:
            return self.addresses
        named = tuple(_read(self.access))
        if not named:
            raise denied(
                f"the access file {self.access} names no agent",
                "start an agent with this --access-file, or name one by its host:port",
            )
        return named

    def access_of(self, address: str) -> str | None:
        """Give the access file that this agent asks for, if any.

        Parameters
        ----------
        address : str
            One of the addresses.

        Returns
        -------
        str or None
            Its path; None: on this machine, the kernel tells who we are.
        """
        return None if address.startswith(_UNIX) else self.access


def parse(agents: object) -> Agents | None:
    """Understand the option ``agents``.

    Parameters
    ----------
    agents : object
        None; an address; the path of an access file; or a list of addresses, in
        which one entry may be the path of an access file that they share.

    Returns
    -------
    Agents or None
        None: a private agent.

    Raises
    ------
    TypeError
        It is nothing of that.
    ValueError
        It names no agent, or several access files.
    """
    if agents is None or isinstance(agents, Agents):
        return agents
    given = list(agents) if isinstance(agents, (list, tuple)) else [agents]
    texts = [str(each) for each in given if isinstance(each, (str, Path))]
    if len(texts) < len(given):
        raise TypeError(
            "agents must be an address, the path of an access file, or a list of addresses,"
            f" not {agents!r}"
        )
    addresses = _addresses(texts)
    files = [str(Path(text).absolute()) for text in texts if not is_address(text)]
    if not texts or "" in texts:
        raise ValueError(f"agents must name an agent or an access file, not {agents!r}")
    if len(files) > 1:
        raise ValueError(
            "agents must name at most one access file, which all its agents share; what is no"
            f" unix:/path, unix-abstract:name or host:port is taken for one: {', '.join(files)}"
        )
    if not files and not all(address.startswith(_UNIX) for address in addresses):
        variable = os.environ.get(_ACCESS_VARIABLE)
        files = [str(Path(variable).absolute())] if variable else files
    listed = agents if isinstance(agents, (list, tuple)) else None
    return Agents(addresses, files[0] if files else None, listed)


def is_address(text: str) -> bool:
    """Tell an address from the path of an access file.

    Parameters
    ----------
    text : str
        One of them.

    Returns
    -------
    bool
        Whether it is an address.
    """
    return text.startswith(_UNIX) or _HOST_AND_PORT.fullmatch(text) is not None


def _addresses(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if is_address(text)))


def denied(message: str, advice: str) -> AccessDeniedError:
    """Build the error for credentials that do not do.

    Parameters
    ----------
    message, advice : str
        What is wrong, and what to do.

    Returns
    -------
    AccessDeniedError
        To be raised.
    """
    return AccessDeniedError(message, kind="AGENT_UNAVAILABLE", fault="DRIVER", advice=advice)


def _read(path: str) -> list[str]:
    try:
        return _native.read_access_file(path)
    except _native.OpenDeniedError as error:
        raise denied(str(error), "name an access file of the agents that is your own") from None


class _Default:
    """Agents of calls that name none; None: a private one."""

    agents: Agents | None = None


def default() -> Agents | None:
    """Give the agents of calls that name none.

    Returns
    -------
    Agents or None
        What `connect` was given last; None: a private agent.
    """
    return _Default.agents


class Cluster:
    """What `connect` gives back. As a context manager it disconnects at its end.

    Parameters
    ----------
    agents : Agents
        The agents.
    """

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._before = _Default.agents
        _Default.agents = agents
        self._config: Any = joblib.parallel_config("clutch")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the agents listen, now."""
        return self._agents.now()

    def disconnect(self) -> None:
        """Let later calls use what they used before."""
        if self._config is not None:
            self._config.unregister()
            self._config = None
            _Default.agents = self._before

    def __enter__(self) -> Cluster:
        """Give the cluster itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.disconnect()

    def __repr__(self) -> str:
        """Name the access file or the addresses; never a secret."""
        return f"<clutch agents of {self._agents.access or ', '.join(self._agents.addresses)}>"


def connect(agents: object) -> Cluster:
    """Have later calls use these agents.

    The backend ``"clutch"`` becomes the one that `joblib.Parallel` uses in this
    thread, and these are its agents wherever a call names none.

    Parameters
    ----------
    agents : str, path, or list of str
        An access file, an address, or a list of addresses; as the option ``agents``.

    Returns
    -------
    Cluster
        A context manager, for those who want to disconnect again.

    Raises
    ------
    AccessDeniedError
        The access file cannot be used, or names no agent.
    """
    parsed = parse(agents)
    if parsed is None:
        raise TypeError("connect needs an access file or an address")
    parsed.now()
    return Cluster(parsed)
