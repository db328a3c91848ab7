"""How often something that must hold every time is tried."""

import os

# Set by `make test-faults`.
_THOROUGH = "CLUTCH_TEST_THOROUGH" in os.environ


def rounds(short: int, thorough: int) -> range:
    """Return the rounds of a test: few as a rule, many where time is no matter."""
    return range(thorough if _THOROUGH else short)
