"""A busy worker is given one more short batch, and it is taken back when it would wait.

Spoken to a real agent message by message: joblib hides which batch waits where.
"""

import contextlib
import pickle
import queue
import sys
from pathlib import Path

import tasks
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import failure_pb2
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from support import processes
from support.agents import Agent
from support.channels import open_channel
from support.conversations import open_request
from support.waiting import until

# Enough of them for the agent to know that a call is short.
SHORT_BATCHES = 20
CALL = 1


class Conversation:
    """One session with one call, whose short batches the agent has seen."""

    def __init__(self, stub, **call):
        self._frames = queue.SimpleQueue()
        self._batches = 0
        self._ended = {}
        opened = stub.OpenSession(open_request("prefetch"), timeout=60).opened
        setup = pickle.dumps({"sys_path": sys.path})
        self._frames.put((opened.session_id, []))
        self._replies = stub.Attach(self._envelopes())
        self._say(
            wire.ClientFrame(define_profile=wire.DefineProfile(profile_id=1, setup=setup)),
            wire.ClientFrame(
                open_call=wire.OpenCall(call_id=CALL, profile_id=1, nesting_level=1, **call)
            ),
        )
        for batch in self.submit(*[(tasks.double, 1)] * SHORT_BATCHES):
            assert self.value(batch) == [2]

    def submit(self, *calls):
        """Submit a batch for each call, all at once; return their numbers."""
        numbers = range(self._batches + 1, self._batches + 1 + len(calls))
        self._batches += len(calls)
        frames = []
        for number, (function, *arguments) in zip(numbers, calls, strict=True):
            payload = pickle.dumps([(function, tuple(arguments), {})])
            batch = wire.SubmitBatch(
                batch_id=number,
                call_id=CALL,
                tasks=1,
                payload=payload,
                payload_bytes=len(payload),
            )
            frames.append(wire.ClientFrame(submit_batch=batch))
        self._say(*frames)
        return list(numbers)

    def close_call(self):
        self._say(wire.ClientFrame(close_call=wire.CloseCall(call_id=CALL)))

    def leave(self):
        self._frames.put(None)

    def ended(self, batch):
        """Wait for a batch's outcome, of which there is one."""
        while batch not in self._ended:
            for frame in next(self._replies).frames:
                if frame.HasField("batch_ended"):
                    number = frame.batch_ended.batch_id
                    assert number not in self._ended, f"batch {number} ended twice"
                    self._ended[number] = frame.batch_ended
        return self._ended[batch]

    def value(self, batch):
        ended = self.ended(batch)
        assert ended.HasField("value"), ended.failure
        return pickle.loads(ended.value.payload)

    def failure(self, batch):
        ended = self.ended(batch)
        assert ended.HasField("failure"), ended
        return failure_pb2.FailureKind.Name(ended.failure.kind).removeprefix("FAILURE_KIND_")

    def _say(self, *frames):
        self._frames.put(("", frames))

    def _envelopes(self):
        while (envelope := self._frames.get()) is not None:
            session, frames = envelope
            yield wire.ClientEnvelope(session_id=session, frames=frames)


@contextlib.contextmanager
def conversation(*flags, **call):
    with Agent(*flags) as agent, open_channel(agent.address) as channel:
        conversation = Conversation(ExecutorStub(channel), **call)
        yield conversation
        conversation.leave()


def sleeper(tmp_path):
    """Wait until `tasks.write_pid_and_sleep` sleeps; return its process."""
    found = until(lambda: list(tmp_path.glob("sleeper.*")), what="a sleeper")
    return int(found[0].suffix[1:])


def test_a_short_batch_is_with_the_worker_before_the_one_before_it_has_ended():
    with conversation("--slots", "1") as driver:
        for _ in range(20):
            first, second = driver.submit((tasks.double, 1), (tasks.double, 2))
            assert (driver.value(first), driver.value(second)) == ([2], [4])
            before, after = driver.ended(first).timings, driver.ended(second).timings
            assert after.assigned_at < before.ended_at
            assert after.received_at >= before.pickled_at, "one at a time"


def test_an_idle_worker_takes_over_what_waits_behind_a_long_batch(gate):
    with conversation("--slots", "2") as driver:
        # Both workers are there and idle, and the call is short again.
        for calls in ([(tasks.pid_after, 0.05)] * 2, [(tasks.double, 1)] * SHORT_BATCHES * 2):
            for batch in driver.submit(*calls):
                driver.value(batch)
        # The third is behind the first, which waits for it.
        long, _, opens = driver.submit(
            (tasks.wait_for, gate, "long"), (tasks.double, 1), (tasks.open_gate, gate)
        )
        assert driver.value(long) == ["long"]
        assert driver.ended(opens).worker_pid != driver.ended(long).worker_pid


def test_what_a_killed_worker_had_not_begun_runs_in_another(tmp_path):
    with conversation("--slots", "1", retries=0) as driver:
        sleeps, short = driver.submit(
            (tasks.write_pid_and_sleep, str(tmp_path / "sleeper")), (tasks.pid,)
        )
        pid = sleeper(tmp_path)
        processes.kill(pid)
        assert driver.failure(sleeps) == "WORKER_KILLED"
        assert driver.value(short) not in ([pid], [])


def test_a_time_limit_ends_the_batch_that_passed_it_and_not_the_next(tmp_path):
    with conversation("--slots", "1", task_timeout_seconds=0.2) as driver:
        sleeps, short = driver.submit((tasks.sleep_long,), (tasks.double, 2))
        assert driver.failure(sleeps) == "TIME_LIMIT"
        assert driver.value(short) == [4]


def test_a_closed_call_cancels_what_waits_in_a_worker(tmp_path, gate):
    with conversation("--slots", "1") as driver:
        sleeps, short = driver.submit(
            (tasks.write_pid_and_sleep, str(tmp_path / "sleeper")), (tasks.open_gate, gate)
        )
        pid = sleeper(tmp_path)
        driver.close_call()
        assert (driver.failure(sleeps), driver.failure(short)) == ("CANCELLED", "CANCELLED")
        until(lambda: not processes.is_alive(pid), what="the worker's end")
        assert not Path(gate).exists()


def test_a_worker_runs_no_more_batches_than_it_may():
    with conversation("--slots", "1", "--worker-max-batches", "7") as driver:
        batches = driver.submit(*[(tasks.pid,)] * 50)
        pids = [driver.value(batch)[0] for batch in batches]
        assert max(pids.count(pid) for pid in pids) <= 7, pids
