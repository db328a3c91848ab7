"""Runs joblib's tests on Clutch; loaded by ``pytest -p plugin``."""

import json
import re
import sys
from collections import Counter
from inspect import getsource
from multiprocessing.context import BaseContext
from pathlib import Path

import joblib
import pytest
from joblib.parallel import ParallelBackendBase

from joblib_clutch import ClutchBackend

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

# Names that the tests give to backends; "spawn" is multiprocessing with another
# start method, "back_compat_backend" a subclass of ours.
OTHERS = frozenset({"loky", "multiprocessing", "sequential", "spawn", "threading"})
OURS = frozenset({"back_compat_backend", "clutch"})


class Exclusions:
    """The listed tests, for the version of joblib that is installed."""

    def __init__(self) -> None:
        file = Path(__file__).with_name("exclusions.toml")
        version = ".".join(joblib.__version__.split(".")[:2])
        entries = tomllib.loads(file.read_text())["exclusion"]
        self._entries = [entry for entry in entries if version in entry["versions"]]
        self._used: set[str] = set()

    def apply(self, item: pytest.Item) -> bool:
        """Mark a test that is listed; tell whether it is."""
        for entry in self._entries:
            if re.fullmatch(entry["test"], item.name):
                self._used.add(entry["test"])
                vacuous = entry.get("vacuous", False)
                mark = pytest.mark.skip if vacuous else pytest.mark.xfail(strict=True)
                item.add_marker(mark(reason=entry["reason"]))
                return True
        return False

    def check(self) -> None:
        """Refuse entries that match nothing."""
        idle = [entry["test"] for entry in self._entries if entry["test"] not in self._used]
        if idle:
            raise pytest.UsageError(f"exclusions that match no test: {', '.join(idle)}")


class Counts:
    """Counts the tests by their ending."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._endings: dict[str, str] = {}
        self._others = 0
        self.excluded: set[str] = set()

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Take note of cases that are not run."""
        self._others += len(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the result of a test's setup, call or teardown."""
        if report.failed:
            self._endings[report.nodeid] = "failed"
        elif report.skipped:
            ending = "excluded" if report.nodeid in self.excluded else "skipped"
            self._endings[report.nodeid] = ending
        elif report.when == "call":
            self._endings[report.nodeid] = "passed"

    def pytest_sessionfinish(self) -> None:
        """Write the numbers."""
        counts = Counter(self._endings.values())
        self._file.write_text(json.dumps({**counts, "others": self._others}))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file for the numbers."""
    parser.addoption("--counts", type=Path, required=True, help="file for the numbers, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Count, and know joblib's own markers."""
    config.pluginmanager.register(Counts(config.option.counts), "counts")
    config.addinivalue_line("markers", "no_cover: joblib's own")
    config.addinivalue_line("markers", "thread_unsafe: joblib's own")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of other backends, and mark the exclusions."""
    others = [item for item in items if is_about_others(item)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)
    exclusions, counts = Exclusions(), config.pluginmanager.get_plugin("counts")
    counts.excluded.update(item.nodeid for item in items if exclusions.apply(item))
    # Without tests there is another error to tell about.
    if items:
        exclusions.check()


def is_about_others(item: pytest.Item) -> bool:
    """Tell whether a case names backends, and none of them is ours, or needs none."""
    if item.path.name == "test_memmapping.py" and "Parallel(" not in getsource(item.function):
        return True  # about joblib's own pools and reducers
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    named = [is_ours(value) for value in parameters]
    return False in named and True not in named


def is_ours(value: object) -> bool | None:
    """Tell whose backend a parameter names; None: it names none."""
    if isinstance(value, ParallelBackendBase):
        return isinstance(value, ClutchBackend)
    if isinstance(value, BaseContext) or (isinstance(value, str) and value in OTHERS):
        return False
    return True if isinstance(value, str) and value in OURS else None
