"""Batches whose agent was lost are sent again, the same bytes and not too often."""

from __future__ import annotations

import re
import threading
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import failure_pb2
from fake_agent import TaskFailureError
from joblib import Parallel, delayed, parallel_config

import joblib_clutch
from joblib_clutch import connections, route
from joblib_clutch import exceptions as errors
from joblib_clutch.call import Call, CallPlan
from joblib_clutch.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_agent import Conversation, FakeAgent

WAYS = ["list", "generator", "generator_unordered"]
RELEASE = threading.Event()
RUNS: Counter[int] = Counter()


def double(value: int) -> int:
    RUNS[value] += 1
    return 2 * value


def be_killed() -> None:
    # Its agent has tried it twice.
    raise TaskFailureError(failure_pb2.FAILURE_KIND_WORKER_KILLED, message="again", attempt=2)


def add_attempt(ended: Any) -> None:
    ended.earlier_attempts.add(kind=failure_pb2.FAILURE_KIND_WORKER_KILLED, message="once")


def hang_up(conversation: Conversation, _: object = None) -> None:
    conversation.outgoing.put(None)


class HangUpOnce:
    """Ends the conversation in the place of one batch's outcome.

    Parameters
    ----------
    at : int
        Which batch to come.
    """

    def __init__(self, at: int) -> None:
        self.left = at
        self._lock = threading.Lock()

    def __call__(self, conversation: Conversation, _: object) -> None:
        with self._lock:
            self.left -= 1
            if self.left == 0:
                hang_up(conversation)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    RUNS.clear()
    RELEASE.clear()
    monkeypatch.setattr(connections, "_PAUSES", (0.01, 0.1))


def payloads(agent: FakeAgent) -> list[bytes]:
    return [batch.payload for batch in agent.sent("submit_batch")]


@pytest.mark.parametrize("return_as", WAYS)
def test_a_call_goes_on_where_the_agent_is_found_again(agent: FakeAgent, return_as: str) -> None:
    agent.on_batch = HangUpOnce(at=10)
    with parallel_config("clutch", agents=agent.address):
        run = Parallel(n_jobs=2, batch_size=1, return_as=return_as)
        results = list(run(delayed(double)(i) for i in range(30)))
    assert (sorted(results) if return_as == WAYS[2] else results) == [2 * i for i in range(30)]
    assert len(agent.requests) == 2
    assert set(RUNS) == set(range(30))
    # What had ended before is not run again.
    assert set(RUNS.values()) == {1, 2}
    assert sum(RUNS.values()) <= 30 + 4


def test_the_same_bytes_are_sent_again_in_the_order_of_submission(agent: FakeAgent) -> None:
    buffers = [bytearray(b"%d" % value) for value in range(20)]

    def tasks() -> Any:
        yield from (delayed(bytes)(buffer) for buffer in buffers)
        # All are sent by now, and the user may do with them as they like.
        for buffer in buffers:
            buffer[:] = b"changed"
        RELEASE.set()

    def hang_up_once(conversation: Conversation, _: object) -> None:
        RELEASE.wait(20)
        agent.on_batch = None
        hang_up(conversation)

    agent.on_batch = hang_up_once

    with parallel_config("clutch", agents=agent.address):
        run = Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")
        assert run(tasks()) == [b"%d" % value for value in range(20)]
    first = list(dict.fromkeys(payloads(agent)))
    assert len(first) == 20
    assert payloads(agent)[-20:] == first


def test_a_batch_is_sent_three_times_and_then_named(agent: FakeAgent) -> None:
    agent.on_batch = hang_up
    with (
        pytest.warns(errors.ClutchWarning) as warned,
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.AgentUnavailableError, match="each of the 3 times") as caught,
    ):
        Parallel(n_jobs=2)(delayed(double)(i) for i in range(2))
    assert "function double" in str(caught.value)
    assert agent.address in str(caught.value)
    assert (caught.value.attempt, len(caught.value.earlier_attempts)) == (3, 2)
    assert Counter(payloads(agent)).most_common(1)[0][1] == 3
    # The second may not have been sent when the first one's agent hung up.
    told = r"the agent was lost \(it ended the session\); (1 batch is|2 batches are) run again on"
    assert len(warned) >= 2
    for warning in warned:
        assert re.fullmatch(f"{told} the one at {agent.address}", str(warning.message))


def test_warnings_made_errors_end_no_call(
    agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    agent.on_batch = HangUpOnce(at=1)
    with parallel_config("clutch", agents=agent.address), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Parallel(n_jobs=2)(delayed(double)(i) for i in range(2)) == [0, 2]
    (told,) = [record for record in caplog.records if record.name == "joblib_clutch"]
    assert "run again" in told.getMessage()


def test_the_report_tells_attempts_that_went_with_their_agents(agent: FakeAgent) -> None:
    agent.on_batch = HangUpOnce(at=1)
    with parallel_config("clutch", agents=agent.address):
        Parallel(n_jobs=2, batch_size=1)(delayed(double)(i) for i in range(2))
    report = joblib_clutch.last_report()
    assert report is not None
    assert [(row.attempts, row.retried) for row in report.rows] == [(2, ("AGENT_UNAVAILABLE",))] * 2
    assert report.summary()["batches_retried"] == 2


def test_a_failure_tells_attempts_that_went_with_their_agents(agent: FakeAgent) -> None:
    agent.on_batch = HangUpOnce(at=1)
    agent.on_end = add_attempt
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.WorkerKilledError) as caught,
        pytest.warns(errors.ClutchWarning, match="run again"),
    ):
        Parallel(n_jobs=2)(delayed(be_killed)() for _ in range(2))
    assert caught.value.attempt == 3
    lost, killed = caught.value.earlier_attempts
    assert lost[:3] == ("AGENT_UNAVAILABLE", "the agent was lost: it ended the session", None)
    assert killed.kind == "WORKER_KILLED"


