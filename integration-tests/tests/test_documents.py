"""What the documents say of the code is what the code says."""

import dataclasses
import re
from pathlib import Path

import pytest
from support.drivers import run_script

from joblib_clutch.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHIM = ROOT / "python-shim/src/joblib_clutch"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def section(document, heading):
    """Return a document's text below a heading, up to the next of its level or above."""
    text = document.read_text()
    level = heading.split(" ")[0]
    above = rf"^#{{1,{len(level)}}} "
    found = re.search(rf"^{re.escape(heading)}$(.*?)(?={above}|\Z)", text, re.M | re.S)
    assert found, f"{document.name} has no {heading!r}"
    return found[1]


def table(text):
    """Return the rows of the first table in a text, as lists of cells."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert len(rows) > 2, "no table"
    return rows[2:]


def names_in(cell):
    return re.findall(r"`([^`]+)`", cell)


def slug(heading):
    """Return the anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            dead.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            dead += [] if anchor in map(slug, headings) else [target]
    assert dead == []


def test_every_file_that_a_document_names_exists():
    named = re.compile(
        r"`((?:docs|executor|integration-tests|protocol|python-shim)/[\w./-]+?\.\w+)`"
    )
    missing = [
        f"{document.name}: {path}"
        for document in DOCUMENTS
        for path in named.findall(document.read_text())
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_the_example_of_the_readme_runs():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    # A driver's script begins with imports of its own, which do no harm.
    said = run_script(example.strip() + "\nsay(mean=float(scores.mean()))")
    assert said["mean"] > 0.9


def test_the_options_of_the_driver_are_those_of_the_code():
    options = section(DOCS / "settings.md", "### Options")
    documented = {names_in(row[0])[0]: row for row in table(options)}
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    # joblib's own, which the backend's constructor takes beside them.
    assert documented.keys() == fields.keys() | {"inner_max_num_threads"}
    for name, row in documented.items():
        assert len(row) == 3, row
        assert row[1].endswith("."), row
        assert row[2], f"{name} has no default"


def test_the_variables_of_the_driver_are_those_of_the_code():
    variables = section(DOCS / "settings.md", "### Environment variables")
    documented = {names_in(row[0])[0] for row in table(variables)}
    sources = [*SHIM.glob("*.py"), ROOT / "protocol/access/src/keepalive.rs"]
    code = "\n".join(path.read_text() for path in sources)
    assert documented == set(re.findall(r'"(CLUTCH_\w+)"', code))


def test_the_exit_codes_are_those_of_the_code():
    code = (ROOT / "executor/src/exit_code.rs").read_text()
    told = {name: int(number) for name, number in re.findall(r"Self::(\w+) => (\d+),", code)}
    assert told, "no exit codes found"
    documented = table(section(DOCS / "operations.md", "### Exit codes"))
    assert {name: int(number) for number, name, _ in documented} == told


def test_the_fields_of_the_ready_line_are_those_of_the_code():
    code = (ROOT / "executor/src/agent/ready.rs").read_text()
    line = code[code.index("let line = json!") :]
    told = set(re.findall(r'^ {8}"(\w+)":', line, re.MULTILINE))
    documented = table(section(DOCS / "operations.md", "## Start"))
    assert {names_in(row[0])[0] for row in documented} == told


def test_the_bounds_of_the_protocol_are_those_of_the_code():
    files = {path.name: path for path in SHIM.glob("*.py")}
    checked = 0
    for _, value, where in table(section(DOCS / "protocol.md", "## Bounds")):
        if not value.endswith(" MiB"):
            continue
        name, file = names_in(where)
        code = files.get(file, ROOT / file).read_text()
        shift = re.search(rf"^(?:pub const )?{name}(?:: usize)? = (\d+) << 20;?$", code, re.M)
        assert shift, f"{name} is not in {file}"
        assert int(shift[1]) == int(value.removesuffix(" MiB")), name
        checked += 1
    assert checked == 4


def test_the_tests_that_hold_the_invariants_exist():
    tests = "\n".join(
        path.read_text()
        for room in ("executor", "protocol", "python-shim", "integration-tests/tests")
        for path in (ROOT / room).rglob("*")
        if path.suffix in {".rs", ".py"} and "target" not in path.parts
    )
    invariants = table(section(DOCS / "ARCHITECTURE.md", "## Invariants"))
    assert len(invariants) > 20
    for sentence, held_by in invariants:
        assert sentence.endswith("."), sentence
        assert held_by == "not tested yet" or names_in(held_by), sentence
        missing = [n for n in names_in(held_by) if not re.search(rf"(fn|def) {n}\(", tests)]
        assert missing == [], sentence


def test_the_architecture_names_every_room_and_is_short():
    text = (DOCS / "ARCHITECTURE.md").read_text()
    # The tables are for looking things up.
    assert len([line for line in text.splitlines() if not line.startswith("|")]) < 260
    rooms = [path for path in (ROOT / "executor/src").iterdir() if path.is_dir()]
    unnamed = [r.name for r in rooms if r.name != "telemetry" and f"**{r.name}**" not in text]
    assert [name for name in unnamed if f"executor/src/{name}" not in text] == []


@pytest.mark.parametrize(
    "path", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda path: path.stem[:4]
)
def test_a_decision_has_its_parts_on_one_page(path):
    text = path.read_text()
    assert text.startswith(f"# {path.stem[:4]}: ")
    assert len(text.splitlines()) <= 60
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "What would change our mind"]
    assert "- Status: " in text
    assert "- Date: " in text


def test_no_queue_of_the_agent_is_unbounded():
    unbounded = re.compile(r"\bunbounded(_channel)?\b|\bstd::sync::mpsc\b")
    rust = [path for path in (ROOT / "executor").rglob("*.rs") if "target" not in path.parts]
    assert rust
    guilty = [
        str(path.relative_to(ROOT))
        for path in rust
        if unbounded.search(re.sub(r"//.*", "", path.read_text()))
    ]
    assert guilty == []
