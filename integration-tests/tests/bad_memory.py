"""Tasks that take more memory than they may. Light to import: each worker imports it."""

import os
import time

_STEP = 4_000_000
_CHILDREN = 4


class ChildEndedError(Exception):
    """A child of the task was killed."""


def touch(count):
    """Touch so many bytes, and stay."""
    held = bytearray()
    while len(held) < count:
        held += b"x" * _STEP
    time.sleep(60)


def touch_in_a_child(count):
    """Let a child touch so many bytes; raise when it is killed."""
    _raise_when_killed([_child(count)])


def touch_in_children(count):
    """The same with several, none of which is over the limit by itself."""
    _raise_when_killed([_child(count // _CHILDREN - _STEP) for _ in range(_CHILDREN)])


def _child(count):
    child = os.fork()
    if child == 0:
        touch(count)
        os._exit(0)
    return child


def _raise_when_killed(children):
    for _ in children:
        child, status = os.wait()
        if status:
            raise ChildEndedError(child, status)
