"""Numbers, times and sizes as people write them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from joblib_clutch.settings import Settings

SIZES = ["memory_limit", "scratch_limit"]
TIMES = ["task_timeout", "task_cpu_timeout"]


def merged(name: str, value: object) -> Any:
    return getattr(Settings().merged({name: value}), name)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (1, 1),
        (2e9, 2_000_000_000),
        (np.int64(12), 12),
        (Fraction(7, 2), 3),
        ("12", 12),
        ("12 B", 12),
        ("2GB", 2_000_000_000),
        ("2 gb", 2_000_000_000),
        (" 500 MB ", 500_000_000),
        ("1.1KB", 1100),
        ("512MiB", 512 << 20),
        ("512Mi", 512 << 20),
        ("1.5G", 3 << 29),
        (".5K", 512),
        ("3m", 3 << 20),
        ("1TiB", 1 << 40),
        ("0.001PB", 10**12),
        ("9007199254740993", 9007199254740993),
        (None, None),
    ],
)
def test_a_size_has_the_unit_that_it_says(name: str, given: object, meant: int | None) -> None:
    read = merged(name, given)
    assert read == meant
    assert read is None or type(read) is int


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, 0.5, float("nan"), float("inf"), 1 << 63),
        *("0", "-2GB", "", "GB", "2 apples", "2 G B", "1e9", "2,5GB", "1..5G", "٣GB", "9EB"),
        "99999999PiB",
    ],
)
def test_what_is_no_size_is_refused_by_name(name: str, given: object) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a positive number of bytes") as caught:
        merged(name, given)
    assert str(caught.value).endswith(f"like '2GB' or '512MiB', not {given!r}")


@pytest.mark.parametrize("name", [*SIZES, *TIMES, "cpus_per_task"])
@pytest.mark.parametrize("given", [True, 1j, [], b"2GB"])
def test_what_is_no_number_is_refused_by_name(name: str, given: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be a positive number") as caught:
        merged(name, given)
    assert repr(given) in str(caught.value)


@pytest.mark.parametrize("name", [*TIMES, "cpus_per_task"])
def test_times_and_cpus_may_be_fractions(name: str) -> None:
    assert merged(name, 0.5) == 0.5
    assert merged(name, np.float32(0.25)) == 0.25
    assert merged(name, None) is None
    assert type(merged(name, 2)) is float


@pytest.mark.parametrize("name", [*TIMES, "cpus_per_task"])
@pytest.mark.parametrize("given", [0, -1.5, float("nan"), float("inf"), 1e30])
def test_other_times_and_cpus_are_refused_by_name(name: str, given: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a positive number of") as caught:
        merged(name, given)
    assert str(caught.value).endswith(f"or None, not {given!r}")


@pytest.mark.parametrize("given", ["2GB", "60"])
@pytest.mark.parametrize("name", [*TIMES, "cpus_per_task"])
def test_times_and_cpus_are_no_text(name: str, given: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must be .* not '{given}'$"):
        merged(name, given)


@pytest.mark.parametrize(
    ("name", "least"), [("process_limit", 1), ("open_files_limit", 1), ("retries", 0)]
)
def test_counts_are_whole_and_in_range(name: str, least: int) -> None:
    assert merged(name, least) == least
    assert merged(name, np.int32(7)) == 7
    assert merged(name, None) is None
    wanted = rf"^{name} must be a whole number from {least} on, or None, not "
    for given in (least - 1, 1 << 32):
        with pytest.raises(ValueError, match=wanted + str(given)):
            merged(name, given)
    for other in (1.0, "3", True, float("nan")):
        with pytest.raises(TypeError, match=wanted) as caught:
            merged(name, other)
        assert repr(other) in str(caught.value)


@pytest.mark.parametrize("given", [1, 0, None, "yes"])
def test_soft_memory_is_a_yes_or_a_no(given: object) -> None:
    with pytest.raises(TypeError, match=rf"soft_memory must be True or False, not {given!r}"):
        merged("soft_memory", given)
    assert merged("soft_memory", True) is True
