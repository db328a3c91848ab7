"""Every row of the matrix has a test, and every test that a row names is there."""

import re
from pathlib import Path

import network_rows
import pytest
import rows

HERE = Path(__file__).parent
TESTS = HERE.parent
FILES = [
    *HERE.glob("test_fault_*.py"),
    *(TESTS / "network").glob("test_*.py"),
    TESTS / "test_broadcast.py",
    TESTS / "test_resume.py",
    TESTS / "test_versions.py",
    TESTS / "test_clocks.py",
]
SOURCES = "\n".join(path.read_text() for path in FILES)
ROWS = rows.ROWS | network_rows.ROWS
# `def test_t01_...`, also `def test_l01_and_l06_...`; and cases with ids like "L12 spins".
NAMED = {
    number.upper()
    for name in re.findall(r"^def test_([a-z0-9_]+)\(", SOURCES, re.MULTILINE)
    for number in re.findall(r"(?:^|_and_)([tlasxnvc]\d\d)(?=_)", name)
} | set(re.findall(r'"([TLASXNVC]\d\d) [^"]+"', SOURCES))


def test_the_list_is_complete():
    counts = {"T": 24, "L": 20, "A": 13, "N": 14, "S": 19, "V": 4, "C": 2, "X": 2}
    for letter, count in counts.items():
        expected = [f"{letter}{number:02}" for number in range(1, count + 1)]
        assert sorted(number for number in ROWS if number[0] == letter) == expected


def test_every_test_is_of_a_row():
    assert set(ROWS) >= NAMED


@pytest.mark.parametrize("number", ROWS)
def test_a_row_has_a_test_that_is_there(number):
    row = ROWS[number]
    assert number in NAMED or row.elsewhere or row.untested, "nobody holds it"
    assert not (row.untested and (number in NAMED or row.elsewhere)), "it is tested after all"
    for test in row.elsewhere:
        file, _, name = test.partition("::")
        name, _, case = name.partition("[")
        in_rust = file.endswith(".rs")
        source = ((HERE.parents[2] if in_rust else HERE.parent) / file).read_text()
        assert f"{'fn' if in_rust else 'def'} {name}" in source, test
        assert f'"{case.rstrip("]")}"' in source or not case, test
