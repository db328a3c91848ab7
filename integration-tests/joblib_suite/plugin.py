"""Runs joblib's tests on Clutch; loaded by ``pytest -p plugin``."""

import json
import re
import tomllib
from collections import Counter
from multiprocessing.context import BaseContext
from pathlib import Path

import joblib
import pytest
from joblib.parallel import ParallelBackendBase

from joblib_clutch import ClutchBackend

# Names that joblib's tests give to backends; "spawn" is multiprocessing with
# another start method, "back_compat_backend" a subclass of ours.
OTHERS = frozenset({"loky", "multiprocessing", "sequential", "spawn", "threading"})
OURS = frozenset({"back_compat_backend", "clutch"})
EXCLUSIONS = Path(__file__).with_name("exclusions.toml")


class Exclusions:
    """The listed tests that are expected to fail with this version of joblib."""

    def __init__(self) -> None:
        entries = tomllib.loads(EXCLUSIONS.read_text())["exclusion"]
        version = ".".join(joblib.__version__.split(".")[:2])
        self._reasons = {
            entry["test"]: entry["reason"] for entry in entries if version in entry["versions"]
        }
        self._idle = set(self._reasons)

    def apply(self, item: pytest.Item) -> None:
        """Expect a test to fail when it is listed."""
        for pattern, reason in self._reasons.items():
            if re.fullmatch(pattern, item.name):
                self._idle.discard(pattern)
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def check(self) -> None:
        """Refuse entries that match nothing."""
        if self._idle:
            raise pytest.UsageError(f"exclusions that match no test: {sorted(self._idle)}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file for the results."""
    parser.addoption("--counts", help="write the numbers of results to this file, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Count results when somebody wants to know."""
    config.addinivalue_line("markers", "no_cover: joblib's own")
    config.addinivalue_line("markers", "thread_unsafe: joblib's own")
    if config.option.counts:
        config.pluginmanager.register(Counts(Path(config.option.counts)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of other backends, and mark the exclusions."""
    others = [item for item in items if is_about_others(item)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)
    exclusions = Exclusions()
    for item in items:
        exclusions.apply(item)
    if not config.option.keyword and not any("::" in argument for argument in config.args):
        exclusions.check()


def is_about_others(item: pytest.Item) -> bool:
    """Tell whether a case names backends, and none of them is ours."""
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


class Counts:
    """Counts the tests by their ending."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._endings: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the result of a test's setup, call or teardown."""
        if report.failed:
            self._endings[report.nodeid] = "failed"
        elif report.skipped:
            self._endings[report.nodeid] = "skipped"
        elif report.when == "call":
            self._endings[report.nodeid] = "passed"

    def pytest_sessionfinish(self) -> None:
        """Write the numbers."""
        self._file.write_text(json.dumps(Counter(self._endings.values())))
