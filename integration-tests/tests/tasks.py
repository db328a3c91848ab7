"""What tests run on agents. Light to import: each worker imports it."""

import collections
import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path


def double(number):
    return 2 * number


def first(sequence):
    return sequence[0]


def pid(*_):
    return os.getpid()


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


def after(seconds, value):
    time.sleep(seconds)
    return value


def span(seconds):
    """Sleep; return when that began and ended."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def big_result(kind, size, number):
    """Return so many bytes that are all this number, after some time."""
    time.sleep(0.3)
    if kind == "bytes":
        return bytes([number]) * size
    numpy = __import__("numpy")
    return numpy.full(size, number, dtype=numpy.uint8)


def sum_of(result):
    return sum(result) if isinstance(result, bytes) else int(result.sum(dtype=int))


def parent_pid():
    return os.getppid()


def environment(name):
    return os.environ.get(name)


def set_environment(name, value):
    os.environ[name] = value


def environment_and_pid(name):
    return os.environ.get(name), os.getpid()


def wait_for(path, value=None, seconds=30):
    """Wait until the file exists, then return the value."""
    deadline = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} never came")
        time.sleep(0.005)
    return value


def write_pid_and_sleep(path, seconds=60):
    """Leave our process id in a file of that name, then sleep."""
    Path(f"{path}.{os.getpid()}").write_text(str(os.getpid()))
    time.sleep(seconds)


def noted(log, number, gate=None, *_):
    """Note in a file that we run, wait at the gate if there is one, return the number."""
    with Path(log).open("a") as file:
        file.write(f"{number}\n")
    return number if gate is None else wait_for(gate, number)


def noted_sums(log, number, gate, *values):
    """Do as `noted`; return the number and a sum, or else a length, of each value."""
    sums = [float(value.sum()) if hasattr(value, "sum") else len(value) for value in values]
    return noted(log, number, gate), sums


def noted_array(log, number, gate):
    """Do as `noted`; return many bytes."""
    import numpy as np

    return np.full(500_000, noted(log, number, gate))


def note_and_kill_parent(log, number):
    """Note that we run, and kill the agent."""
    noted(log, number)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def open_gate(path):
    Path(path).touch()


def burn(seconds):
    """Keep a core busy for this much CPU time."""
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        pass
    return os.getpid()


def raise_value_error(text, number):
    raise ValueError(text, number)


def raise_error(error):
    raise error


def raise_keyboard_interrupt():
    raise KeyboardInterrupt


class OddError(Exception):
    """Can be pickled, and not rebuilt: `args` are not the constructor's."""

    def __init__(self, name, value):
        super().__init__(f"{name} is {value}")


def raise_odd():
    raise OddError("x", 3)


def raise_unpicklable():
    error = ValueError("has a lock")
    error.lock = threading.Lock()
    raise error


def recurse():
    return recurse()


def exit_with(code):
    sys.exit(code)


def exit_hard(code):
    os._exit(code)


def segfault():
    ctypes.string_at(0)


def abort():
    os.abort()


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def close_descriptors():
    os.closerange(3, 256)
    return 5


def close_stdout():
    sys.stdout.close()
    return 5


def close_stdout_descriptor():
    # A worker that ran this before has none to close.
    with contextlib.suppress(OSError):
        os.close(1)
    return 5


def hold_the_gil():
    collections.deque(itertools.repeat(0), maxlen=0)


def sleep_long():
    time.sleep(60)


def return_lock():
    return threading.Lock()


class FailsToLoad:
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self):
        return _refuse, (os.getpid(),)


def _refuse(pid):
    if os.getpid() != pid:
        raise LookupError("not in this process")
    return FailsToLoad()


def return_what_fails_to_load():
    return FailsToLoad()


def hold_bytes(count, seconds=0.06, kept=[]):  # noqa: B006 - remembers between calls, on purpose
    kept.append(b"x" * count)
    time.sleep(seconds)  # a worker looks at its memory every 50 ms
    return os.getpid()


def start_programs():
    """Start programs, also after the system has refused one; not so many that it hurts."""
    for _ in range(400):
        with contextlib.suppress(OSError):
            os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
        time.sleep(0.005)
    time.sleep(60)


def fill_scratch(count):
    """Write bytes where temporary files go, and stay."""
    (Path(os.environ["TMPDIR"]) / "filling").write_bytes(bytes(count))
    time.sleep(60)


def register_rseq():
    """Register this thread's restartable sequences; return the error number, 0 when it worked.

    That is: when the kernel did not have them, although the C library thinks so.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.pthread_self.restype = ctypes.c_size_t
    offset = ctypes.c_ssize_t.in_dll(library, "__rseq_offset").value
    area = ctypes.c_void_p(library.pthread_self() + offset)
    system_call, length, signature = 334, 32, 0x53053053
    answer = library.syscall(system_call, area, length, 0, signature)
    return 0 if answer == 0 else ctypes.get_errno()


def meet(folder, number):
    """Wait until so many tasks are in here together; return our process id."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + 30
    while len([*Path(folder).iterdir()]) < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len([*Path(folder).iterdir()])} of {number} came")
        time.sleep(0.005)
    return os.getpid()


def most_at_once(folder, seconds):
    """Stay a while; return the most tasks that were in here at the same time."""
    mine = Path(folder, str(os.getpid()))
    mine.touch()
    most = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, len([*Path(folder).iterdir()]))
        time.sleep(0.002)
    mine.unlink()
    return most


def nested_sum(number):
    """Add up the numbers below a number, with joblib."""
    from joblib import Parallel, delayed

    return sum(Parallel(n_jobs=2)(delayed(int)(each) for each in range(number)))


def sum_after(array, seconds, number):
    time.sleep(seconds)
    return float(array.sum()) + number


def note(log, value):
    with Path(log).open("a") as file:
        file.write(f"{value}\n")


def note_and_wait(log, value, seconds):
    note(log, value)
    time.sleep(seconds)
    return value


def note_until(log, value, gate):
    """Take some time as long as the file is not there."""
    note(log, value)
    if not Path(gate).exists():
        time.sleep(0.05)
    return value


def slow_the_first_time(mark, seconds):
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "again"
    time.sleep(seconds)
    return "first"
