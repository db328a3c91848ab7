"""Hosts for tests: network namespaces, joined through a switch in one of its own.

Nothing changes in the network of the machine. Hosts have addresses, links that can be
slowed, cut and made lossy, and everything else of the machine: processes, files, users.
"""

import contextlib
import subprocess
from collections.abc import Sequence

from support import namespaces
from support.cables import Cable
from support.links import Link, filter_frames

_BRIDGE = "switch"
_DEVICE = "eth0"
_NETWORK = "10.77.0"


class Host:
    """One host of a `Network`.

    Attributes
    ----------
    name : str
        What the test calls it.
    address : str
        Its address.
    link : Link
        What joins it to the others.
    """

    def __init__(self, name: str, namespace: str, address: str, link: Link, cable: Cable | None):
        self.name = name
        self.address = address
        self.link = link
        self._namespace = namespace
        self._cable = cable

    @property
    def become(self) -> tuple[str, ...]:
        """The beginning of a command that runs here; for `Agent` and `Driver`."""
        return namespaces.entering(self._namespace)

    @property
    def cable(self) -> Cable:
        """The relay of a host that was made with one."""
        assert self._cable, f"{self.name} was made without a cable"
        return self._cable

    def run(self, *command: str, seconds: float = 30) -> str:
        """Run a program here to its good end; return what it printed."""
        done = subprocess.run(
            [*self.become, *command], capture_output=True, text=True, timeout=seconds, check=False
        )
        assert not done.returncode, f"{command} on {self.name}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def popen(self, command: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a program here."""
        return subprocess.Popen([*self.become, *command], text=True, **options)


class Network:
    """Hosts and the switch between them. Use it in a ``with`` block.

    At the end it kills what still runs in its hosts, and removes them.
    """

    def __init__(self) -> None:
        namespaces.sweep()
        self._undo = contextlib.ExitStack()
        self._count = 0
        self._switch = ""

    def __enter__(self) -> "Network":
        with contextlib.ExitStack() as undo:
            self._switch = self._namespace(undo, "switch")
            bridge = ("link", "add", _BRIDGE, "type", "bridge", "mcast_snooping", "0")
            namespaces.run("ip", "-n", self._switch, *bridge)
            namespaces.run("ip", "-n", self._switch, "link", "set", _BRIDGE, "up")
            filter_frames(self._switch)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def host(self, name: str, *, cable: bool = False) -> Host:
        """Add a host.

        Parameters
        ----------
        name : str
            What to call it.
        cable : bool
            Whether a relay carries its frames, which can delay them; it is slow.
        """
        self._count += 1
        address, port = f"{_NETWORK}.{self._count}", f"port{self._count}"
        space = self._namespace(self._undo, name)
        wire = self._wire(space, port) if cable else self._veth(space, port)
        namespaces.run("ip", "-n", self._switch, "link", "set", port, "master", _BRIDGE, "up")
        namespaces.run("ip", "-n", space, "address", "add", f"{address}/24", "dev", _DEVICE)
        namespaces.run("ip", "-n", space, "link", "set", _DEVICE, "up")
        link = Link(space, _DEVICE, address, self._switch, port)
        return Host(name, space, address, link, wire)

    def hosts(self, name: str, count: int) -> list[Host]:
        """Add several hosts that are alike."""
        return [self.host(f"{name}{number}") for number in range(1, count + 1)]

    def _veth(self, space: str, port: str) -> None:
        add = ("link", "add", port, "type", "veth", "peer", "name", _DEVICE, "netns", space)
        namespaces.run("ip", "-n", self._switch, *add)

    def _wire(self, space: str, port: str) -> Cable:
        far = f"far-{port}"
        cable = Cable(self._switch, port, far)
        self._undo.callback(cable.close)
        move = ("link", "set", far, "name", _DEVICE, "netns", space)
        namespaces.run("ip", "-n", self._switch, *move)
        return cable

    @staticmethod
    def _namespace(undo: contextlib.ExitStack, name: str) -> str:
        space = namespaces.make(name)
        undo.callback(namespaces.remove, space)
        return space
