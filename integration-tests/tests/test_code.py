"""Modules that live only at the driver, on agents that do not see its files."""

import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from joblib import Parallel, delayed
from support.agents import Agent, blobs_in_use, clean_environment, forget, some_address
from support.drivers import Driver, run_script
from support.proxies import Proxy
from support.waiting import until

from joblib_clutch.exceptions import QuotaExceededError

HELPER = """
def where(x):
    from late import triple
    return __file__, triple(x)
"""
LATE = "def triple(x):\n    return 3 * x\n"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def agent(scratch: Path):
    with Agent("--slots", "2", "--scratch-directory", str(scratch)) as agent:
        yield agent


@pytest.fixture
def far(agent: Agent):
    """Return a way to the agent on which no descriptor travels: it counts as far away."""
    with Proxy(agent.address) as proxy:
        yield proxy


def unpacked(scratch: Path) -> list[Path]:
    return [path for path in scratch.glob("clutch-*/s*") if path.is_dir()]


def test_modules_beside_the_script_come_by_content_and_leave_with_the_session(agent, far, scratch):
    source = """
        import helper
        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        (file, nine), *_ = run(delayed(helper.where)(3) for _ in range(4))
        say(file=file, nine=nine)
        sys.stdin.readline()
        """
    with Driver(source, far.address, files={"helper.py": HELPER, "late.py": LATE}) as driver:
        assert driver.fact("nine") == 9
        assert Path(driver.fact("file")).is_relative_to(scratch)
        assert len(unpacked(scratch)) == 1
        driver.go_on()
        driver.finish()
    until(lambda: unpacked(scratch), lambda left: not left, what="the session's files to go")
    until(agent.status, lambda status: blobs_in_use(status) == 0)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_an_agent_whose_view_lacks_the_folder_gets_its_modules(tmp_path, monkeypatch):
    probe = ["unshare", "-m", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not permitted here")
    source = """
        sys.stdin.readline()
        import helper
        def place():
            return sys.path, os.getcwd()
        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        say(results=run(delayed(helper.where)(x) for x in range(3)))
        say(places=run(delayed(place)() for _ in range(2)))
        """
    address = some_address()
    files = {"helper.py": HELPER, "late.py": LATE}
    # Below it is the driver's folder, and nothing that the agent needs.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Driver(source, address, files=files) as driver:
        hide = f'mount -t tmpfs none {tmp_path} && exec "$@"'
        become = ("unshare", "-m", "sh", "-c", hide, "sh")
        with Agent("--slots", "2", address=address, become=become):
            driver.go_on()
            facts = driver.finish()
        folder = str(driver.folder)
    assert [three for _, three in facts["results"]] == [0, 3, 6]
    for path, cwd in facts["places"]:
        assert "/clutch-" in path[0]
        assert folder not in path, "what does not exist there is left out"
        assert cwd != folder


def test_an_agent_that_sees_the_files_gets_nothing(agent, scratch):
    facts = run_script(
        """
        import helper
        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        say(file=run(delayed(helper.where)(1) for _ in range(2))[0][0], own=helper.__file__)
        """,
        agent.address,
        files={"helper.py": HELPER, "late.py": LATE},
    )
    assert facts["file"] == facts["own"]


def test_packages_come_with_their_data_and_relative_imports(far):
    facts = run_script(
        """
        import kit.inner
        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        say(results=run(delayed(kit.inner.read)() for _ in range(2)))
        """,
        far.address,
        files={
            "kit/__init__.py": "",
            "kit/inner.py": """
                from importlib.resources import files
                from .names import NAME
                def read():
                    import spaced.module
                    return files("kit").joinpath("data", NAME).read_text(), spaced.module.X, __file__
                """,
            "kit/names.py": "NAME = 'table.csv'\n",
            "kit/data/table.csv": "1,2",
            "spaced/module.py": "X = 7\n",
        },
    )
    for text, seven, file in facts["results"]:
        assert (text, seven) == ("1,2", 7)
        assert "/clutch-" in file


def test_a_change_between_two_calls_is_shipped_and_workers_of_the_old_are_not_used(far):
    facts = run_script(
        """
        import importlib, pathlib, changing
        run = Parallel(2, backend="clutch", agents=sys.argv[1], batch_size=1)
        first = run(delayed(changing.f)() for _ in range(4))
        pathlib.Path(changing.__file__).write_text("def f():\\n    return 'new'\\n")
        say(first=first, second=run(delayed(changing.f)() for _ in range(4)))
        """,
        far.address,
        files={"changing.py": "def f():\n    return 'old'\n"},
    )
    assert facts == {"first": ["old"] * 4, "second": ["new"] * 4}


def test_two_sessions_have_each_its_own_module_of_the_same_name(far):
    source = """
        import mine
        run = Parallel(2, backend="clutch", agents=sys.argv[1], batch_size=1)
        say(first=run(delayed(mine.f)() for _ in range(2)))
        sys.stdin.readline()
        say(second=run(delayed(mine.f)() for _ in range(2)))
        """
    with (
        Driver(source, far.address, files={"mine.py": "def f():\n    return 1\n"}) as one,
        Driver(source, far.address, files={"mine.py": "def f():\n    return 2\n"}) as two,
    ):
        assert (one.fact("first"), two.fact("first")) == ([1, 1], [2, 2])
        one.go_on()
        two.go_on()
        assert (one.finish()["second"], two.finish()["second"]) == ([1, 1], [2, 2])


def test_content_crosses_the_link_once_for_each_session_and_not_again_for_another(far):
    source = """
        import heavy
        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        for _ in range(3):
            run(delayed(heavy.size)() for _ in range(4))
        # Another profile, the same code.
        limited = Parallel(2, backend="clutch", agents=sys.argv[1], open_files_limit=100)
        say(sizes=limited(delayed(heavy.size)() for _ in range(2)))
        """
    ballast = random.Random(1).randbytes(1 << 20).hex()
    files = {"heavy.py": f"BALLAST = {ballast!r}\ndef size():\n    return len(BALLAST)\n"}
    before = far.sent
    assert run_script(source, far.address, files=files)["sizes"] == [2 << 20] * 2
    first = far.sent - before
    assert 1 << 20 < first < 2 << 20, "once, compressed"
    before = far.sent
    run_script(source, far.address, files=files)
    assert far.sent - before < 1 << 19, "the agent had it by its digest"


def test_named_modules_and_a_working_directory_go_anywhere(agent, tmp_path):
    folder = tmp_path / "elsewhere" / "named"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("VALUE = 5\ndef f():\n    return VALUE\n")
    place = tmp_path / "place"
    place.mkdir()
    (place / "input.txt").write_text("here")
    shutil.make_archive(str(tmp_path / "zipped"), "zip", folder.parent)
    facts = run_script(
        """
        def task():
            import named, pathlib
            return named.f(), named.__file__, pathlib.Path("input.txt").read_text(), os.getcwd()

        options = dict(backend="clutch", agents=sys.argv[1], working_dir=sys.argv[2])
        for wanted in sys.argv[3:]:
            say(**{wanted: Parallel(2, py_modules=[wanted], **options)(
                delayed(task)() for _ in range(2))})
        """,
        agent.address,
        str(place),
        str(folder),
        str(tmp_path / "zipped.zip"),
    )
    for results in facts.values():
        for five, file, text, cwd in results:
            assert (five, text) == (5, "here")
            assert "/clutch-" in file
            assert cwd != str(place)
    assert len(facts) == 2


def test_an_editable_install_comes_along(far, tmp_path):
    project = tmp_path / "project"
    (project / "src" / "edited").mkdir(parents=True)
    (project / "src" / "edited" / "__init__.py").write_text("def f():\n    return __file__\n")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "edited"\nversion = "1"\n'
    )
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), "--editable", str(project)]
    subprocess.run(command, check=True, capture_output=True)
    facts = run_script(
        """
        import site
        site.addsitedir(sys.argv[2])  # as for an environment's own folder of packages
        import edited
        run = Parallel(2, backend="clutch", agents=sys.argv[1])
        say(files=run(delayed(edited.f)() for _ in range(2)), own=edited.__file__)
        """,
        far.address,
        str(target),
    )
    assert all("/clutch-" in file for file in facts["files"])
    assert facts["own"] == str(project / "src" / "edited" / "__init__.py")


