"""The benchmark suite works: what it measures is another matter."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.agents import clean_environment
from support.waiting import until

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "integration-tests/benchmarks"
BACKENDS = ["clutch", "loky"]


@pytest.fixture
def suite(monkeypatch):
    """Make the suite's modules importable."""
    monkeypatch.syspath_prepend(str(SUITE))


def results_of(suite_rounds):
    """Return results of the scenario `tiny` with the given rates of each round."""
    import scenarios
    from results import Results

    results = Results(
        about={}, scenarios=(scenarios.BY_NAME["tiny"],), backends=BACKENDS, quick=False
    )
    for backend, rounds in suite_rounds.items():
        results.rounds["tiny", backend] = rounds
    return results


def test_a_quick_run_has_every_figure(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, SUITE / "run.py", "--quick", "--json", file, "--backends"]
    ran = subprocess.run(
        [*command, *BACKENDS],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "x better than loky" in ran.stdout
    found = json.loads(file.read_text())["scenarios"]
    assert set(found) == {"tiny", "auto", "idle", "nested"}
    for name, scenario in found.items():
        assert scenario["failures"] == {}, name
        for backend in BACKENDS:
            (figures,) = scenario["rounds"][backend]
            expected = set(scenario["rows"]) - ({"agent_cpu"} if backend == "loky" else set())
            assert set(figures) == expected, name
            assert all(value > 0 for value in figures.values()), (name, backend, figures)


def test_an_unknown_scenario_is_refused_by_name():
    ran = subprocess.run(
        [sys.executable, SUITE / "run.py", "--scenarios", "warp"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert "'warp'" in ran.stderr


@pytest.mark.usefixtures("suite")
def test_ratios_above_one_are_better_whichever_way_the_unit_points():
    ours = [{"rate": 6.0, "driver_cpu": 10.0}, {"rate": 8.0, "driver_cpu": 10.0}]
    theirs = [{"rate": 2.0, "driver_cpu": 30.0}, {"rate": 2.0, "driver_cpu": 20.0}]
    results = results_of({"clutch": ours, "loky": theirs})
    rate = results.ratio("tiny.rate", than="loky")
    assert (rate.least, rate.median, rate.most) == (3, 3.5, 4)
    cpu = results.ratio("tiny.driver_cpu", than="loky")
    assert (cpu.least, cpu.median, cpu.most) == (2, 2.5, 3)


@pytest.mark.usefixtures("suite")
def test_a_target_is_judged_by_the_median_and_only_when_measured():
    import targets

    theirs = [{"rate": 1.0}] * 3
    good = results_of({"clutch": [{"rate": 1.0}, {"rate": 3.0}, {"rate": 9.0}], "loky": theirs})
    bad = results_of({"clutch": [{"rate": 2.9}] * 3, "loky": theirs})
    assert targets.verdict("tiny.rate", good) == "met"
    assert targets.verdict("tiny.rate", bad) == "not met"
    assert targets.verdict("tiny.rate", results_of({"loky": theirs})) == "not measured"
    assert targets.verdict("nested.seconds", good) == ""


def test_the_figures_replace_those_of_the_run_before(suite, monkeypatch, tmp_path):
    import run

    document, picture = tmp_path / "benchmarks.md", tmp_path / "benchmarks.svg"
    document.write_text((ROOT / "docs/benchmarks.md").read_text())
    monkeypatch.setattr(run, "DOCUMENT", document)
    monkeypatch.setattr(run, "PICTURE", picture)
    theirs = [{"rate": 1.0}]
    for rate in (123.0, 456.0):
        results = results_of({"clutch": [{"rate": rate}], "loky": theirs})
        results.about = machine_facts()
        run._write(results)
    text = document.read_text()
    assert "| 456 |" in text
    assert "| 123 |" not in text
    assert "](benchmarks.svg)" in text
    assert text.count(run.BEGIN) == text.count(run.END) == 1
    bars = ElementTree.parse(picture).findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["met"]


def machine_facts():
    import machine

    return machine.about(1)


@pytest.mark.usefixtures("suite")
def test_every_target_is_of_a_row_that_exists():
    import scenarios
    import targets

    rows = {scenario.key(row) for scenario in scenarios.ALL for row in scenario.rows}
    assert targets.ALL.keys() <= rows


@pytest.mark.usefixtures("suite")
def test_every_limit_of_a_row_is_measured():
    import backends
    import limits
    import scenarios

    names = {limit.name for limit in limits.ALL}
    for scenario in scenarios.ALL:
        figures = {row.figure for row in scenario.rows} | {"half_cpu"}
        for row in scenario.rows:
            reference, dot, figure = (row.limit or "").partition(".")
            if dot:
                assert reference in scenario.references, scenario.key(row)
                assert backends.BY_NAME[reference].is_reference
                assert figure in figures, scenario.key(row)
            elif reference:
                assert reference in names, scenario.key(row)


@pytest.mark.usefixtures("suite")
def test_a_backend_that_ends_is_reported_with_its_last_words():
    from processes import ProcessFailedError, Talker

    talker = Talker([sys.executable, "-c", "raise SystemExit('no room')"])
    try:
        with pytest.raises(ProcessFailedError, match="ended: no room"):
            talker.answer(60)
    finally:
        talker.end()


@pytest.mark.usefixtures("suite")
def test_memory_that_a_child_takes_is_seen():
    import measure

    code = "data = bytearray(b'x') * 50_000_000; print('has it', flush=True); input()"
    with (
        measure.MemoryWatch() as watch,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
    ):
        child.stdout.readline()
        until(lambda: watch.growth_bytes, lambda grown: grown > 50_000_000, what="the growth")
        child.communicate(b"\n")
    assert watch.anonymous_bytes([child.pid]) > 50_000_000


def test_the_document_lists_every_scenario(suite):
    import scenarios

    text = (ROOT / "docs/benchmarks.md").read_text()
    part = text.partition("## What is measured")[2].partition("## ")[0]
    for name in scenarios.BY_NAME:
        base, _, size = name.partition("-")
        assert f"`{name}`" in part or (f"`{base}-1k`" in part and f"`-{size}`" in part), name


def test_the_document_has_its_markers(suite):
    import run

    text = (ROOT / "docs/benchmarks.md").read_text()
    assert 0 < text.find(run.BEGIN) < text.find(run.END)
