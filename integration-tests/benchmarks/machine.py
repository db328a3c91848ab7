"""Says where and with what a run was made."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "joblib-clutch",
    "joblib",
    "numpy",
    "scikit-learn",
    "ray",
    "distributed",
    "joblibspark",
    "pyspark",
)


def about(rounds: int) -> dict[str, Any]:
    """Return the machine, the versions, the date and the number of rounds."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "rounds": rounds,
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        # What follows the dash is who built it.
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def in_words(facts: dict[str, Any]) -> str:
    """Return what `about` found as a sentence."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['date']}; {facts['cpus']} CPUs ({facts['processor']}), {facts['memory_gb']} GB,"
        f" Linux {facts['kernel']}, load {facts['load_before']} before; Python {facts['python']},"
        f" {packages}; n_jobs=2, {facts['rounds']} rounds."
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
