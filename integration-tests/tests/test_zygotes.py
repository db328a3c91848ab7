"""Zygotes: where workers come from, also when something is wrong with them."""

import ctypes
import platform

import pytest
import tasks
from joblib import Parallel, delayed
from support import processes
from support.agents import LIGHT_WARM, Agent, clean_environment
from support.waiting import until

from joblib_clutch import exceptions
from joblib_clutch.session import Session
from joblib_clutch.settings import Lease


def pids(agent, **options):
    """Return the workers that ran some tasks of 10 ms."""
    run = Parallel(2, backend="clutch", agents=agent.address, batch_size=1, **options)
    return set(run(delayed(tasks.pid_after)(0.01) for _ in range(8)))


def test_a_zygote_that_is_killed_is_replaced_and_running_tasks_go_on(gate):
    with Agent("--slots", "2") as agent:
        run = Parallel(2, backend="clutch", agents=agent.address, return_as="generator")
        results = run(delayed(tasks.wait_for)(gate, i) for i in range(2))
        busy = until(agent.busy, lambda busy: len(busy) == 2)
        (zygote,) = agent.zygotes()
        processes.kill(zygote)
        until(lambda: processes.is_alive(zygote), lambda alive: not alive)
        for pid in busy:
            assert processes.is_alive(pid), "a worker must not die with its zygote"
        tasks.open_gate(gate)
        assert list(results) == [0, 1]
        others = pids(agent, initializer=tasks.set_environment, initargs=("TEST_VALUE", "1"))
        assert not others & set(busy)
        assert agent.zygotes() not in ([], [zygote])


def test_a_warm_module_that_starts_a_thread_costs_the_warmth_and_nothing_else(tmp_path):
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}"
    warm = (*LIGHT_WARM, "starts_a_thread")
    with Agent("--log", "warn", warm=warm, environment=environment) as agent:
        assert len(pids(agent)) == 2
        until(agent.stderr, lambda text: "the zygote has 2 threads" in text)


def test_a_warm_module_that_cannot_be_imported_is_told_and_skipped(tmp_path):
    (tmp_path / "breaks.py").write_text("raise RuntimeError('broken on purpose')\n")
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}"
    warm = (*LIGHT_WARM, "breaks", "is_not_there")
    with Agent("--log", "info", warm=warm, environment=environment) as agent:
        assert len(pids(agent)) == 2
        (served,) = agent.status().environments
        assert sorted(served.warm_modules) == sorted(LIGHT_WARM)
        assert "broken on purpose" in agent.stderr()


def test_idle_workers_killed_from_outside_are_replaced(shared_agent):
    victims = pids(shared_agent)
    for victim in victims:
        processes.kill(victim)
    until(shared_agent.workers, lambda left: not set(left) & victims, seconds=2)
    successors = pids(shared_agent)
    assert not successors & victims
    assert pids(shared_agent) == successors


def test_workers_are_forked_and_share_the_memory_of_their_imports():
    with Agent(warm=(*LIGHT_WARM, "numpy")) as agent:
        assert len(pids(agent)) == 2
        (zygote,) = agent.zygotes()
        for worker in agent.workers():
            own = processes.private_bytes(worker)
            assert own < processes.resident_bytes(zygote) / 2, (own, worker)


def test_a_zygote_that_did_not_start_is_tried_again(tmp_path):
    """The interpreter host is missing something at first, and repaired later."""
    broken = tmp_path / "broken"
    broken.touch()
    library = tmp_path / "lib"
    library.mkdir()
    module = library / "breaks_while_asked.py"
    module.write_text(f"import os\nif os.path.exists({str(broken)!r}): os._exit(9)\n")
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{library}:{environment.get('PYTHONPATH', '')}"
    warm = ("cloudpickle", "joblib", "breaks_while_asked")
    with Agent(warm=warm, environment=environment) as agent:
        for _ in range(2):
            with pytest.raises(exceptions.WorkerStartError, match="exited with code 9") as seen:
                Session(agent.address, Lease(), dict)
            assert seen.value.fault == "AGENT"
        broken.unlink()
        assert pids(agent)


def test_a_zygote_that_takes_too_long_names_the_setting():
    with (
        Agent("--start-seconds", "0.001") as agent,
        pytest.raises(exceptions.WorkerStartError, match=r"`start-seconds` = 0\.001"),
    ):
        Session(agent.address, Lease(), dict)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_the_kernel_knows_the_restartable_sequences_of_a_worker(shared_agent):
    library = ctypes.CDLL(None)
    if not hasattr(library, "__rseq_size") or not tasks.register_rseq():
        pytest.skip("this C library or kernel has none")
    run = Parallel(2, backend="clutch", agents=shared_agent.address)
    assert all(run(delayed(tasks.register_rseq)() for _ in range(2)))
