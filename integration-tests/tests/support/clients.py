"""Sessions of the native client, with no shim above it."""

import platform
import sys
from pathlib import Path

import cloudpickle
import joblib

from joblib_clutch import _native
from joblib_clutch.office import the_office


def open_session(address: str, access: Path | None = None) -> _native.Session:
    """Open a session on an agent, on TCP with its access file."""
    return _native.Session.open(
        the_office().native,
        address,
        client_version="0",
        python_version=platform.python_version(),
        implementation=sys.implementation.name,
        executable=sys.executable,
        cloudpickle_version=cloudpickle.__version__,
        joblib_version=joblib.__version__,
        python="",
        name="by the client",
        silence_seconds=None,
        weight=0.0,
        max_running=0,
        access=access,
    )
