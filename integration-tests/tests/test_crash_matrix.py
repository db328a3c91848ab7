"""Every way a task can end badly: what the user gets, and that only he gets it."""

import multiprocessing
import os
import signal
import sys
import threading
import types
from pathlib import Path

import pytest
import tasks
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from support.agents import Agent
from support.waiting import Stopwatch, until
from support.witness import Witness

import joblib_clutch
from joblib_clutch import exceptions as errors


class Case(dict):
    """A payload, the exception it becomes, and what that carries."""

    def __init__(self, task, raised, **expected):
        super().__init__(task=task, raised=raised, **expected)


def crash(task, **evidence):
    return Case(task, errors.WorkerCrashedError, kind="WORKER_CRASHED", **evidence)


def local_module_task():
    """Return a task of a module that only this process has."""
    module = types.ModuleType("only_at_the_driver")
    exec("def task(): return 1", module.__dict__)
    sys.modules[module.__name__] = module
    return delayed(module.task)()


CASES = {
    "raises": Case(
        delayed(tasks.raise_value_error)("bad", 7),
        ValueError,
        args=("bad", 7),
        cause="in raise_value_error",
    ),
    "raises with an odd constructor": Case(
        delayed(tasks.raise_odd)(),
        errors.RemoteError,
        kind="TASK_RAISED",
        type_name="tasks.OddError",
        text="x is 3",
        remote_traceback="in raise_odd",
    ),
    "raises what does not pickle": Case(
        delayed(tasks.raise_unpicklable)(),
        errors.RemoteError,
        type_name="ValueError",
        text="has a lock",
        remote_traceback="in raise_unpicklable",
    ),
    "recurses for ever": Case(
        delayed(tasks.recurse)(), RecursionError, cause="in recurse", text="maximum recursion"
    ),
    "sys.exit(3)": Case(
        delayed(tasks.exit_with)(3), errors.TaskExitedError, exit_code=3, kind="TASK_EXITED"
    ),
    "sys.exit(text)": Case(
        delayed(tasks.exit_with)("enough"), errors.TaskExitedError, exit_code=1, text="enough"
    ),
    "os._exit(0)": crash(delayed(tasks.exit_hard)(0), exit_code=0, signal=None),
    "os._exit(7)": crash(delayed(tasks.exit_hard)(7), exit_code=7, signal=None),
    "segfault": crash(
        delayed(tasks.segfault)(),
        signal=signal.SIGSEGV,
        text="SIGSEGV (11)",
        stderr_tail=("Segmentation fault", "in segfault"),
    ),
    "abort": crash(
        delayed(tasks.abort)(), signal=signal.SIGABRT, text="SIGABRT", stderr_tail="in abort"
    ),
    # The kernel does not tell who sent it.
    "SIGKILL": Case(
        delayed(tasks.kill_self)(),
        errors.WorkerKilledError,
        kind="WORKER_KILLED",
        signal=signal.SIGKILL,
        text="SIGKILL (9) from outside",
        attempt=3,
    ),
    "closes all descriptors": crash(delayed(tasks.close_descriptors)(), fault="TASK"),
    "argument does not pickle": Case(
        delayed(tasks.double)({"model": [1, {"lock": threading.Lock()}]}),
        errors.ArgumentPickleError,
        text="args[0]['model'][1]['lock']",
        type_name="_thread.lock",
        task_index=0,
    ),
    "result does not pickle": Case(
        delayed(tasks.return_lock)(),
        errors.ResultPickleError,
        kind="RESULT_UNPICKLABLE",
        text="_thread.lock",
        task_index=0,
    ),
    "result does not load at the driver": Case(
        delayed(tasks.return_what_fails_to_load)(),
        errors.ResultUnpickleError,
        text="LookupError: not in this process",
    ),
    "module missing at the worker": Case(
        local_module_task(), errors.ArgumentUnpickleError, text="only_at_the_driver"
    ),
    "BaseException": Case(delayed(tasks.raise_error)(GeneratorExit("odd")), GeneratorExit),
    # joblib retrieves results in a generator, where StopIteration becomes this.
    "StopIteration": Case(delayed(tasks.raise_error)(StopIteration(4)), RuntimeError, cause="4"),
    "KeyboardInterrupt": Case(
        delayed(tasks.raise_keyboard_interrupt)(),
        KeyboardInterrupt,
        cause="in raise_keyboard_interrupt",
    ),
}

# What happens before a worker has the batch leaves no row in the report.
NEVER_SENT = (errors.ArgumentPickleError,)


@pytest.fixture(scope="module")
def agent():
    with Agent("--slots", "3") as agent:
        yield agent


@pytest.fixture(scope="module")
def witness(agent):
    with Witness(agent) as witness:
        yield witness


def raised_by(task, agent, **options):
    """Run the task between others, and return what the call raised."""
    work = [delayed(tasks.double)(1), task, *(delayed(tasks.double)(i) for i in range(2, 6))]
    run = Parallel(n_jobs=2, backend="clutch", agents=agent.address, batch_size=1, **options)
    try:
        pytest.fail(f"returned {run(work)}")
    except BaseException as error:
        return error


