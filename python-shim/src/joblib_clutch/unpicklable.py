"""Finds the part of a task that does not pickle."""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joblib_clutch.payload import Task

# Each step down pickles the children of one object, so both the way down and
# the number of attempts are bounded: this runs only to write a message.
_MAX_DEPTH = 20
_MAX_ATTEMPTS = 500


class Unpicklable(NamedTuple):
    """The deepest part of a task found not to pickle."""

    task_index: int
    function: str
    path: str
    type_name: str


def find_unpicklable(tasks: list[Task]) -> Unpicklable | None:
    """Find the first part of the tasks that does not pickle.

    Parameters
    ----------
    tasks : list of (function, args, kwargs)
        A batch that does not pickle.

    Returns
    -------
    Unpicklable or None
        None when each task pickles by itself.
    """
    search = _Search()
    for index, task in enumerate(tasks):
        if search.pickles(task):
            continue
        function, args, kwargs = task
        parts: list[tuple[str, Any]] = [("function", function)]
        parts += [(f"args[{i}]", value) for i, value in enumerate(args)]
        parts += [(f"kwargs[{name!r}]", value) for name, value in kwargs.items()]
        for path, part in parts:
            if not search.pickles(part):
                where, culprit = search.deepest(path, part)
                return Unpicklable(index, _safe_repr(function), where, _type_name(culprit))
    return None


class _Search:
    def __init__(self) -> None:
        self._attempts_left = _MAX_ATTEMPTS

    def pickles(self, value: object) -> bool:
        if self._attempts_left == 0:
            return True  # stop looking: what was found so far is the answer
        self._attempts_left -= 1
        try:
            cloudpickle.dumps(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - pickling runs the user's code
            return False
        return True

    def deepest(self, path: str, value: object) -> tuple[str, object]:
        for _ in range(_MAX_DEPTH):
            for step, child in _children(value):
                if not self.pickles(child):
                    path, value = path + step, child
                    break
            else:
                break
        return path, value


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{_safe_repr(key)}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("{...}", item) for item in value)
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args{step}", item) for step, item in _children(value.args))
        yield from ((f".keywords{step}", item) for step, item in _children(value.keywords))
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _captured(value)
    if not isinstance(value, type):
        attributes = dict(getattr(value, "__dict__", {}))
        yield from ((f".{name}", item) for name, item in attributes.items())


def _captured(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    try:
        captured = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return
    for name, value in captured.nonlocals.items():
        yield f".closure {name}", value
    for name, value in captured.globals.items():
        yield f".global {name}", value
    for index, value in enumerate(function.__defaults__ or ()):
        yield f".default {index}", value


def _type_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may do anything
        return f"<{_type_name(value)} whose repr raised {type(error).__name__}>"
