"""The names that stand for blobs, at the driver."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from joblib_clutch import references
from joblib_clutch.exceptions import InternalError


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("array", (1, np.dtype("f8"), (3,), "C")),
        ("private_array", (1, np.dtype("f8"), (3,), "F")),
        ("shared", (1,)),
        ("shared_method", (1, "predict")),
    ],
)
def test_only_a_worker_can_read_what_was_cut(name: str, arguments: tuple[Any, ...]) -> None:
    function = getattr(references, name)
    # The worker looks for the functions by this name.
    assert f"joblib_clutch.references\x8c{chr(len(name))}{name}".encode("latin-1") in pickle.dumps(
        function, protocol=5
    ).replace(b"\x94", b"")
    with pytest.raises(InternalError, match=rf"{name}\(1.*\) stands for a blob"):
        function(*arguments)
