"""Code that only the driver has: lambdas, closures, classes of `__main__`, modules."""

import os
from pathlib import Path

import joblib
import pytest
from joblib import Parallel, delayed
from support.drivers import run_script


def test_lambdas_and_closures_travel(shared_agent):
    factor = 3
    run = Parallel(2, backend="clutch", agents=shared_agent.address)
    assert run(delayed(lambda x: x * factor)(i) for i in range(5)) == [0, 3, 6, 9, 12]

    def outer(x):
        def inner(y):
            return x + y * factor

        return inner

    assert run(delayed(outer(i))(1) for i in range(3)) == [3, 4, 5]


def test_classes_and_functions_of_a_script_travel():
    facts = run_script(
        """
        import dataclasses, enum

        LIMIT = 10

        class Colour(enum.Enum):
            RED = 1

        @dataclasses.dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED

            def moved(self):
                return Point(min(self.x + helper(), LIMIT), self.colour)

        class ScriptError(Exception):
            pass

        def helper():
            return 5

        def limit():
            return LIMIT

        def fails():
            raise ScriptError("of the script")

        run = Parallel(n_jobs=2, backend="clutch")
        points = run(delayed(point.moved)() for point in [Point(1), Point(8)])
        try:
            run(delayed(fails)() for _ in range(3))
        except ScriptError as error:
            say(error=str(error), cause=str(error.__cause__))
        limits = [run(delayed(limit)() for _ in range(4))]
        LIMIT = 3
        limits.append(run(delayed(limit)() for _ in range(4)))
        say(
            equal=points == [Point(6), Point(10)],
            same_enum=points[0].colour is Colour.RED,
            limits=limits,
        )
        """
    )
    assert facts["equal"]
    assert facts["same_enum"]
    assert facts["error"] == "of the script"
    assert "in fails" in facts["cause"]
    assert facts["limits"] == [[10] * 4, [3] * 4], "a worker kept a global of the script"


def test_a_script_needs_no_guard_around_its_main_part(tmp_path):
    facts = run_script(
        """
        with open(sys.argv[1], "a") as log:
            log.write("ran\\n")
        say(results=Parallel(n_jobs=2, backend="clutch")(delayed(abs)(-i) for i in range(4)))
        """,
        str(tmp_path / "log"),
    )
    assert facts["results"] == [0, 1, 2, 3]
    assert (tmp_path / "log").read_text() == "ran\n", "a worker ran the script again"


def test_functions_of_a_notebook_travel_as_they_are_now():
    facts = run_script(
        """
        import types
        # As a kernel does: cells run one by one in a __main__ without a file.
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        cells = [
            "from joblib import Parallel, delayed\\nimport joblib_clutch",
            "def f(x):\\n    return x + offset",
            "offset = 1",
            "first = Parallel(2, backend='clutch')(delayed(f)(i) for i in range(3))",
            "offset = 10\\ndef f(x):\\n    return x * offset",
            "second = Parallel(2, backend='clutch')(delayed(f)(i) for i in range(3))",
        ]
        for number, cell in enumerate(cells):
            exec(compile(cell, f"<cell {number}>", "exec"), main.__dict__)
        say(first=main.first, second=main.second)
        """
    )
    assert facts == {"first": [1, 2, 3], "second": [0, 10, 20]}


def test_modules_beside_the_script_are_found_by_the_workers(tmp_path):
    package = tmp_path / "libraries" / "only_here"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from only_here.part import triple\n")
    (package / "part.py").write_text("def triple(x):\n    return 3 * x\n")
    facts = run_script(
        """
        sys.path.insert(0, sys.argv[1])
        import only_here
        say(results=Parallel(n_jobs=2, backend="clutch")(
            delayed(only_here.triple)(i) for i in range(4)))
        os.chdir(sys.argv[1])
        say(folders=Parallel(n_jobs=2, backend="clutch")(delayed(os.getcwd)() for _ in range(2)))
        """,
        str(package.parent),
    )
    assert facts["results"] == [0, 3, 6, 9]
    assert set(facts["folders"]) == {os.path.realpath(package.parent)}


def test_a_cached_function_is_computed_once(shared_agent, tmp_path):
    memory = joblib.Memory(tmp_path / "cache", verbose=0)
    log = tmp_path / "log"
    log.touch()

    @memory.cache
    def square(x):
        with Path(log).open("a") as file:
            file.write(f"{x}\n")
        return x * x

    run = Parallel(2, backend="clutch", agents=shared_agent.address)
    for _ in range(3):
        assert run(delayed(square)(i) for i in range(6)) == [0, 1, 4, 9, 16, 25]
    assert sorted(map(int, log.read_text().split())) == list(range(6))
    assert square(3) == 9
    assert len(log.read_text().split()) == 6, "the driver does not see what the workers cached"


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, (1 << 20) - 1, (1 << 20) + 1, 40 << 20])
def test_arguments_and_results_of_any_size_arrive_whole(shared_agent, size):
    def check(data, seed):
        import random

        assert data == random.Random(seed).randbytes(size)
        return data[::-1]

    import random

    run = Parallel(2, backend="clutch", agents=shared_agent.address, batch_size=1)
    sent = [random.Random(seed).randbytes(size) for seed in range(2)]
    assert run(delayed(check)(data, seed) for seed, data in enumerate(sent)) == [
        data[::-1] for data in sent
    ]
