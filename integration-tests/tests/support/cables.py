"""Cables with delay and loss: the relay as tests see it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from support import namespaces, relay

_RELAY = Path(relay.__file__)


class Cable:
    """A relay between two devices that it makes in a namespace.

    Parameters
    ----------
    name : str
        The namespace.
    first, second : str
        Names of the devices.
    """

    def __init__(self, name: str, first: str, second: str) -> None:
        self._process = subprocess.Popen(
            [*namespaces.entering(name), sys.executable, str(_RELAY), first, second],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline()
        assert line == "ready\n", f"the relay said {line!r}"

    def set(
        self,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: bool = False,
    ) -> None:
        """Change what is done to each frame, in each direction.

        Parameters
        ----------
        delay, jitter : float
            Seconds that it takes one way, and how much more or less, by chance.
        loss, duplicate : float
            Shares that are lost, and that come twice.
        reorder : bool
            Whether jitter lets one frame overtake another.
        """
        self._ask(relay.Settings(delay, jitter, loss, duplicate, reorder))

    def counts(self) -> relay.Counts:
        """Return what was done to frames so far."""
        return self._ask(None)

    def close(self) -> None:
        """End the relay; its devices go with it."""
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, settings: relay.Settings | None) -> relay.Counts:
        order = dataclasses.asdict(settings) if settings else {}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return relay.Counts(**json.loads(self._process.stdout.readline()))
