"""Agents on test hosts, and drivers on others, that share an access file."""

import contextlib
import tempfile
from collections import Counter
from pathlib import Path

from support import processes
from support.agents import AS_OURSELVES, Agent, clean_environment
from support.drivers import Driver
from support.hosts import Network
from support.waiting import until

PORT = 7077
# A peer that is gone is noticed within their sum and a second.
KEEPALIVE = {"CLUTCH_KEEPALIVE_SECONDS": "2", "CLUTCH_KEEPALIVE_TIMEOUT_SECONDS": "3"}
NOTICED_SECONDS = 6


class Cluster:
    """Agents, one on each of some hosts, and a host for drivers. Use it in a ``with`` block.

    Parameters
    ----------
    network : Network
        Where.
    count : int
        Agents.
    *flags : str
        More flags of each agent.
    silence : float
        Seconds that sessions outlive a broken connection.
    cable : bool
        Whether a relay carries what the driver sends and gets; see `Host.cable`.

    Attributes
    ----------
    home : Host
        The drivers' host.
    hosts : list of Host
        The agents' hosts.
    agents : list of Agent
        The agents.
    folder : Path
        A folder into which tasks and scripts may write.
    """

    def __init__(
        self, network: Network, count: int, *flags: str, silence: float = 20, cable: bool = False
    ) -> None:
        self._undo = contextlib.ExitStack()
        self.home = network.host("driver", cable=cable)
        self.hosts = network.hosts("agent", count)
        self.agents: list[Agent] = []
        self._flags = ("--slots", "2", "--silence-seconds", str(silence), *AS_OURSELVES, *flags)

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as undo:
            folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="clutch-test-"))
            self.folder = Path(folder)
            # Tasks may run as another user.
            self.folder.chmod(0o777)
            for number in range(len(self.hosts)):
                agent = self.agent(number)
                undo.callback(agent.__exit__)
                self.agents.append(agent)
            for agent in self.agents:
                assert agent.ready
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def agent(self, number: int) -> Agent:
        """Start an agent on a host."""
        host = self.hosts[number]
        where = ("--access-file", str(self.access), "--advertise", f"{host.address}:{PORT}")
        return Agent(
            *where,
            *self._flags,
            address=f"0.0.0.0:{PORT}",
            become=host.become,
            environment=clean_environment(**KEEPALIVE),
        )

    @property
    def access(self) -> Path:
        """The access file."""
        return self.folder / "cluster.json"

    @property
    def log(self) -> Path:
        """The file into which tasks write their numbers."""
        return self.folder / "log"

    def runs(self) -> Counter[int]:
        """Return how often each task ran, by its number."""
        return Counter(map(int, self.log.read_text().split()) if self.log.exists() else ())

    def began(self, count: int, seconds: float = 60) -> None:
        """Wait until so many tasks have run."""
        until(lambda: self.runs().total() >= count, seconds=seconds, what=f"{count} tasks")

    def driver(self, script: str, *arguments: str) -> Driver:
        """Start a script on the drivers' host; it gets the access file and the folder first."""
        given = (str(self.access), str(self.folder), *arguments)
        return Driver(script, *given, become=self.home.become, **KEEPALIVE)

    def workers(self, number: int) -> list[int]:
        """Return the workers of an agent, as the kernel says."""
        children = processes.children_of(self.agents[number].pid)
        return processes.named(children, "clutch-worker")
