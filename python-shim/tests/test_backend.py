"""joblib's verbs against a fake agent."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any

import joblib
import pytest
from clutch_wire.clutch.v1 import failure_pb2
from fake_agent import FakeAgent, TaskFailureError
from joblib import Parallel, delayed, parallel_config

import joblib_clutch
from joblib_clutch import connections
from joblib_clutch import exceptions as errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RELEASE = threading.Event()


def double(value: int) -> int:
    return 2 * value


def fail(value: int) -> int:
    raise ZeroDivisionError(value)


def wait_for_release() -> None:
    RELEASE.wait(20)


def crash() -> None:
    raise TaskFailureError(
        failure_pb2.FAILURE_KIND_WORKER_CRASHED,
        message="the worker died",
        task_index=0,
        signal=11,
    )


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    RELEASE.clear()
    yield
    RELEASE.set()


def test_results_come_in_order(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address):
        assert Parallel(n_jobs=2)(delayed(double)(i) for i in range(50)) == [
            2 * i for i in range(50)
        ]


def test_default_n_jobs_is_all_slots_and_a_context_uses_it(
    start_agent: Callable[..., FakeAgent],
) -> None:
    agent = start_agent(slots=3)
    with parallel_config("clutch", agents=agent.address):
        assert joblib.effective_n_jobs(-1) == 3
        assert joblib.effective_n_jobs(-2) == 2
        Parallel()(delayed(double)(i) for i in range(3))
    assert agent.sent("open_call")[0].max_running == 0


def test_one_slot_still_runs_on_the_agent(start_agent: Callable[..., FakeAgent]) -> None:
    agent = start_agent(slots=1)
    with parallel_config("clutch", agents=agent.address):
        assert joblib.effective_n_jobs(-1) == 2
        Parallel(n_jobs=-2)(delayed(double)(i) for i in range(3))
    assert agent.sent("open_call")[0].max_running == 1


def test_n_jobs_one_runs_here(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address, n_jobs=1):
        assert Parallel()(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
    assert agent.requests == []


def test_n_jobs_zero_has_no_meaning(agent: FakeAgent) -> None:
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"),
    ):
        Parallel(n_jobs=0)(delayed(double)(i) for i in range(3))


def test_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match=r"'agent'.*agents"):
        joblib_clutch.ClutchBackend(agent="unix:/nowhere")


@pytest.mark.parametrize(
    ("agents", "error", "words"),
    [
        ([], ValueError, "must name an agent"),
        ([7], TypeError, "list of addresses"),
        (7, TypeError, "7"),
    ],
)
def test_agents_that_are_no_addresses_are_refused(
    agents: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        joblib_clutch.ClutchBackend(agents=agents)


def test_task_error_keeps_its_type_and_remote_traceback(agent: FakeAgent) -> None:
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(ZeroDivisionError) as caught,
    ):
        Parallel(n_jobs=2)(delayed(fail)(i) for i in range(4))
    assert "in fail" in str(caught.value.__cause__)


def test_crash_names_task_and_signal(agent: FakeAgent) -> None:
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.WorkerCrashedError) as caught,
    ):
        Parallel(n_jobs=2)(delayed(crash)() for _ in range(2))
    error = caught.value
    assert error.signal == 11
    assert error.host == "fakehost"
    assert "function crash" in str(error)
    assert "SIGSEGV" in str(error)


def test_unpicklable_argument_is_found(agent: FakeAgent) -> None:
    lock = threading.Lock()
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.ArgumentPickleError, match="the task to send") as caught,
    ):
        Parallel(n_jobs=2)(delayed(double)({"lock": lock}) for _ in range(4))
    assert "args[0]['lock']" in str(caught.value)


def test_unpicklable_argument_late_in_the_call_does_not_hang(agent: FakeAgent) -> None:
    def tasks() -> Iterator[Any]:
        yield from (delayed(double)(i) for i in range(20))
        yield delayed(double)(threading.Lock())

    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.ArgumentPickleError),
    ):
        Parallel(n_jobs=2, batch_size=1)(tasks())


def test_error_closes_the_call_and_the_backend_stays_usable(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address), Parallel(n_jobs=2) as parallel:
        before = parallel._backend._workers
        assert before is not None
        with pytest.raises(ZeroDivisionError):
            parallel(delayed(f)(*a) for f, a in [(wait_for_release, ()), (fail, (1,))] * 3)
        assert agent.closed_calls.acquire(timeout=10)
        assert parallel._backend._workers not in (None, before)
        RELEASE.set()
        assert parallel(delayed(double)(i) for i in range(5)) == [0, 2, 4, 6, 8]
    assert parallel._backend._workers is None
    assert agent.closed_calls.acquire(timeout=10)
    assert len(agent.sent("close_call")) == len(agent.sent("open_call")) == 2
    assert len(agent.requests) == 1


def test_leftovers_of_a_failed_call_do_not_reach_the_next(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address):
        parallel = Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                parallel(delayed(fail if i == 1 else double)(i) for i in range(100))
            assert parallel(delayed(double)(i) for i in range(5)) == [0, 2, 4, 6, 8]


def test_generators_of_one_context_live_side_by_side(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address):
        first = Parallel(n_jobs=2, return_as="generator", batch_size=1)(
            [delayed(double)(0), delayed(wait_for_release)()]
        )
        second = Parallel(n_jobs=2, return_as="generator")(delayed(double)(i) for i in range(10))
        assert next(first) == 0
        with pytest.warns(UserWarning, match="1 tasks which were still being processed"):
            first.close()
        assert list(second) == [2 * i for i in range(10)]


def test_large_payloads_go_and_come_in_parts(agent: FakeAgent) -> None:
    # Each argument is small enough to stay in its batch.
    data = [os.urandom((100 << 10) + i) for i in range(4 * 32)]
    with parallel_config("clutch", agents=agent.address):
        results = Parallel(n_jobs=2, batch_size=32)(delayed(bytes)(d) for d in data)
    assert results == data
    assert len(agent.sent("payload_part")) > 3


def test_no_more_batches_are_open_than_the_agent_allows(
    start_agent: Callable[..., FakeAgent],
) -> None:
    agent = start_agent(max_open_batches=3)
    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")(delayed(double)(i) for i in range(100))
    assert agent.most_open <= 3


def test_batch_over_the_quota_is_not_sent(start_agent: Callable[..., FakeAgent]) -> None:
    agent = start_agent(max_batch_bytes=1000)
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.QuotaExceededError, match="1000"),
    ):
        Parallel(n_jobs=2)(delayed(len)(bytes(2000)) for _ in range(2))
    assert agent.sent("submit_batch") == []


def test_lost_agent_fails_the_call(agent: FakeAgent) -> None:
    agent.on_batch = lambda conversation, _: conversation.outgoing.put(None)
    with parallel_config("clutch", agents=agent.address):
        with pytest.raises(errors.AgentUnavailableError, match="lost the agent"):
            Parallel(n_jobs=2)(delayed(double)(i) for i in range(10))
        agent.on_batch = None
        assert Parallel(n_jobs=2)(delayed(double)(i) for i in range(2)) == [0, 2]
    # Each batch is sent three times.
    assert len(agent.requests) == 4


def test_nobody_at_the_address() -> None:
    with (
        parallel_config("clutch", agents="unix-abstract:clutch-nobody"),
        pytest.raises(errors.AgentUnavailableError, match="clutch-nobody"),
    ):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))


def test_equal_profiles_share_workers_and_changed_ones_do_not(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address):
        for _ in range(2):
            Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))
    with parallel_config("clutch", agents=agent.address, initializer=double, initargs=(1,)):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))
    with parallel_config("clutch", agents=agent.address, inner_max_num_threads=3):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))
    profiles = agent.sent("define_profile")
    assert len(profiles) == 3
    assert profiles[2].variables["OMP_NUM_THREADS"] == "3"
    assert len({call.profile_id for call in agent.sent("open_call")}) == 3


def test_task_timeout_and_nesting_level_travel(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address, task_timeout=1.5):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))
    (call,) = agent.sent("open_call")
    assert (call.task_timeout_seconds, call.nesting_level) == (1.5, 1)


def test_refusal_lists_what_there_is(start_agent: Callable[..., FakeAgent]) -> None:
    from clutch_wire.clutch.v1 import executor_pb2 as wire

    agent = start_agent(
        refusal=wire.Refusal(
            kind=failure_pb2.FAILURE_KIND_ENVIRONMENT_MISMATCH,
            fault=failure_pb2.FAULT_DRIVER,
            message="no 3.9 here",
            advice="use another",
            available=[wire.Environment(python_version="3.12.1", executable="/opt/py")],
        )
    )
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.EnvironmentMismatchError, match=r"3\.12\.1 at /opt/py"),
    ):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))


def test_inside_a_worker_no_agent_is_asked(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUTCH_WORKER", "1")
    with parallel_config("clutch", agents=agent.address):
        assert Parallel().n_jobs == 1
        assert joblib.effective_n_jobs(-1) == joblib.cpu_count()
        assert Parallel(n_jobs=2)(delayed(double)(i) for i in range(3)) == [0, 2, 4]
    assert agent.requests == []


def test_report_has_a_row_per_batch(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=2, batch_size=2)(delayed(double)(i) for i in range(8))
    report = joblib_clutch.last_report()
    assert report is not None
    assert [row.tasks for row in report.rows] == [2, 2, 2, 2]
    assert report.summary()["tasks"] == 8
    assert "8 tasks in 4 batches" in str(report)


def test_batches_of_short_tasks_grow(agent: FakeAgent) -> None:
    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2000))
    assert max(batch.tasks for batch in agent.sent("submit_batch")) > 8


def test_lambda_and_closure(agent: FakeAgent) -> None:
    offset = 3
    with parallel_config("clutch", agents=agent.address):
        assert Parallel(n_jobs=2)(delayed(lambda x: x + offset)(i) for i in range(3)) == [
            3,
            4,
            5,
        ]


def test_forked_child_does_not_use_its_parents_session(agent: FakeAgent) -> None:
    from joblib_clutch import connections

    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(3))
    context = multiprocessing.get_context("fork")
    seen = context.SimpleQueue()
    child = context.Process(target=lambda: seen.put(len(connections._registry._connections)))
    child.start()
    child.join(20)
    assert seen.get() == 0


def test_callbacks_that_nobody_awaits_run_on_another_thread_and_once(agent: FakeAgent) -> None:
    from joblib_clutch.call import Call, CallPlan
    from joblib_clutch.settings import Settings

    ended: list[tuple[str, BaseException | None]] = []
    done = threading.Semaphore(0)

    def callback(future: Any) -> None:
        try:
            future.result()
        except Exception as error:
            ended.append((threading.current_thread().name, type(error)))
        else:
            ended.append((threading.current_thread().name, None))
        done.release()

    call = Call()
    settings = Settings(agents=agent.address)
    call.start([connections.session_for(settings)], CallPlan(settings, 0, 0, 1, None))
    call.submit([(double, (1,), {})], callback)
    assert done.acquire(timeout=10)
    call.submit([(double, (threading.Lock(),), {})], callback)
    assert done.acquire(timeout=10)
    call.close()
    call.submit([(double, (1,), {})], callback)
    assert done.acquire(timeout=10)
    assert ended == [
        ("clutch-callbacks", None),
        ("clutch-callbacks", errors.ArgumentPickleError),
        ("clutch-callbacks", errors.CallCancelledError),
    ]


def test_closed_call_cancels_what_the_agent_has_not_heard_of(
    start_agent: Callable[..., FakeAgent],
) -> None:
    agent = start_agent(max_open_batches=1)
    with parallel_config("clutch", agents=agent.address):
        generator = Parallel(n_jobs=2, batch_size=1, return_as="generator", pre_dispatch="all")(
            delayed(wait_for_release)() for _ in range(20)
        )
        with pytest.warns(UserWarning, match="have been cancelled"):
            generator.close()
    assert agent.closed_calls.acquire(timeout=10)
    assert len(agent.sent("submit_batch")) <= 1


def test_output_of_tasks_is_printed_here(
    agent: FakeAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    from clutch_wire.clutch.v1 import executor_pb2 as wire

    def say(conversation: Any, submit: wire.SubmitBatch) -> None:
        text = f"batch {submit.batch_id}\n".encode()
        output = wire.Output(pid=1, stream=wire.OUTPUT_STREAM_STDOUT, data=text)
        conversation.outgoing.put([wire.AgentFrame(output=output)])

    agent.on_batch = say
    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=2, batch_size=1)(delayed(double)(i) for i in range(3))
    assert capsys.readouterr().out.count("batch ") == 3
