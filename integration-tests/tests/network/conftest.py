"""Every test here needs hosts of its own."""

from collections.abc import Iterator

import pytest
from support import namespaces
from support.hosts import Network


@pytest.fixture(autouse=True)
def _hosts_are_possible() -> None:
    if reason := namespaces.why_not():
        pytest.skip(reason)


@pytest.fixture
def network() -> Iterator[Network]:
    """Return a network without hosts."""
    with Network() as network:
        yield network
