"""Everything that is measured, in the order in which it is reported."""

from scenarios import closures, cold, data, latency, learn, tiny

ALL = (
    *tiny.SCENARIOS,
    *latency.SCENARIOS,
    *cold.SCENARIOS,
    *data.SCENARIOS,
    *closures.SCENARIOS,
    *learn.SCENARIOS,
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
