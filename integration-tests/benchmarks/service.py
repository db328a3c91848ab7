"""A backend's service, running before its drivers do.

Run as ``service.py BACKEND``, it starts one, prints its address as JSON, and ends
it when standard input closes.
"""

from __future__ import annotations

import json
import subprocess
import sys

import backends
from processes import FOLDER, Talker

_START_SECONDS = 60


class Service:
    """A running service. Use it in a ``with`` block.

    Parameters
    ----------
    backend : Backend
        Whose.
    """

    def __init__(self, backend: backends.Backend) -> None:
        command = [sys.executable, str(FOLDER / "service.py"), backend.name]
        self._talker = Talker(command, dict(backend.environment))
        try:
            self.address: str = self._talker.answer(_START_SECONDS)["address"]
        except BaseException:
            self._talker.end(politely=False)
            raise

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._talker.end()


def _serve_clutch() -> None:
    from joblib_clutch.agent import find_binary

    command = [find_binary(), "agent", "--python", sys.executable, "--exit-with-parent"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as agent:
        # It prints its own ready line, with the address, on our standard output.
        sys.stdin.read()
        agent.terminate()


def _serve_dask() -> None:
    with backends.dask_client(None) as address:
        _tell(address)


def _serve_ray() -> None:
    with backends.ray_cluster(None) as address:
        _tell(address)


def _tell(address: str) -> None:
    print(json.dumps({"address": address}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"clutch": _serve_clutch, "dask": _serve_dask, "ray": _serve_ray}[sys.argv[1]]()
