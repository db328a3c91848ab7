"""`docs/failures.md` has every failure, and quotes what users really read."""

import re
from pathlib import Path

import pytest
import tasks
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import failure_pb2
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib import Parallel, delayed, parallel_config
from support.agents import Agent
from support.channels import open_channel
from support.waiting import until

from joblib_clutch import exceptions
from joblib_clutch.failures import CLASS_OF_KIND
from joblib_clutch.session import refused

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/failures.md").read_text()
# Kinds that only drivers know, with their classes.
OF_THE_DRIVER = {
    "AGENT_UNAVAILABLE": exceptions.AgentUnavailableError,
    "ARGUMENT_UNPICKLABLE": exceptions.ArgumentPickleError,
    "RESULT_UNREADABLE": exceptions.ResultUnpickleError,
}
CLASSES = CLASS_OF_KIND | OF_THE_DRIVER


def section(kind):
    """Return the text below a kind's heading."""
    found = re.search(rf"^### {kind}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/failures.md has no section {kind}"
    return found[1]


def same(text):
    """Replace what differs between any two runs."""
    text = re.sub(r"0x[0-9a-f]+", "ADDRESS", text)
    text = re.sub(r"the agent at \S+ refused", "the agent at SOCKET refused", text)
    text = re.sub(r"(cpython|runs cpython|no cpython) \d[\d.]*", r"\1 VERSION", text)
    text = re.sub(r"VERSION at /\S+?(?=;|$)", "VERSION at PYTHON", text, flags=re.MULTILINE)
    text = re.sub(r"zygote of `[^`]+`", "zygote of PYTHON", text)
    text = re.sub(r'File "[^"]+", line \d+,?', "FILE", text)
    text = re.sub(r"process: \d+ on \S+", "process: PID on HOST", text)
    return re.sub(r"\b\d{2,}\b", "NUMBER", text)


def two(function, *arguments, **options):
    """Run two tasks, each a batch of its own."""
    parallel = Parallel(n_jobs=2, batch_size=1, **options)
    return parallel(delayed(function)(*arguments) for _ in range(2))


def use(agent, **options):
    return parallel_config("clutch", agents=agent.address, **options)


def on_shared(function, *arguments, **options):
    """Return a scenario that runs a task on the shared agent."""

    def scenario(shared_agent, monkeypatch):
        with use(shared_agent, **options):
            two(function, *arguments)

    return scenario


def too_large(shared_agent, monkeypatch):
    with Agent("--max-batch-bytes", "1000") as agent, use(agent):
        two(tasks.double, b"x" * 2000)


def no_such_environment(shared_agent, monkeypatch):
    with use(shared_agent, env="/no/such/python"):
        two(tasks.pid)


def another_major(shared_agent, monkeypatch):
    # Our own client speaks one version only.
    version = wire.ProtocolVersion(major=2)
    request = wire.OpenSessionRequest(protocol=version, client_version="0.1.0")
    with Agent() as agent, open_channel(agent.address) as channel:
        refusal = ExecutorStub(channel).OpenSession(request, timeout=20).refusal
        said = {
            "kind": failure_pb2.FailureKind.Name(refusal.kind).removeprefix("FAILURE_KIND_"),
            "fault": failure_pb2.Fault.Name(refusal.fault).removeprefix("FAULT_"),
            "message": refusal.message,
            "advice": refusal.advice,
            "available": [
                f"{e.implementation} {e.python_version} at {e.executable}"
                for e in refusal.available
            ],
        }
        raise refused(said, agent.address)


def draining(shared_agent, monkeypatch):
    with Agent() as agent, use(agent):
        two(tasks.pid)
        sleeping = Parallel(n_jobs=2, return_as="generator")
        results = sleeping(delayed(tasks.pid_after)(1) for _ in range(2))
        until(agent.busy, lambda busy: len(busy) == 2)
        agent.signal()
        until(lambda: agent.status().draining)
        try:
            two(tasks.pid)
        finally:
            list(results)


def slow_zygote(shared_agent, monkeypatch):
    with Agent("--start-seconds", "0.001") as agent, use(agent):
        two(tasks.pid)


def no_interpreter(shared_agent, monkeypatch):
    with parallel_config("clutch", env="/no/such/python"):
        two(tasks.pid)


def short_of_memory(shared_agent, monkeypatch):
    # Where the kernel holds the ceiling, it kills before the agent sees anything.
    ceiling = ("--memory-ceiling-bytes", str(300 << 20), "--cgroups", "false")
    with Agent(*ceiling) as agent, use(agent):
        two(tasks.hold_bytes, 400 << 20, 60)


SCENARIOS = {
    "TASK_RAISED": on_shared(tasks.raise_odd),
    "TASK_EXITED": on_shared(tasks.exit_with, 4),
    "ARGUMENT_UNREADABLE": on_shared(tasks.double, tasks.FailsToLoad()),
    "RESULT_UNPICKLABLE": on_shared(tasks.return_lock),
    "WORKER_CRASHED": on_shared(tasks.segfault),
    "POISONOUS_BATCH": on_shared(tasks.exit_hard, 3, retries=5),
    "TIME_LIMIT": on_shared(tasks.sleep_long, task_timeout=0.3),
    "CPU_TIME_LIMIT": on_shared(tasks.burn, 60, task_cpu_timeout=0.5),
    "MEMORY_LIMIT": on_shared(tasks.hold_bytes, 1 << 30, memory_limit="256MiB"),
    "PROCESS_LIMIT": on_shared(tasks.start_programs, process_limit=20),
    "SCRATCH_LIMIT": on_shared(tasks.fill_scratch, 12 << 20, scratch_limit="10MiB"),
    "WORKER_KILLED": on_shared(tasks.kill_self),
    "MEMORY_PRESSURE": short_of_memory,
    "INITIALIZER_FAILED": on_shared(
        tasks.double, 1, initializer=tasks.raise_value_error, initargs=("no data", 1)
    ),
    "QUOTA_EXCEEDED": too_large,
    "ENVIRONMENT_MISMATCH": no_such_environment,
    "PROTOCOL_MISMATCH": another_major,
    "AGENT_DRAINING": draining,
    "WORKER_START_FAILED": slow_zygote,
    "AGENT_UNAVAILABLE": no_interpreter,
    "ARGUMENT_UNPICKLABLE": on_shared(len, {"model": [1, tasks.threading.Lock()]}),
    "RESULT_UNREADABLE": on_shared(tasks.return_what_fails_to_load),
}


def test_every_kind_is_a_section_and_every_section_a_kind():
    kinds = re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE)
    assert sorted(kinds) == sorted(CLASSES)


