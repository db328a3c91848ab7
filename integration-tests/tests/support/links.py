"""Links between test hosts and their switch, and what can be done to them."""

import json
from dataclasses import dataclass
from typing import Literal

from support import namespaces

Direction = Literal["both", "to", "from"]

_TABLE = "clutch"
_BURST_BYTES = 256 << 10
_QUEUE = "50ms"
_MOST_SEGMENTS = 65535


@dataclass(frozen=True)
class Traffic:
    """Bytes and packets of a link, from its host's point of view."""

    sent_bytes: int
    received_bytes: int
    sent_packets: int
    received_packets: int


class Link:
    """The link of one host, from its own device to its port on the switch.

    Directions are `"from"` the host, `"to"` it, and `"both"`.

    Parameters
    ----------
    host, device, address : str
        The host's namespace, device and address.
    switch, port : str
        The switch's namespace and device.
    """

    def __init__(self, host: str, device: str, address: str, switch: str, port: str) -> None:
        self._host, self._device, self._address = host, device, address
        self._switch, self._port = switch, port
        rules = []
        for direction, side in (("from", "iifname"), ("to", "oifname")):
            chain = self._chain(direction)
            rules.append(f"add chain bridge {_TABLE} {chain}")
            rules.append(f"add rule bridge {_TABLE} forward {side} {port} jump {chain}")
        self._nft(switch, *rules)

    def bandwidth(self, rate: str | None) -> None:
        """Let no more than a rate through in either direction, e.g. ``"1gbit"``; None: all."""
        for name, device in ((self._host, self._device), (self._switch, self._port)):
            if rate is None:
                namespaces.run("tc", "-n", name, "qdisc", "del", "dev", device, "root")
            else:
                limits = ("rate", rate, "burst", str(_BURST_BYTES), "latency", _QUEUE)
                place = ("qdisc", "replace", "dev", device, "root")
                namespaces.run("tc", "-n", name, *place, "tbf", *limits)

    def cut(self, direction: Direction = "both") -> None:
        """Let nothing through, silently, as a cable that was pulled behind the switch."""
        self.heal()
        directions = ("to", "from") if direction == "both" else (direction,)
        chains = [f"bridge {_TABLE} {self._chain(one)}" for one in directions]
        self._nft(self._switch, *(f"add rule {chain} counter drop" for chain in chains))

    def lose(self, share: float, direction: Direction = "both") -> None:
        """Lose a share of the packets, each by chance."""
        self.heal()
        per_million = round(share * 1_000_000)
        rule = f"numgen random mod 1000000 < {per_million} counter drop"
        for name, device in self._receivers(direction):
            hook = f"type filter hook ingress device {device} priority 0;"
            table = self._losses
            self._nft(
                name,
                f"add table netdev {table}",
                f"add chain netdev {table} {table} {{ {hook} }}",
                f"add rule netdev {table} {table} {rule}",
            )
        # Otherwise the kernel passes many packets on as one, and one loss is of them all.
        self._segments(1)

    def heal(self) -> None:
        """Let everything through again, undoing `cut` and `lose`."""
        for direction in ("to", "from"):
            self._nft(self._switch, f"flush chain bridge {_TABLE} {self._chain(direction)}")
        for name, _ in self._receivers("both"):
            table = f"table netdev {self._losses}"
            self._nft(name, f"add {table}", f"delete {table}")
        self._segments(_MOST_SEGMENTS)

    def dropped(self) -> int:
        """Return how many packets the present `cut` or `lose` has dropped."""
        chains = {self._losses, *map(self._chain, ("to", "from"))}
        return sum(_counted(self._switch, chains)) + sum(_counted(self._host, chains))

    def reset(self) -> int:
        """Reset each TCP connection of the host, at both ends; return how many."""
        # The kernel ends ours with an error and tells the peer by RST.
        kill = ("ss", "-K", "-H", "-t", "state", "connected", "src", self._address)
        return len(namespaces.inside(self._host, *kill).splitlines())

    def traffic(self) -> Traffic:
        """Return what has passed the host's device so far, headers included."""
        facts = namespaces.link_facts(self._host, self._device)["stats64"]
        sent, received = facts["tx"], facts["rx"]
        return Traffic(sent["bytes"], received["bytes"], sent["packets"], received["packets"])

    @property
    def _losses(self) -> str:
        """Name of the tables and chains that lose packets."""
        return f"losses_{self._port}"

    def _receivers(self, direction: Direction) -> list[tuple[str, str]]:
        """Return where packets come out that travel in a direction."""
        ends = {"to": (self._host, self._device), "from": (self._switch, self._port)}
        return list(ends.values()) if direction == "both" else [ends[direction]]

    def _segments(self, most: int) -> None:
        """Let the kernel pass on so many packets as one."""
        for name, device in self._receivers("both"):
            namespaces.run("ip", "-n", name, "link", "set", device, "gso_max_segs", str(most))

    def _chain(self, direction: str) -> str:
        return f"{direction}_{self._port}"

    @staticmethod
    def _nft(name: str, *lines: str) -> None:
        namespaces.run(*namespaces.entering(name), "nft", "-f", "-", stdin="\n".join(lines))


def filter_frames(switch: str) -> None:
    """Prepare a switch for what links will do to frames that it forwards."""
    namespaces.inside(switch, "nft", f"add table bridge {_TABLE}")
    chain = f"bridge {_TABLE} forward {{ type filter hook forward priority 0; }}"
    namespaces.inside(switch, "nft", f"add chain {chain}")


def _counted(name: str, chains: set[str]) -> list[int]:
    """Return the packets that each rule in some chains of a namespace has counted."""
    rules = json.loads(namespaces.inside(name, "nft", "-j", "list", "ruleset"))
    return [
        part["counter"]["packets"]
        for entry in rules["nftables"]
        if entry.get("rule", {}).get("chain") in chains
        for part in entry["rule"]["expr"]
        if "counter" in part
    ]