def test_a_failed_batch_is_not_sent_again(agent: FakeAgent) -> None:
    agent.on_batch = HangUpOnce(at=6)

    def tasks() -> Any:
        yield from (delayed(double)(i) for i in range(5))
        yield delayed(int)("none")

    with parallel_config("clutch", agents=agent.address), pytest.raises(ValueError, match="none"):
        Parallel(n_jobs=2, batch_size=1)(tasks())
    failing = payloads(agent)[-1]
    assert b"none" in failing
    assert payloads(agent).count(failing) <= 2


@pytest.mark.parametrize("return_as", WAYS)
def test_without_retries_the_loss_is_told_at_once(agent: FakeAgent, return_as: str) -> None:
    agent.on_batch = hang_up
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.AgentUnavailableError, match=r"^lost the agent at .*: it ended"),
    ):
        run = Parallel(n_jobs=2, return_as=return_as, retries=0)
        list(run(delayed(double)(i) for i in range(4)))
    assert len(agent.requests) == 1


@pytest.mark.parametrize("return_as", WAYS)
def test_a_refusal_of_the_next_session_is_told(agent: FakeAgent, return_as: str) -> None:
    def refuse(conversation: Conversation, _: object) -> None:
        agent.refusal = wire.Refusal(
            kind=failure_pb2.FAILURE_KIND_QUOTA_EXCEEDED,
            message="no more sessions",
            advice="come later",
        )
        hang_up(conversation)

    agent.on_batch = refuse
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.AgentUnavailableError, match="no more sessions") as caught,
    ):
        list(Parallel(n_jobs=2, return_as=return_as)(delayed(double)(i) for i in range(4)))
    assert isinstance(caught.value.__cause__, errors.QuotaExceededError)
    assert "it ended the session" in str(caught.value)
    assert caught.value.advice == "come later"


@pytest.mark.parametrize("return_as", WAYS)
def test_an_agent_that_stays_away_is_told(agent: FakeAgent, return_as: str) -> None:
    def leave(conversation: Conversation, _: object) -> None:
        # From another thread: it waits for this one.
        threading.Thread(target=agent.stop).start()
        hang_up(conversation)

    agent.on_batch = leave
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.AgentUnavailableError, match="none took its place within"),
    ):
        list(Parallel(n_jobs=2, return_as=return_as)(delayed(double)(i) for i in range(4)))


def lost_call(
    agent: FakeAgent, *, raises: bool = False
) -> tuple[Call, list[Any], threading.Semaphore]:
    """Begin a call whose agent goes away for good; return what its callbacks got."""
    futures: list[Any] = []
    called = threading.Semaphore(0)

    def callback(future: Any) -> None:
        futures.append(future)
        called.release()
        if raises:
            raise LookupError("in a callback")

    call = Call()
    settings = Settings(agents=agent.address)
    call.start([connections.session_for(settings)], CallPlan(settings, 0, 0, 1, None))
    agent.stop()
    for value in range(3):
        call.submit([(double, (value,), {})], callback)
    return call, futures, called


def test_a_call_that_is_closed_while_it_looks_for_an_agent_is_cancelled(agent: FakeAgent) -> None:
    call, futures, called = lost_call(agent)
    call.close()
    for _ in range(3):
        assert called.acquire(timeout=10)
    for future in futures:
        with pytest.raises(errors.CallCancelledError):
            future.result()
    assert len(set(futures)) == 3
    assert not called.acquire(blocking=False)


def test_each_callback_comes_once_when_no_agent_is_found(agent: FakeAgent) -> None:
    call, futures, called = lost_call(agent)
    for _ in range(3):
        assert called.acquire(timeout=30)
    for future in futures:
        with pytest.raises(errors.AgentUnavailableError):
            future.result()
    assert len(set(futures)) == 3
    call.close()
    assert not called.acquire(blocking=False)


def test_a_callback_that_raises_holds_no_other_back(agent: FakeAgent) -> None:
    call, futures, called = lost_call(agent, raises=True)
    for _ in range(3):
        assert called.acquire(timeout=30)
    assert len(set(futures)) == 3
    call.close()


def test_what_is_submitted_while_there_is_no_agent_waits_for_it(
    agent: FakeAgent, start_agent: Callable[..., FakeAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = start_agent()
    found = connections.session_for(Settings(agents=second.address))
    monkeypatch.setattr(route, "session_again", lambda *_: RELEASE.wait(20) and found)
    call, futures, called = lost_call(agent)
    assert not futures
    RELEASE.set()
    for _ in range(3):
        assert called.acquire(timeout=10)
    # From now on the new agent gets all.
    call.submit([(double, (3,), {})], lambda _: called.release())
    assert called.acquire(timeout=10)
    call.close()
    assert len(second.sent("submit_batch")) == 4
    assert sorted(value for future in futures for value in future.result()) == [0, 2, 4]


def test_sessions_that_this_process_closed_are_not_opened_again(agent: FakeAgent) -> None:
    agent.on_batch = lambda *_: RELEASE.wait(20)
    with parallel_config("clutch", agents=agent.address):
        results = Parallel(n_jobs=2, return_as="generator")(delayed(double)(i) for i in range(2))
        connections.close_all()
        with pytest.raises(errors.AgentUnavailableError, match="closed the session"):
            list(results)
    RELEASE.set()
    assert len(agent.requests) == 1
