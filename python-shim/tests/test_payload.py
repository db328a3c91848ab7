"""Pickling of tasks, and the search for what does not pickle."""

from __future__ import annotations

import functools
import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from joblib_clutch.exceptions import ArgumentPickleError
from joblib_clutch.payload import TaskPickler
from joblib_clutch.unpicklable import find_unpicklable


class Holder:
    def __init__(self, value: object) -> None:
        self.value = value


class Stubborn:
    def __reduce__(self) -> Any:
        raise SystemExit(3)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def closure_over(value: object) -> Any:
    def inner() -> object:
        return value

    return inner


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ((len, ({"lock": LOCK},), {}), "args[0]['lock']"),
        ((len, (1, [0, (LOCK,)]), {}), "args[1][1][0]"),
        ((len, (), {"f": closure_over(LOCK)}), "kwargs['f'].closure value"),
        ((closure_over([LOCK]), (), {}), "function.closure value[0]"),
        ((functools.partial(len, LOCK), (), {}), "function.args[0]"),
        ((len, (Holder({1: LOCK}),), {}), "args[0].value[1]"),
    ],
)
def test_the_culprit_is_named(task: Any, path: str) -> None:
    found = find_unpicklable([(len, ((),), {}), task])
    assert found is not None
    assert (found.task_index, found.path, found.type_name) == (1, path, "_thread.lock")


def test_a_cycle_ends_the_search() -> None:
    holder = Holder(None)
    holder.value = {"self": holder, "lock": LOCK}
    assert find_unpicklable([(len, (holder,), {})]) is not None


def test_objects_that_exit_or_have_no_repr_are_errors_too() -> None:
    with pytest.raises(ArgumentPickleError, match="the task to send"):
        TaskPickler().dumps([(Stubborn(), (Stubborn(),), {})])


def test_plain_tasks_are_pickled_plainly() -> None:
    tasks = [(len, ("abc",), {})]
    assert TaskPickler().dumps(tasks).data == pickle.dumps(tasks, protocol=5)


def test_functions_of_main_go_by_value() -> None:
    function = closure_over(5)
    function.__module__ = "__main__"
    ((rebuilt, _, _),) = pickle.loads(TaskPickler().dumps([(function, (), {})]).data)
    assert rebuilt() == 5


def test_modules_registered_by_value_go_by_value() -> None:
    import fake_agent

    cloudpickle.register_pickle_by_value(fake_agent)
    try:
        data = TaskPickler().dumps([(fake_agent.raised, (), {})]).data
    finally:
        cloudpickle.unregister_pickle_by_value(fake_agent)
    assert b"Describe an exception" in data
