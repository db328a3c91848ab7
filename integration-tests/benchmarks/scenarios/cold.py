"""New drivers: how long the first result takes. The work itself is in `first_call.py`."""

from __future__ import annotations

from model import Mode, Row, Scenario

SCENARIOS = (
    Scenario(
        "cold",
        mode=Mode.COLD,
        rows=(
            Row("total", "cold start to the first result, task imports sklearn.ensemble", "s"),
            Row("beyond_imports", "... beyond the driver's own imports", "s"),
            Row("second_call", "... second call in the same driver", "s"),
        ),
    ),
    Scenario(
        "served",
        mode=Mode.SERVED,
        rows=(
            Row("total", "the same while the service is up; without one: cold", "s"),
            Row("beyond_imports", "... beyond the driver's own imports", "s"),
        ),
    ),
)
