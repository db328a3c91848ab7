"""Row S15: tasks of an agent with a sandbox."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys

import bad_tasks
import prying
import pytest
import tasks
from joblib import Parallel, delayed
from support.agents import Agent, binary, clean_environment, run_agent
from support.drivers import Driver
from support.processes import is_alive
from support.waiting import until

from joblib_clutch import exceptions as errors

# What it lets tasks do, of what is not theirs.
ALLOWS = {
    "off": {"signals", "looks", "abstract sockets", "bind", "connect"},
    "processes": {"bind", "connect"},
    "no-tcp": set(),
}
# Another session of the agent, with a worker that stays busy.
OTHER = """
    Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])(
        [delayed(lambda: (print(os.getpid(), flush=True), time.sleep(60)))()])
"""


@pytest.fixture(scope="module", params=ALLOWS)
def kind(request):
    """Return a kind of sandbox that this machine has."""
    told = run_agent("doctor", "--python", sys.executable, "--sandbox", request.param)
    if told.returncode:
        pytest.skip(told.stderr.strip())
    return request.param


@pytest.fixture(scope="module")
def agent(kind):
    """Return an agent with that sandbox."""
    with Agent("--slots", "3", "--sandbox", kind) as agent:
        yield agent


def call(agent, *batch, **options):
    return Parallel(3, backend="clutch", agents=agent.address, batch_size=1, **options)(batch)


@contextlib.contextmanager
def siblings(agent, tmp_path):
    """Keep a worker of this session and one of another busy; give their processes."""
    file, gate = tmp_path / "pid", tmp_path / "gate"
    run = Parallel(2, backend="clutch", agents=agent.address, return_as="generator")
    results = run([delayed(bad_tasks.say_and_wait)(str(file), str(gate))])
    with Driver(OTHER, agent.address):
        others = until(agent.busy, lambda busy: len(busy) == 2, seconds=30)
        try:
            yield others
            assert set(agent.busy()) >= set(others), "one of them did not survive"
        finally:
            tasks.open_gate(gate)
            list(results)


def test_s15_a_task_reaches_no_process_but_its_own(kind, agent, tmp_path):
    (zygote,) = until(agent.zygotes)
    with siblings(agent, tmp_path) as others:
        strangers = [agent.pid, zygote, *others]
        (reached,) = call(agent, delayed(prying.signalled)(*strangers))
        assert reached == (strangers if "signals" in ALLOWS[kind] else [])
        (seen,) = call(agent, delayed(prying.looked_into)(*strangers))
        assert seen == (strangers if "looks" in ALLOWS[kind] else [])
        if kind != "off":
            # For good: what is sent here would be the end of them.
            (reached,) = call(agent, delayed(prying.signalled)(*strangers, number=signal.SIGKILL))
            assert reached == []
            assert all(map(is_alive, strangers))


def test_s15_what_a_task_starts_is_its_own(agent):
    assert call(agent, delayed(prying.kill_own)()) == [[-signal.SIGTERM, -signal.SIGKILL, True]]


def test_s15_abstract_sockets_of_others_are_closed_to_tasks(kind, agent):
    (reached,) = call(agent, delayed(prying.connected)(agent.address.partition(":")[2]))
    assert reached is ("abstract sockets" in ALLOWS[kind])


def test_s15_a_task_binds_and_connects_where_it_may(kind, agent):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (done,) = call(agent, delayed(prying.over_tcp)(port))
    assert set(done) == ALLOWS[kind] & {"bind", "connect"}


def test_s15_the_agent_still_ends_tasks_and_shows_their_stacks(agent):
    with pytest.raises(errors.TimeLimitError) as caught:
        call(agent, delayed(prying.spin)(), task_timeout=0.5)
    assert "in spin" in str(caught.value)
    with pytest.raises(errors.WorkerCrashedError) as caught:
        call(agent, delayed(os.abort)())
    assert caught.value.signal == signal.SIGABRT


def test_s15_nested_processes_arrays_and_temporary_files_are_as_ever(agent):
    numpy = pytest.importorskip("numpy")
    assert call(agent, delayed(prying.nested_loky)(4)) == [[0, 1, 4, 9]]
    assert call(agent, delayed(prying.managed)()) == [{"a": 1}]
    array = numpy.arange(4 << 20)
    (back,) = call(agent, delayed(numpy.add)(array, 1))
    assert (back == array + 1).all()
    (found,) = call(agent, delayed(prying.temporary)())
    assert found["owner"] == os.geteuid()


def without_landlock():
    """Refuse Landlock to this process and all that it starts, as containers may."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Load the number of the call; where it is `landlock_create_ruleset`: ENOSYS; else: allow.
    program = [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, 444),
        (0x06, 0, 0, 0x00050026),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code)
    filter_ = struct.pack("HxxxxxxP", len(program), ctypes.addressof(kept))
    no_new_privs, set_seccomp, by_filter = 38, 22, 2
    if libc.prctl(no_new_privs, 1, 0, 0, 0) or libc.prctl(set_seccomp, by_filter, filter_):
        raise OSError(ctypes.get_errno(), "no filter")


@pytest.mark.parametrize("asked", ["processes", "no-tcp", "off"])
def test_s15_an_agent_that_cannot_keep_the_promise_does_not_start(asked):
    ended = subprocess.run(
        [binary(), "doctor" if asked == "off" else "agent", "--sandbox", asked],
        env=clean_environment(),
        preexec_fn=without_landlock,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    if asked == "off":
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("this machine cannot: this kernel does not offer it") == 2
        return
    assert (ended.returncode, ended.stdout) == (78, "")
    assert f"setting `sandbox` cannot be `{asked}`: this kernel does not offer it" in ended.stderr
    assert "Linux 6.12" in ended.stderr


def test_s15_a_sandbox_that_is_none_is_refused():
    ended = run_agent("agent", "--sandbox", "strict")
    assert ended.returncode == 78
    assert "setting `sandbox` cannot be `strict`: expected `off`, `processes` or" in ended.stderr
