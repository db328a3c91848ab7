"""Tasks that do nothing: what a task and a batch cost."""

from __future__ import annotations

import os
import time

from joblib import Parallel, delayed
from measure import agent_of, cpu_seconds, own_cpu_seconds, seconds_of, tree, tree_cpu_seconds
from model import N_JOBS, Figures, Row, Scenario, Sizes
from workload import nothing


def one_by_one(tasks: int) -> Figures:
    """Run tasks in batches of one."""
    pid = os.getpid()
    agent = agent_of(tree(pid))
    whole, own = tree_cpu_seconds(pid), own_cpu_seconds()
    agents = cpu_seconds(agent) if agent else 0.0
    begin = time.perf_counter()
    Parallel(n_jobs=N_JOBS, batch_size=1)(delayed(nothing)(i) for i in range(tasks))
    elapsed = time.perf_counter() - begin
    figures = {
        "rate": tasks / elapsed,
        "driver_cpu": (own_cpu_seconds() - own) / tasks * 1e6,
        "tree_cpu": (tree_cpu_seconds(pid) - whole) / tasks * 1e6,
    }
    if agent:
        figures["agent_cpu"] = (cpu_seconds(agent) - agents) / tasks * 1e6
    return figures


def auto(tasks: int) -> Figures:
    """Run tasks in batches of the size that joblib chooses."""
    calls = (delayed(nothing)(i) for i in range(tasks))
    return {"rate": tasks / seconds_of(lambda: Parallel(n_jobs=N_JOBS)(calls))}


SCENARIOS = (
    Scenario(
        "tiny",
        run=one_by_one,
        sizes=Sizes(fast=4_000, slow=400, crawling=30, quick=300),
        references=("floor",),
        rows=(
            Row("rate", "tiny tasks, batches of one", "tasks/s", True, limit="floor.rate"),
            Row("driver_cpu", "... driver's CPU per task", "µs", limit="floor.driver_cpu"),
            Row("tree_cpu", "... CPU per task of all processes", "µs", limit="floor.tree_cpu"),
            Row("agent_cpu", "... agent's CPU per task", "µs"),
        ),
    ),
    Scenario(
        "auto",
        run=auto,
        sizes=Sizes(fast=200_000, slow=20_000, crawling=30, quick=5_000),
        references=("floor",),
        rows=(Row("rate", "tiny tasks, batches by joblib", "tasks/s", True, limit="floor.rate"),),
    ),
)