def test_every_exception_is_mentioned():
    classes = [
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.ClutchError)
    ]
    assert [name for name in classes if f"`{name}`" not in DOCUMENT] == []


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_section_names_class_fault_reason_and_remedy(kind):
    text = section(kind)
    assert f"`{CLASSES[kind].__name__}`" in text
    assert re.search(r"^- Fault: (TASK|DRIVER|AGENT|NOBODY)\.", text, re.MULTILINE)
    assert "\n- Why: " in text
    assert "\n- What to do: " in text


def test_what_has_an_example_can_be_made_to_happen():
    quoted = {kind for kind in CLASSES if "```text" in section(kind)}
    assert quoted == SCENARIOS.keys()


@pytest.mark.parametrize("kind", sorted(SCENARIOS))
def test_the_example_is_what_users_read(kind, shared_agent, monkeypatch):
    with pytest.raises(CLASSES[kind]) as caught:
        SCENARIOS[kind](shared_agent, monkeypatch)
    error = caught.value
    assert error.kind == kind
    (fault,) = re.findall(r"^- Fault: (\w+)\.", section(kind), re.MULTILINE)
    assert error.fault == fault
    printed = same(f"{type(error).__name__}: {error}").splitlines()
    (example,) = re.findall(r"```text\n(.*?)```", section(kind), re.DOTALL)
    missing = [line for line in same(example).splitlines() if line not in printed]
    assert missing == [], "\n".join(printed)
