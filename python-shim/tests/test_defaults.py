"""What joblib gets without asking for it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import joblib
import pytest
from joblib import Parallel, delayed, parallel_config

from joblib_clutch import ClutchBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_agent import FakeAgent


def test_as_joblibs_default_it_gives_nobody_workers_who_did_not_ask(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib.parallel, "DEFAULT_BACKEND", "clutch")
    assert type(Parallel()._backend) is ClutchBackend
    assert Parallel().n_jobs == 1
    assert joblib.effective_n_jobs(None) == 1
    assert Parallel()(delayed(abs)(i) for i in range(3)) == [0, 1, 2]
    assert agent.requests == []
    with parallel_config("clutch", agents=agent.address):
        assert Parallel().n_jobs == -1


@pytest.mark.parametrize(("n_jobs", "at_once", "sharing"), [(-1, 0, 0), (-2, 1, 2), (5, 5, 5)])
def test_cores_are_divided_among_as_many_workers_as_joblib_counts(
    start_agent: Callable[..., FakeAgent], n_jobs: int, at_once: int, sharing: int
) -> None:
    agent = start_agent(slots=2)
    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=n_jobs)(delayed(abs)(i) for i in range(3))
    assert agent.sent("open_call")[0].max_running == at_once
    assert agent.sent("define_profile")[0].workers == sharing


def test_importing_it_leaves_the_environment_as_it_was() -> None:
    code = "import os; before = dict(os.environ); import joblib_clutch; assert os.environ == before"
    # No shell, and a constant program.
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