def check(error, expected):
    shown = f"{type(error).__name__}: {error}\ncause: {error.__cause__}\n{vars(error)}"
    assert type(error) is expected["raised"], shown
    for name, value in expected.items():
        if name in {"task", "raised"}:
            continue
        if name == "text":
            assert value in str(error), shown
        elif name == "cause":
            assert value in str(error.__cause__), shown
        elif name in {"stderr_tail", "remote_traceback"}:
            for part in (value,) if isinstance(value, str) else value:
                assert part in getattr(error, name), shown
        else:
            assert getattr(error, name) == value, (name, shown)


def check_neighbours(agent, witness, before):
    """Check that the next call works at once and another session noticed nothing."""
    with Stopwatch() as watch:
        run = Parallel(n_jobs=2, backend="clutch", agents=agent.address)
        assert run(delayed(tasks.double)(i) for i in range(4)) == [0, 2, 4, 6]
    assert watch.seconds < 2
    witness.check(before)


@pytest.mark.parametrize("name", CASES)
def test_a_task_that(name, agent, witness):
    before = witness.turn()
    error = raised_by(CASES[name]["task"], agent)
    check(error, CASES[name])
    outcomes = [row.outcome for row in joblib_clutch.last_report().rows]
    failed = [outcome for outcome in outcomes if outcome not in {"OK", "CANCELLED"}]
    # A result that the driver cannot load was one to the agent.
    well = isinstance(error, (*NEVER_SENT, errors.ResultUnpickleError))
    assert len(failed) == (0 if well else 1), outcomes
    check_neighbours(agent, witness, before)


def test_every_crash_is_also_what_joblib_raises_for_it(agent):
    error = raised_by(delayed(tasks.segfault)(), agent)
    assert isinstance(error, TerminatedWorkerError)
    assert error.fault == "TASK"
    assert error.host == os.uname().nodename
    assert "segfault" in error.function
    assert error.pid
    assert error.pid not in agent.workers()
    assert f"worker {error.pid} was killed by SIGSEGV (11) while it ran task 0 of 1" in str(error)


def test_the_task_of_a_large_batch_that_crashed_is_named(agent):
    work = [delayed(tasks.double)(i) for i in range(20)]
    work[6] = delayed(tasks.exit_hard)(7)
    run = Parallel(2, backend="clutch", agents=agent.address, batch_size=10, pre_dispatch="all")
    with pytest.raises(errors.WorkerCrashedError) as caught:
        run(work)
    assert caught.value.task_index == 6
    assert "task 6 of 10" in str(caught.value)
    assert "exit_hard" in str(caught.value)


@pytest.mark.parametrize("close", [tasks.close_stdout, tasks.close_stdout_descriptor])
def test_a_task_may_close_its_standard_output(close, agent, witness):
    before = witness.turn()
    run = Parallel(n_jobs=2, backend="clutch", agents=agent.address, batch_size=1)
    assert run(delayed(close)() for _ in range(2)) == [5, 5]
    check_neighbours(agent, witness, before)


def test_an_initializer_that_raises_fails_the_call_and_nothing_else(agent, witness):
    before = witness.turn()
    error = raised_by(
        delayed(tasks.double)(1),
        agent,
        initializer=tasks.raise_value_error,
        initargs=("cannot start", 1),
    )
    assert type(error) is errors.InitializerError, error
    assert isinstance(error.__cause__, ValueError), error
    assert error.__cause__.args == ("cannot start", 1)
    assert "in raise_value_error" in str(error.__cause__.__cause__)
    assert error.kind == "INITIALIZER_FAILED"
    check_neighbours(agent, witness, before)


@pytest.mark.parametrize(
    ("task", "frame"),
    [(tasks.sleep_long, "in sleep_long"), (tasks.hold_the_gil, "in hold_the_gil")],
    ids=["sleeps", "holds the interpreter lock"],
)
def test_a_task_over_its_time_limit_that(task, frame, agent, witness):
    before = witness.turn()
    with Stopwatch() as watch:
        error = raised_by(delayed(task)(), agent, task_timeout=0.5)
    assert type(error) is errors.TimeLimitError, error
    assert isinstance(error, TimeoutError)
    assert frame in error.stderr_tail, error
    assert error.task_index == 0
    assert "0.5 s" in str(error)
    assert 0.5 <= watch.seconds < 2.5
    assert error.pid not in agent.workers()
    check_neighbours(agent, witness, before)


def test_a_time_limit_is_for_each_task_not_for_the_call(agent):
    run = Parallel(
        n_jobs=2,
        backend="clutch",
        agents=agent.address,
        task_timeout=0.5,
        batch_size=10,
        pre_dispatch="all",
    )
    pids = run(delayed(tasks.pid_after)(0.1) for _ in range(20))
    assert len(pids) == 20
    assert [row.tasks for row in joblib_clutch.last_report().rows] == [10, 10]


def test_the_timeout_of_a_call_kills_its_tasks_and_frees_their_slots(agent, witness, gate):
    before = witness.turn()
    with Stopwatch() as watch, pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, backend="clutch", agents=agent.address, timeout=0.5)(
            delayed(tasks.write_pid_and_sleep)(gate) for _ in range(4)
        )
    assert watch.seconds < 2.5
    victims = [int(path.read_text()) for path in Path(gate).parent.glob("gate.*")]
    assert len(victims) == 2
    until(agent.workers, lambda pids: not set(victims) & set(pids), seconds=1)
    check_neighbours(agent, witness, before)
