"""What is said when driver and workers have different versions of a package."""

from __future__ import annotations

import pickle
import sys
import types

import pytest

from joblib_clutch import failures
from joblib_clutch.exceptions import ResultUnpickleError
from joblib_clutch.results import load_results
from joblib_clutch.versions import how_to_match, version_here


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a package of a version, and NumPy of one."""
    for name, version in (("boxes", "2.0.1"), ("numpy", "2.3.5")):
        module = types.ModuleType(name)
        module.__version__ = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)


LACKING = [
    ("ModuleNotFoundError", "No module named 'boxes._core.numeric'"),
    ("ModuleNotFoundError", "No module named 'boxes._core'; 'boxes' is not a package"),
    ("ImportError", "cannot import name 'Box' from 'boxes.core' (/there/boxes/core.py)"),
    ("AttributeError", "Can't get attribute '_new_Box' on <module 'boxes.core' from '/there'>"),
]


@pytest.mark.parametrize(("kind", "text"), LACKING)
def test_both_versions_are_named_and_what_to_install(kind: str, text: str) -> None:
    hint = how_to_match(kind, text, None, {"boxes": "1.9"})
    assert hint is not None
    assert "the driver has boxes 2.0.1 and the workers have boxes 1.9," in hint
    assert "'boxes==2.0.1'" in hint


def test_an_exception_says_better_than_its_text_what_is_lacking() -> None:
    cause = ModuleNotFoundError("odd words", name="boxes.core")
    assert how_to_match("ModuleNotFoundError", "odd words", cause, {"boxes": "1.9"}) is not None
    assert how_to_match("ModuleNotFoundError", "odd words", None, {"boxes": "1.9"}) is None


def test_what_has_nothing_to_do_with_versions_is_left_alone() -> None:
    kind, text = LACKING[0]
    for theirs in ({}, {"boxes": "2.0.1"}, {"other": "1.9"}):
        assert how_to_match(kind, text, None, theirs) is None
    assert how_to_match("ValueError", text, None, {"boxes": "1.9"}) is None
    unknown = "No module named 'no_such_package.part'"
    assert how_to_match(kind, unknown, None, {"no_such_package": "1.9"}) is None


def test_a_worker_knows_better_than_its_zygote() -> None:
    kind, text = LACKING[0]
    message = f"the batch cannot be unpickled: {kind}: {text} (in the environment of /x on y, "
    hint = how_to_match(kind, text, None, {"boxes": "2.0.1"}, message + "which has boxes 0.3)")
    assert hint is not None
    assert "the workers have boxes 0.3," in hint
    other = how_to_match(kind, text, None, {"boxes": "1.9"}, message + "which has spam 0.3)")
    assert other is not None
    assert "the workers have boxes 1.9," in other


@pytest.mark.parametrize(("ours", "theirs"), [("2.3.5", "1"), ("1.26.4", "2 or newer")])
def test_the_new_core_of_numpy_is_known_where_nobody_tells(
    ours: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["numpy"], "__version__", ours)
    hint = how_to_match("ModuleNotFoundError", "No module named 'numpy._core'", None, {})
    assert hint is not None
    assert f"the driver has numpy {ours} and the workers have numpy {theirs}," in hint


def test_versions_come_from_the_package_or_from_its_metadata() -> None:
    assert version_here("boxes") == "2.0.1"
    assert version_here("pytest") == pytest.__version__
    assert version_here("no-such-package") is None


def test_it_is_the_advice_of_arguments_that_cannot_be_read() -> None:
    kind, text = LACKING[0]
    failure = {
        "kind": "ARGUMENT_UNREADABLE",
        "fault": "TASK",
        "message": f"the batch cannot be unpickled: {kind}: {text}",
        "advice": "something general",
        "task_index": None,
        "signal": None,
        "exit_code": None,
        "stderr_tail": "",
        "exception_pickle": pickle.dumps(ModuleNotFoundError(text, name="boxes._core.numeric")),
        "exception_type": kind,
        "exception_text": text,
        "traceback": "",
        "pid": 7,
        "attempt": 1,
        "breach": None,
        "wall_seconds": 0.0,
        "cpu_seconds": 0.0,
        "earlier_attempts": [],
    }
    error = failures.to_exception(failure, functions=[len], host="node", packages={"boxes": "1.9"})
    assert "advice: the driver has boxes 2.0.1 and the workers have boxes 1.9" in str(error)
    # The driver has it, but shipping would not help.
    assert "py_modules" not in str(error)


def test_it_is_the_advice_of_results_that_cannot_be_read() -> None:
    unreadable = b"cboxes._core\nBox\n."
    with pytest.raises(ResultUnpickleError, match=r"the workers have boxes 3\.1"):
        load_results([unreadable], None, 1, {"boxes": "3.1"})
    with pytest.raises(ResultUnpickleError, match="can be imported by the driver"):
        load_results([unreadable], None, 1)
