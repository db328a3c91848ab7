"""Measures Clutch against loky in one run: interleaved rounds, medians, ratios.

Absolute figures depend on the machine and on what else it does; compare the
ratios. Run it with ``make bench``.
"""

import argparse
import os
import platform
import statistics

import joblib
import scenarios

import joblib_clutch

BACKENDS = ("clutch", "loky")


def measure(scenario, backend):
    with joblib.parallel_config(backend=backend, n_jobs=scenarios.N_JOBS):
        return scenario()


def rounds_of(scenario, rounds):
    """Measure every backend in turn, so that a slow moment of the machine hits all."""
    for backend in BACKENDS:
        measure(scenario, backend)  # starts workers and fills caches
    figures = {backend: [] for backend in BACKENDS}
    for _ in range(rounds):
        for backend in BACKENDS:
            figures[backend].append(measure(scenario, backend))
    return figures


def row(scenario, more_is_better, figures):
    medians = {backend: statistics.median(values) for backend, values in figures.items()}
    pairs = zip(figures["clutch"], figures["loky"], strict=True)
    ratios = [ours / theirs if more_is_better else theirs / ours for ours, theirs in pairs]
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    return (
        f"{scenario.__doc__:<72}{medians['clutch']:>12.4g}{medians['loky']:>12.4g}"
        f"{statistics.median(ratios):>8.2f}  {spread}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: 5)")
    rounds = parser.parse_args().rounds
    print(
        f"clutch {joblib_clutch.__version__}, joblib {joblib.__version__}, Python"
        f" {platform.python_version()}, {os.cpu_count()} CPUs, n_jobs={scenarios.N_JOBS},"
        f" {rounds} rounds; better than loky: ratio above 1\n"
    )
    print(f"{'scenario':<72}{'clutch':>12}{'loky':>12}{'ratio':>8}  spread")
    for scenario, more_is_better in scenarios.SCENARIOS.items():
        print(row(scenario, more_is_better, rounds_of(scenario, rounds)), flush=True)


if __name__ == "__main__":
    main()
