"""Python environments: hosted by an agent that has none itself, matched to drivers."""

import platform
import re
import sys

import pytest
import tasks
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import failure_pb2
from clutch_wire.clutch.v1.executor_pb2_grpc import ExecutorStub
from joblib import Parallel, delayed
from support import processes
from support.agents import Agent
from support.channels import open_channel
from support.conversations import open_request
from support.drivers import run_script
from support.environments import ROOT, VERSIONS, python_of, python_with_numpy_1

from joblib_clutch import exceptions

OWN = platform.python_version()

SMOKE = """
    from concurrent.futures import ThreadPoolExecutor

    def facts(number):
        return number * 2, os.getpid(), sys.version_info[:2], sys.prefix, sys.executable

    options = {"agents": sys.argv[1]} if len(sys.argv) > 1 else {}
    results = Parallel(n_jobs=2, backend="clutch", **options)(
        delayed(facts)(i) for i in range(20))
    try:
        Parallel(n_jobs=2, backend="clutch", **options)(
            delayed(lambda: 1 / 0)() for _ in range(3))
    except ZeroDivisionError as error:
        say(cause=str(error.__cause__))
    say(
        right=[result[0] for result in results] == list(range(0, 40, 2)),
        elsewhere=os.getpid() not in {result[1] for result in results},
        same_version={result[2] for result in results} == {sys.version_info[:2]},
        same_environment={result[3:] for result in results} == {(sys.prefix, sys.executable)},
        version=list(sys.version_info[:2]),
        binary=os.environ["CLUTCH_BINARY"],
    )
"""


def ask(agent, **fields):
    """Send a handshake of our own making."""
    request = open_request("a stranger")
    request.MergeFrom(wire.OpenSessionRequest(client_version="9.8.7", **fields))
    with open_channel(agent.address) as channel:
        return ExecutorStub(channel).OpenSession(request, timeout=20)


def refusal(agent, **fields):
    response = ask(agent, **fields)
    assert response.WhichOneof("result") == "refusal", response
    return response.refusal


def has_libpython(pid):
    return any(name.startswith("libpython") for name in processes.libraries_of(pid))


def test_the_agent_itself_never_loads_python(shared_agent, gate):
    run = Parallel(2, backend="clutch", agents=shared_agent.address, return_as="generator")
    results = run(delayed(tasks.wait_for)(gate, tasks.double(i)) for i in range(4))
    mapped = processes.libraries_of(shared_agent.pid)
    assert "libc.so.6" in mapped, mapped
    zygotes = shared_agent.zygotes()
    assert len(zygotes) == 1
    assert has_libpython(zygotes[0]), "this test would not see libpython at all"
    assert not has_libpython(shared_agent.pid), mapped
    tasks.open_gate(gate)
    assert list(results) == [0, 2, 4, 6]
    assert not has_libpython(shared_agent.pid)


def test_another_major_version_of_the_protocol_is_refused_naming_both_sides(shared_agent):
    refused = refusal(shared_agent, protocol=wire.ProtocolVersion(major=7))
    assert refused.kind == failure_pb2.FAILURE_KIND_PROTOCOL_MISMATCH
    ours, theirs = f"{7}.", "1.1"
    assert f"protocol {ours}" in refused.message, refused.message
    assert f"speaks {theirs}" in refused.message, refused.message
    assert "9.8.7" in refused.message
    assert refused.advice


def test_a_later_minor_version_of_the_protocol_is_welcome(shared_agent):
    newer = wire.ProtocolVersion(major=1, minor=50)
    assert ask(shared_agent, protocol=newer).opened.slots == 2


@pytest.mark.parametrize(
    ("driver", "named"),
    [
        ({"python_version": "3.99.1"}, "the driver runs cpython 3.99.1"),
        ({"implementation": "pypy"}, f"the driver runs pypy {OWN}"),
        ({"cloudpickle_version": "99.1"}, "the driver has cloudpickle 99.1 and"),
    ],
)
def test_a_driver_of_another_python_is_told_what_there_is(shared_agent, driver, named):
    refused = refusal(shared_agent, environment=wire.Environment(**driver))
    assert refused.kind == failure_pb2.FAILURE_KIND_ENVIRONMENT_MISMATCH
    assert named in refused.message, refused.message
    assert [(e.executable, e.python_version) for e in refused.available] == [(sys.executable, OWN)]
    assert "--python" in refused.advice


def test_the_users_error_names_the_wanted_and_the_present_environments(shared_agent):
    run = Parallel(2, backend="clutch", agents=shared_agent.address, env="/no/such/python")
    with pytest.raises(exceptions.EnvironmentMismatchError) as caught:
        run(delayed(tasks.pid)() for _ in range(2))
    for part in ("`/no/such/python`", f"cpython {OWN} at {sys.executable}", "--python"):
        assert part in str(caught.value), caught.value


