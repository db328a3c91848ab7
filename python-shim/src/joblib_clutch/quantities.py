"""Numbers, times and sizes as people write them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from numbers import Integral, Real

from joblib.disk import memstr_to_bytes

# Names of bytes, lower-case, with what they stand for. As Dask has them: with a
# B, the prefixes of SI are powers of 1000 and those of IEC powers of 1024. As
# joblib and Spark have them: the bare letters are powers of 1024.
_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _UNITS[_letter] = _UNITS[f"{_letter}i"] = _UNITS[f"{_letter}ib"] = 1024**_power
    _UNITS[f"{_letter}b"] = 1000**_power
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
# The contract's fields.
_MOST_BYTES = (1 << 63) - 1
_MOST_COUNT = (1 << 32) - 1
# As the agent has it.
_LEAST_WEIGHT, _MOST_WEIGHT = 0.01, 100
# 31 years: more is a mistake, or more than a clock can count.
_MOST_SECONDS = 1e9


def size(name: str, value: object) -> int | None:
    """Read a size.

    Parameters
    ----------
    name : str
        The option.
    value : int, float, str or None
        Bytes, or text with a unit: ``"2GB"`` and ``"500 MB"`` are decimal,
        ``"2GiB"``, ``"2G"`` and ``"512M"`` are binary.

    Returns
    -------
    int or None
        Bytes, at least 1; None for None.

    Raises
    ------
    TypeError
        It is neither number nor text.
    ValueError
        It is no size, or none that can be used.
    """
    if value is None:
        return None
    wanted = f"{name} must be a positive number of bytes, or text like '2GB' or '512MiB'"
    if isinstance(value, str):
        number = _written_size(value)
    elif isinstance(value, Real) and not isinstance(value, bool):
        number = _whole(value)
    else:
        raise TypeError(f"{wanted}, not {value!r}")
    if number is None or not 1 <= number <= _MOST_BYTES:
        raise ValueError(f"{wanted}, not {value!r}")
    return number


def array_size(name: str, value: object) -> int | None:
    """Read a size as joblib takes it for `max_nbytes`.

    Parameters
    ----------
    name : str
        The option.
    value : int, float, str or None
        Bytes, or text that ends with K, M or G.

    Returns
    -------
    int or None
        Bytes; None for None.

    Raises
    ------
    ValueError
        It is no size.
    """
    if value is None:
        return None
    number: int | None = None
    problem: Exception | None = None
    if isinstance(value, str):
        try:
            number = int(memstr_to_bytes(value))
        except (IndexError, OverflowError, TypeError, ValueError) as error:
            problem = error
    elif isinstance(value, Real):
        # joblib compares with whatever number it is given, 1e6 included.
        number = _whole(value)
    if number is None or number < 0:
        raise ValueError(
            f"{name} must be a number of bytes, text like '10M', or None, not {value!r}"
        ) from problem
    return number


def seconds(name: str, value: object) -> float | None:
    """Read a time.

    Parameters
    ----------
    name : str
        The option.
    value : float or None
        Seconds, more than 0 and at most 1e9.

    Returns
    -------
    float or None
        Seconds; None for None.

    Raises
    ------
    TypeError
        It is no number.
    ValueError
        It is not in that range.
    """
    return _positive(name, value, "seconds", _MOST_SECONDS)


def cpus(name: str, value: object) -> float | None:
    """Read a number of CPUs.

    Parameters
    ----------
    name : str
        The option.
    value : float or None
        More than 0; fractions are allowed.

    Returns
    -------
    float or None
        CPUs; None for None.

    Raises
    ------
    TypeError
        It is no number.
    ValueError
        It is not more than 0, or not finite.
    """
    return _positive(name, value, "CPUs", _MOST_COUNT)


def weight(name: str, value: object) -> float | None:
    """Read a weight.

    Parameters
    ----------
    name : str
        The option.
    value : float or None
        From 0.01 to 100.

    Returns
    -------
    float or None
        The weight; None for None.

    Raises
    ------
    TypeError
        It is no number.
    ValueError
        It is not in that range.
    """
    if value is None:
        return None
    wanted = (
        f"{name} must be a number from {_LEAST_WEIGHT} to {_MOST_WEIGHT}, or None, not {value!r}"
    )
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(wanted)
    number = float(value)
    if not _LEAST_WEIGHT <= number <= _MOST_WEIGHT:  # not a number is neither
        raise ValueError(wanted)
    return number


def count(name: str, value: object, least: int) -> int | None:
    """Read a count.

    Parameters
    ----------
    name : str
        The option.
    value : int or None
        A whole number.
    least : int
        The least that can be used.

    Returns
    -------
    int or None
        The count; None for None.

    Raises
    ------
    TypeError
        It is no whole number.
    ValueError
        It is too small or too large.
    """
    if value is None:
        return None
    wanted = f"{name} must be a whole number from {least} on, or None, not {value!r}"
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(wanted)
    number = int(value)
    if not least <= number <= _MOST_COUNT:
        raise ValueError(wanted)
    return number


def _positive(name: str, value: object, unit: str, most: float) -> float | None:
    if value is None:
        return None
    wanted = f"{name} must be a positive number of {unit}, or None, not {value!r}"
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(wanted)
    number = float(value)
    if not 0 < number <= most:  # not a number is neither
        raise ValueError(wanted)
    return number


def _written_size(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    unit = _UNITS.get(found[2].lower())
    # Exact: as floats, large sizes would be rounded.
    return None if unit is None else int(Fraction(found[1]) * unit)


def _whole(value: Real) -> int | None:
    number = value if isinstance(value, Integral) else float(value)
    return int(number) if math.isfinite(number) else None
