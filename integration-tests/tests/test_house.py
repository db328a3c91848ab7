"""The rules of the house: small files, and rooms that keep to themselves."""

import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FILE_LINES = 500
GENERATED = ("protocol/src/generated/", "protocol/python/")
# Folders that hold no sources of ours.
SKIPPED = {"target", "build", "dist", "_agent", "rust", "__pycache__", "proto"}


def sources(*suffixes, below=("executor", "protocol", "python-shim", "integration-tests")):
    found = [
        path
        for room in below
        for path in (ROOT / room).rglob("*")
        if path.suffix in suffixes
        and not SKIPPED & set(path.relative_to(ROOT).parts)
        and not str(path.relative_to(ROOT)).startswith(GENERATED)
    ]
    assert found, f"no {suffixes} below {below}"
    return found


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def code(path):
    """Return a Rust file without its line comments."""
    return re.sub(r"//.*", "", path.read_text())


def toml(path):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    return tomllib.loads((ROOT / path).read_text())


def mentioning(pattern, paths):
    return names(path for path in paths if re.search(pattern, code(path)))


def test_no_file_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in sources(".rs", ".py", ".sh")}
    assert names(p for p, lines in lengths.items() if lines > LONGEST_FILE_LINES) == []


@pytest.mark.parametrize("suffix", [".rs", ".py"])
def test_the_typical_file_is_read_at_a_glance(suffix):
    lines = [len(path.read_text().splitlines()) for path in sources(suffix)]
    assert statistics.median(lines) <= 150


def test_only_the_interpreter_and_the_native_half_of_the_shim_speak_python():
    rooms = {"interpreter", "native"}
    others = [p for p in sources(".rs") if not rooms & set(p.relative_to(ROOT).parts)]
    assert mentioning(r"\bpyo3\b", others) == []
    manifests = sources(".toml", below=("executor", "protocol", "python-shim"))
    users = names(p for p in manifests if re.search(r"^pyo3\b", p.read_text(), re.MULTILINE))
    assert users == ["executor/interpreter/Cargo.toml", "python-shim/native/Cargo.toml"]


def test_the_scheduler_is_pure():
    scheduler = sources(".rs", below=("executor/src/scheduler",))
    impure = r"\b(tokio|Instant|SystemTime|rustix|libc|pyo3|std::(fs|io|net|process|thread|env))\b"
    assert mentioning(impure, scheduler) == []
    assert mentioning(r"\b(clutch_protocol|prost|tonic)\b", scheduler) == []


def test_placement_is_pure():
    folder = "python-shim/client/src/placement"
    placement = sources(".rs", below=(folder,))
    impure = r"\b(tokio|Instant|SystemTime|rustix|libc|std::(fs|io|net|process|thread|env|sync))\b"
    assert mentioning(impure, placement) == []
    assert mentioning(r"\b(clutch_protocol|prost|tonic)\b", placement) == []


def test_only_the_service_and_the_operators_commands_know_the_wire():
    rooms = {ROOT / "executor/src/service", ROOT / "executor/src/operator"}
    others = [
        path
        for path in sources(".rs", below=("executor/src", "executor/interpreter"))
        if not rooms & set(path.parents)
    ]
    assert mentioning(r"\bclutch_protocol::v1\b|\bprost\b", others) == []


def test_the_interpreter_links_neither_the_agent_nor_the_wire():
    manifest = toml("executor/interpreter/Cargo.toml")
    foreign = {"clutch-executor", "clutch-protocol", "prost", "tokio", "tonic"}
    assert not foreign & manifest["dependencies"].keys()


def test_versions_agree():
    cargo = toml("Cargo.toml")["workspace"]["package"]["version"]
    shim = toml("python-shim/pyproject.toml")["project"]["version"]
    module = (ROOT / "python-shim/src/joblib_clutch/version.py").read_text()
    assert shim == cargo
    assert f'__version__ = "{cargo}"' in module


def test_every_failure_kind_is_known_to_the_shim():
    contract = (ROOT / "protocol/proto/clutch/v1/failure.proto").read_text()
    kinds = set(re.findall(r"^  FAILURE_KIND_(\w+) = ", contract, re.MULTILINE)) - {"UNSPECIFIED"}
    shim = (ROOT / "python-shim/src/joblib_clutch/failures.py").read_text()
    assert sorted(kind for kind in kinds if kind not in shim) == []