def test_an_environment_is_chosen_by_its_path(shared_agent):
    run = Parallel(2, backend="clutch", agents=shared_agent.address, env=sys.executable)
    assert set(run(delayed(tasks.parent_pid)() for _ in range(2))) == {shared_agent.pid}


def python_or_skip(version):
    python = python_of(version)
    if python is None:
        pytest.skip(f"no environment of Python {version}: `make venvs` makes them")
    return python


def check_smoke(facts, version):
    assert facts["version"] == [int(part) for part in version.split(".")]
    shown = ("right", "elsewhere", "same_version", "same_environment")
    assert {name: facts[name] for name in shown} == dict.fromkeys(shown, True)
    assert "ZeroDivisionError" in facts["cause"]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_agent_program_serves_drivers_of_python(version):
    check_smoke(run_script(SMOKE, python=python_or_skip(version)), version)


def test_an_agent_with_several_environments_gives_each_driver_its_own():
    pythons = {version: python_of(version) for version in VERSIONS}
    present = {version: python for version, python in pythons.items() if python}
    if len(present) < 2:
        pytest.skip("one Python version only: `make venvs` makes environments of others")
    with Agent(pythons=tuple(present.values())) as agent:
        for version, python in present.items():
            check_smoke(run_script(SMOKE, agent.address, python=python), version)
        assert len(agent.zygotes()) == len(present)
        assert not has_libpython(agent.pid)


ARRAYS = """
    import numpy

    def make(number):
        import numpy
        return numpy.arange(number)

    run = Parallel(2, backend="clutch", agents=sys.argv[1])
    for what, task in (("argument", delayed(len)(make(9))), ("result", delayed(make)(9))):
        try:
            say(**{what: len(run([task])) and ""})
        except exceptions.ClutchError as error:
            say(**{what: type(error).__name__ + ": " + str(error)})
    say(numpy=numpy.__version__)
"""


@pytest.mark.parametrize("new_at", ["the driver", "the worker"])
def test_v02_arrays_of_another_numpy_name_both_versions_and_what_to_do(new_at):
    old = python_with_numpy_1()
    if old is None:
        pytest.skip("no environment with NumPy 1: `make venvs` makes it")
    worker, driver = (old, sys.executable) if new_at == "the driver" else (sys.executable, old)
    with Agent(pythons=(worker,), warm=("numpy", "joblib", "cloudpickle")) as agent:
        facts = run_script(ARRAYS, agent.address, python=driver)
    what, kind = {
        "the driver": ("argument", "ArgumentUnpickleError"),
        "the worker": ("result", "ResultUnpickleError"),
    }[new_at]
    assert facts.pop("numpy").startswith("2." if new_at == "the driver" else "1."), facts
    told = facts.pop(what)
    assert set(facts.values()) == {""}, "NumPy 2 reads what NumPy 1 wrote"
    assert told.startswith(f"{kind}: "), told
    versions = re.search(r"the driver has numpy ([\d.]+) and the workers have numpy ([\d.]+)", told)
    assert versions is not None, told
    majors = [version.split(".")[0] for version in versions.groups()]
    assert majors == (["2", "1"] if new_at == "the driver" else ["1", "2"])
    assert f"'numpy=={versions.group(1)}'" in told


def test_the_shim_works_with_every_joblib_at_hand():
    folders = [
        folder
        for folder in sorted(ROOT.glob(".venvs/joblib-*/lib/*/site-packages"))
        if folder.parent.name == f"python{sys.version_info[0]}.{sys.version_info[1]}"
    ]
    if not folders:
        pytest.skip("no other joblib: `make test-joblib` installs them")
    for folder in folders:
        script = f"""
            assert joblib.__file__.startswith({str(folder)!r}), joblib.__file__
            say(version=joblib.__version__)
            run = Parallel(n_jobs=2, backend="clutch")
            say(results=run(delayed(pow)(i, 2) for i in range(50)))
            with parallel_config("clutch", n_jobs=2):
                say(pids=Parallel()(delayed(os.getpid)() for _ in range(4)), own=os.getpid())
            def bad(): raise LookupError("bad")
            try:
                with run:
                    run(delayed(bad)() for _ in range(4))
            except LookupError as error:
                say(caught=str(error))
        """
        facts = run_script(script, PYTHONPATH=_first_on_the_path(folder))
        assert facts["results"] == [i**2 for i in range(50)], facts
        assert facts["own"] not in facts["pids"], facts
        assert facts["caught"] == "bad", facts
        assert facts["version"] in str(folder), facts


def _first_on_the_path(folder):
    import os

    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
