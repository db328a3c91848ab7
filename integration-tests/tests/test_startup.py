"""Start-up: what is done before somebody waits for it."""

from importlib.util import find_spec

import pytest
from support import processes
from support.agents import LIGHT_WARM, Agent, clean_environment
from support.drivers import Driver
from support.waiting import until

# A busy machine puts a lesson off for some time.
LESSON_SECONDS = 120


@pytest.fixture
def packages(tmp_path):
    """Return an environment of an agent with installed packages of our own."""
    installed = tmp_path / "site-packages"
    (installed / "gentle").mkdir(parents=True)
    (installed / "gentle" / "__init__.py").write_text("")
    (installed / "gentle" / "part.py").write_text("")
    (installed / "gentle" / "_private.py").write_text("")
    (installed / "starts_a_thread.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    (installed / "ends_zygotes.py").write_text(
        "import os\nif os.environ.get('CLUTCH_WORKER') != '1':\n    os._exit(3)\n"
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "written_by_the_user.py").write_text("")
    path = [str(installed), str(tmp_path / "own"), clean_environment().get("PYTHONPATH", "")]
    return clean_environment(PYTHONPATH=":".join(filter(None, path)))


def import_in_a_new_session(agent, *modules):
    """Have a task of a new driver import modules; return those that were there before."""
    with Driver(
        """
        def load(names):
            from importlib import import_module
            found = [name for name in names if name in sys.modules]
            for name in names:
                import_module(name)
            return found

        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        say(found=run([delayed(load)(sys.argv[2:])])[0])
        """,
        agent.address,
        *modules,
    ) as driver:
        return driver.finish()["found"]


def warm_modules(agent):
    (served,) = agent.status().environments
    return set(served.warm_modules)


def test_a_driver_finds_warm_what_an_earlier_one_imported(packages):
    with Agent(learns=True, environment=packages) as agent:
        (before,) = until(agent.zygotes)
        modules = ["gentle._private", "gentle.part", "wave", "written_by_the_user"]
        assert import_in_a_new_session(agent, *modules) == []
        warm = until(
            lambda: warm_modules(agent), lambda warm: "wave" in warm, seconds=LESSON_SECONDS
        )
        assert {"gentle", "gentle.part", "wave", *LIGHT_WARM} <= warm
        assert {"gentle._private", "written_by_the_user"}.isdisjoint(warm)
        until(agent.zygotes, lambda zygotes: len(zygotes) == 1 and before not in zygotes)
        assert import_in_a_new_session(agent, *modules) == ["gentle.part", "wave"]


@pytest.mark.parametrize("bad", ["starts_a_thread", "ends_zygotes"])
def test_a_module_that_a_zygote_cannot_have_is_not_learned(packages, bad):
    with Agent("--log", "info", learns=True, environment=packages) as agent:
        (before,) = until(agent.zygotes)
        import_in_a_new_session(agent, bad)
        said = "not learned" if bad == "starts_a_thread" else "did not learn"
        until(agent.stderr, lambda text: said in text, seconds=LESSON_SECONDS)
        assert import_in_a_new_session(agent, bad, "gentle") == []
        warm = until(
            lambda: warm_modules(agent), lambda warm: "gentle" in warm, seconds=LESSON_SECONDS
        )
        assert bad not in warm
        assert import_in_a_new_session(agent, bad, "gentle") == ["gentle"]
        until(agent.zygotes, lambda zygotes: len(zygotes) == 1 and before not in zygotes)


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_arrow_costs_no_warmth():
    with Agent(warm=(*LIGHT_WARM, "pyarrow")) as agent:
        assert import_in_a_new_session(agent, "pyarrow") == ["pyarrow"]


def test_the_private_agent_starts_when_the_backend_is_asked_for():
    with Driver(
        """
        parallel_config("clutch", n_jobs=2)
        say(asked=True)
        sys.stdin.readline()
        say(parents=Parallel()(delayed(os.getppid)() for _ in range(2)))
        """
    ) as driver:
        driver.fact("asked")
        (agent,) = until(lambda: processes.children_of(driver.pid), seconds=30)
        until(lambda: processes.named(processes.children_of(agent), "clutch-zygote"), seconds=30)
        driver.go_on()
        assert set(driver.fact("parents")) == {agent}
        driver.finish()


def test_a_sequential_call_of_a_library_starts_no_agent():
    with Driver(
        """
        joblib.register_parallel_backend("clutch", joblib_clutch.ClutchBackend, make_default=True)
        assert Parallel()(delayed(abs)(i) for i in range(2)) == [0, 1]
        assert Parallel(n_jobs=1)(delayed(abs)(i) for i in range(2)) == [0, 1]
        say(done=True)
        sys.stdin.readline()
        """
    ) as driver:
        driver.fact("done")
        assert processes.children_of(driver.pid) == []
        driver.go_on()
        driver.finish()