def test_v04_a_missing_module_names_the_environment_and_the_way_to_ship_it(far):
    facts = run_script(
        """
        import only_here
        def fails():
            import only_here
        run = Parallel(2, backend="clutch", agents=sys.argv[1], ship_code=False)
        os.rename("only_here.py", "moved")  # same machine: the agent would find it
        for name, task in [("unpickled", only_here.f), ("raised", fails)]:
            try:
                run(delayed(task)() for _ in range(2))
            except exceptions.ArgumentUnpickleError as error:
                say(**{name: [str(error), error.advice]})
            except ModuleNotFoundError as error:
                told = [*getattr(error, "__notes__", []), str(error.__cause__)]
                say(**{name: ["\\n".join(told), ""]})
        """,
        far.address,
        files={"only_here.py": "def f():\n    pass\n"},
    )
    message, advice = facts["unpickled"]
    assert "in the environment of " in message and "bin/python" in message
    assert "py_modules=['only_here']" in advice
    notes, _ = facts["raised"]
    assert "in the environment of " in notes
    assert "bin/python" in notes
    assert "py_modules=['only_here']" in notes


def test_what_a_killed_agent_left_is_swept_by_the_next(tmp_path):
    options = ("--slots", "1", "--scratch-directory", str(tmp_path))
    with Agent(*options) as agent, Proxy(agent.address) as proxy:
        source = """
            import helper
            run = Parallel(2, backend="clutch", agents=sys.argv[1], retries=0)
            say(done=run(delayed(helper.where)(1) for _ in range(2)))
            sys.stdin.readline()
            """
        files = {"helper.py": HELPER, "late.py": LATE}
        with Driver(source, proxy.address, files=files) as driver:
            driver.fact("done")
            assert unpacked(tmp_path)
            agent.process.kill()
            agent.exit_code()
            assert unpacked(tmp_path)
    with Agent(*options):
        until(lambda: unpacked(tmp_path), lambda left: not left, what="the sweep")


