"""Pickles the tasks of a batch."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle

from joblib_clutch.exceptions import ArgumentPickleError
from joblib_clutch.unpicklable import find_unpicklable

Task = tuple[Any, tuple[Any, ...], dict[str, Any]]

_PROTOCOL = 5  # the oldest supported interpreter's highest


class TaskPickler:
    """Pickles the batches of one call.

    Plain pickle is several times faster than cloudpickle but refers to the
    driver's ``__main__``, and to modules registered to go by value, which the
    worker does not have. Tasks of one call are alike: once one of them needs
    cloudpickle, all get it.
    """

    def __init__(self) -> None:
        self._by_value = False

    def dumps(self, tasks: list[Task]) -> bytes:
        """Pickle the tasks of one batch.

        Parameters
        ----------
        tasks : list of (function, args, kwargs)
            The tasks.

        Returns
        -------
        bytes
            The pickled list.

        Raises
        ------
        ArgumentPickleError
            Naming the part that does not pickle.
        """
        if not self._by_value and not cloudpickle.list_registry_pickle_by_value():
            data = _plainly(tasks)
            if data is not None and b"__main__" not in data:
                return data
            self._by_value = True
        try:
            return bytes(cloudpickle.dumps(tasks, protocol=_PROTOCOL))
        except KeyboardInterrupt:
            raise
        except BaseException as cause:
            raise _explained(tasks, cause) from cause


def _plainly(tasks: list[Task]) -> bytes | None:
    try:
        return pickle.dumps(tasks, protocol=_PROTOCOL)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it is, cloudpickle may cope
        return None


def _explained(tasks: list[Task], cause: BaseException) -> ArgumentPickleError:
    found = find_unpicklable(tasks)
    message = "Could not pickle the task to send it to the workers."
    if found is None:
        return ArgumentPickleError(
            f"{message} {type(cause).__name__}: {cause}",
            kind="ARGUMENT_UNPICKLABLE",
            fault="TASK",
        )
    return ArgumentPickleError(
        f"{message} The culprit is {found.path} of type {found.type_name}"
        f" ({type(cause).__name__}: {cause})",
        kind="ARGUMENT_UNPICKLABLE",
        fault="TASK",
        task_index=found.task_index,
        function=found.function,
        type_name=found.type_name,
        advice="create it inside the task, or give its class a __reduce__",
    )
