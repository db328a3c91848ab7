"""The ``clutch`` command: the agent's own binary, as installed with the package."""

from __future__ import annotations

import os
import sys

from joblib_clutch.agent import find_binary
from joblib_clutch.exceptions import AgentUnavailableError


def main() -> None:
    """Become the binary; return only when there is none."""
    try:
        binary = find_binary()
    except AgentUnavailableError as error:
        sys.exit(f"clutch: {error}")
    # No shell, and the arguments are the user's own.
    os.execv(binary, ["clutch", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
