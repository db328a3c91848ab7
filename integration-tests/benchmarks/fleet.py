"""The drivers of a run: started when first needed, asked in turn, replaced when they fail."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from model import Mode
from processes import FOLDER, ProcessFailedError, Talker
from service import Service

if TYPE_CHECKING:
    from backends import Backend
    from model import Figures, Scenario

_START_SECONDS = 90


class Fleet:
    """All drivers and services. Use it in a ``with`` block: it ends them.

    Parameters
    ----------
    quick : bool
        Whether this is a smoke test.
    """

    def __init__(self, *, quick: bool) -> None:
        self._quick = quick
        self._drivers: dict[str, Talker] = {}
        self._services: dict[str, Service] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self._drivers.values():
            driver.end()
        for service in self._services.values():
            service.__exit__()

    def measure(self, scenario: Scenario, backend: Backend) -> Figures:
        """Run one round of a scenario on a backend.

        Raises
        ------
        ProcessFailedError
            The backend failed, or took longer than the scenario's cap.
        """
        if scenario.mode in {Mode.COLD, Mode.SERVED}:
            return self._first_calls(scenario, backend)
        if scenario.mode is Mode.FRESH:
            driver = _start(backend)
            try:
                return self._ask(driver, scenario, backend)
            finally:
                driver.end()
        driver = self._driver(backend)
        try:
            return self._ask(driver, scenario, backend)
        except ProcessFailedError:
            # Late answers must not be taken for those of the next scenario.
            self._drivers.pop(backend.name).end(politely=False)
            raise

    def _ask(self, driver: Talker, scenario: Scenario, backend: Backend) -> Figures:
        size = scenario.sizes.of(backend.pace, quick=self._quick)
        driver.send({"scenario": scenario.name, "size": size})
        answer = driver.answer(scenario.cap_seconds)
        if "failed" in answer:
            raise ProcessFailedError(answer["failed"])
        figures: Figures = answer["figures"]
        return figures

    def _driver(self, backend: Backend) -> Talker:
        if backend.name not in self._drivers:
            self._drivers[backend.name] = _start(backend)
        return self._drivers[backend.name]

    def _first_calls(self, scenario: Scenario, backend: Backend) -> Figures:
        arguments: list[str] = []
        if scenario.mode is Mode.SERVED and backend.has_service:
            arguments = [self._service(backend).address]
        script = str(FOLDER / "first_call.py")
        command = [sys.executable, script, backend.name, str(time.monotonic()), *arguments]
        driver = Talker(command, dict(backend.environment))
        try:
            return driver.answer(scenario.cap_seconds)
        finally:
            driver.end()

    def _service(self, backend: Backend) -> Service:
        if backend.name not in self._services:
            self._services[backend.name] = Service(backend)
        return self._services[backend.name]


def _start(backend: Backend) -> Talker:
    command = [sys.executable, str(FOLDER / "driver.py"), backend.name]
    driver = Talker(command, dict(backend.environment))
    try:
        ready: dict[str, Any] = driver.answer(_START_SECONDS)
        assert ready.get("ready"), ready
    except BaseException:
        with contextlib.suppress(Exception):
            driver.end(politely=False)
        raise
    return driver