def test_nested_calls_and_new_workers_have_the_code_too(far, tmp_path):
    facts = run_script(
        """
        import helper
        def outer(x):
            if x == 5 and not os.path.exists(mark):
                open(mark, "w").close()
                os._exit(3)
            return Parallel(2)(delayed(helper.where)(i) for i in range(3))
        mark = sys.argv[2]
        run = Parallel(2, backend="clutch", agents=sys.argv[1], batch_size=1, retries=1)
        say(results=run(delayed(outer)(x) for x in range(8)))
        """,
        far.address,
        str(tmp_path / "mark"),
        files={"helper.py": HELPER, "late.py": LATE},
    )
    for results in facts["results"]:
        assert [value for _, value in results] == [0, 3, 6]
        assert all("/clutch-" in file for file, _ in results)


def test_what_is_shipped_goes_before_what_the_agent_knows_by_that_name(tmp_path):
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "doubled.py").write_text("WHICH = 'installed'\n")
    own = tmp_path / "own"
    own.mkdir()
    (own / "doubled.py").write_text("WHICH = 'shipped'\n")
    environment = clean_environment(PYTHONPATH=str(installed))
    with Agent("--slots", "1", warm=("joblib", "doubled"), environment=environment) as agent:
        for options, expected in [
            ("", "installed"),
            (f"py_modules=[{str(own / 'doubled.py')!r}]", "shipped"),
        ]:
            facts = run_script(
                f"""
                def which():
                    import doubled
                    return doubled.WHICH
                run = Parallel(2, backend="clutch", agents=sys.argv[1], {options})
                say(which=run(delayed(which)() for _ in range(2)))
                """,
                agent.address,
            )
            assert facts["which"] == [expected] * 2


def test_ship_code_brings_copies_to_a_private_agent():
    facts = run_script(
        """
        import helper
        say(files=[Parallel(2, backend="clutch", ship_code=ship)(
            delayed(helper.where)(1) for _ in range(2))[0][0] for ship in ("auto", True, False)])
        """,
        files={"helper.py": HELPER, "late.py": LATE},
    )
    auto, always, never = facts["files"]
    assert auto == never
    assert always != auto
    assert Path(always).name == "helper.py"


def test_code_that_does_not_fit_into_the_agent_is_an_error_that_says_so(tmp_path):
    (tmp_path / "bulky.py").write_text(f"X = {random.Random(2).randbytes(2 << 20).hex()!r}\n")
    options = ("--slots", "1", "--blob-memory-bytes", str(1 << 20), "--spill-bytes", "0")
    with Agent(*options) as agent, Proxy(agent.address) as proxy:
        run = Parallel(
            2,
            backend="clutch",
            agents=proxy.address,
            ship_code=False,
            py_modules=[tmp_path / "bulky.py"],
        )
        with pytest.raises(QuotaExceededError, match="archive of the driver's code") as caught:
            run(delayed(abs)(-i) for i in range(2))
        assert "py_modules" in caught.value.advice
        forget(proxy.address)
