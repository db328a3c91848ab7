"""What tasks do wrong. Light to import: each worker imports it."""

import contextlib
import ctypes
import locale
import mmap
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

# What forks without end must end by itself where nobody stops it.
MOST_FORKS = 400

_MEGABYTE = 1 << 20
_HOG = f"held = bytearray()\nwhile True: held += b'x' * {4 * _MEGABYTE}"


def note(path):
    """Leave a line in a file; lines of several processes do not mix."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{os.getpid()}\n")


def noted(path):
    """Return the lines in the file."""
    return Path(path).read_text().split() if Path(path).exists() else []


# --- endings ------------------------------------------------------------------


def raise_with_history():
    unused = {"a local": "variable"}
    try:
        raise KeyError("the first")
    except KeyError as error:
        raised = ValueError("the second", len(unused))
        if hasattr(raised, "add_note"):
            raised.add_note("noted by the task")
        raise raised from error


def raise_local_class():
    """Raise what only this process can name."""
    module = types.ModuleType("known_to_the_worker_only")
    exec("class Odd(Exception): pass", module.__dict__)
    sys.modules[module.__name__] = module
    raise module.Odd("of the worker")


class UnreducibleError(Exception):
    def __reduce__(self):
        raise TypeError("not to be pickled")


def raise_unreducible():
    raise UnreducibleError("kept its text")


class OwnBase(BaseException):
    pass


def raise_own_base():
    raise OwnBase("below everything")


def raise_signal(number):
    signal.raise_signal(number)
    time.sleep(60)


def say_and_wait(path, gate):
    """Note our process id, then wait until the gate is there."""
    note(path)
    while not Path(gate).exists():
        time.sleep(0.005)
    return os.getpid()


def die_the_first_time(path, seconds):
    """Note that we ran; end the process when nobody had before."""
    first = not noted(path)
    note(path)
    time.sleep(seconds)
    if first:
        os._exit(9)
    return os.getpid()


def note_and_sleep(path, seconds):
    note(path)
    time.sleep(seconds)
    return os.getpid()


def note_and_die(path):
    note(path)
    os._exit(9)


def flood_stdout(count):
    block = b"x" * _MEGABYTE
    for _ in range(count // _MEGABYTE):
        os.write(1, block)
    return count


def flood_stderr_and_die(count):
    block = bytes(range(256)) * 256
    for _ in range(count // len(block)):
        os.write(2, block)
    os._exit(9)


def spin():
    while True:
        pass


def swallow_everything():
    """Do not be stopped by anything that can be refused."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        with contextlib.suppress(BaseException):
            while True:
                pass


def stop_self():
    os.kill(os.getpid(), signal.SIGSTOP)


def corrupt_the_heap():
    """Overwrite the allocator's own words around a block, and allocate on."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(2000) for _ in range(20)]
    for block in blocks:
        ctypes.memset(block - 16, 0x41, 2100)
    for block in blocks:
        library.free(block)
    os.abort()


# --- what stays behind --------------------------------------------------------


def state():
    """Return what the next task of a worker finds."""
    mask = os.umask(0)
    os.umask(mask)
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM]
    return {
        "directory": os.getcwd(),  # noqa: PTH109
        "variables": (os.environ.get("HOME"), os.environ.get("BAD_TASK")),
        "umask": mask,
        "handlers": [str(signal.getsignal(number)) for number in numbers],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": signal.getitimer(signal.ITIMER_REAL)[0],
        "nice": os.nice(0),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "path": list(sys.path),
        "locale": locale.setlocale(locale.LC_ALL),
        "streams": [stream.closed for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "descriptors": [_is_open(number) for number in (0, 1, 2)],
        "recursion": sys.getrecursionlimit(),
    }


def _is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def change_directory():
    os.chdir("/usr")


def change_variables():
    os.environ["BAD_TASK"] = "was here"
    del os.environ["HOME"]


def change_umask():
    os.umask(0o077)


def change_handlers():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    # Rarer signals are looked at once in 50 ms, or after tasks that take a while.
    time.sleep(0.001)


def change_signal_mask():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})


def set_a_timer():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 30)


def change_nice():
    os.nice(5)
    _be_looked_at()


def change_soft_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    _be_looked_at()


def _be_looked_at():
    """Take as long as it may take until a worker looks at what is costly to look at."""
    time.sleep(0.06)


def change_path():
    sys.path[:0] = ["/no/such/place"]


def change_locale():
    for name in ("C.UTF-8", "C", "POSIX"):
        before = locale.setlocale(locale.LC_ALL)
        if locale.setlocale(locale.LC_ALL, name) != before:
            return


def close_streams():
    sys.stdout.close()
    os.close(1)


def change_recursion_limit():
    sys.setrecursionlimit(5000)


CHANGES = [
    change_directory,
    change_variables,
    change_umask,
    change_handlers,
    change_signal_mask,
    set_a_timer,
    change_nice,
    change_soft_limit,
    change_path,
    change_locale,
    close_streams,
    change_recursion_limit,
]


def damage_modules():
    for name in ("pickle", "cloudpickle", "joblib", "os", "threading"):
        sys.modules.pop(name, None)
    sys.modules["json"] = types.ModuleType("json")
    return os.getpid()


def leave_a_thread():
    threading.Thread(target=time.sleep, args=(60,)).start()
    return os.getpid()


def leave_a_child(kind):
    """Start a process that sleeps; return our id and its own."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if kind != "plain":
            os.setsid()
        if kind == "double" and os.fork():
            os._exit(0)
        os.write(writing, str(os.getpid()).encode())
        os.close(writing)
        time.sleep(600)
        os._exit(0)
    os.close(writing)
    child = int(os.read(reading, 20))
    os.close(reading)
    return os.getpid(), child


def use_a_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2, -3])


def fork_without_end(path):
    """Fork, and let each child do so, up to a bound; our ids are in a file."""
    count = mmap.mmap(-1, 8)
    while (forks := int.from_bytes(count[:8], "little")) < MOST_FORKS:
        count[:8] = (forks + 1).to_bytes(8, "little")
        try:
            if os.fork() == 0:
                note(path)
        except OSError:
            count[:8] = forks.to_bytes(8, "little")
            time.sleep(0.01)
    time.sleep(30)
    os._exit(0)


def leak_files(count, kept=[]):  # noqa: B006 - remembers between calls, on purpose
    kept += [open(os.devnull) for _ in range(count)]  # noqa: PTH123, SIM115
    _be_looked_at()
    return os.getpid()


def leave_zombies(count):
    for _ in range(count):
        if os.fork() == 0:
            os._exit(0)
    return os.getpid()


def fill_scratch(count, link_to):
    """Write a file of so many bytes where temporary files go, and a link beside it."""
    import tempfile

    folder = Path(tempfile.gettempdir())
    (folder / "link").symlink_to(link_to)
    with (folder / "file").open("wb") as file:
        for _ in range(count // _MEGABYTE):
            file.write(b"x" * _MEGABYTE)
    return str(folder)


def fill_scratch_and_stay(count, link_to):
    fill_scratch(count, link_to)
    time.sleep(60)


# --- resources ----------------------------------------------------------------


def hog(count, seconds=0.0):
    """Touch so many bytes, then keep them for a while."""
    held = bytearray()
    while len(held) < count:
        held += b"x" * (4 * _MEGABYTE)
    time.sleep(seconds)
    return len(held)


def hog_in_a_child():
    """Let a child touch memory without end; return how it ended."""
    ended = subprocess.run([sys.executable, "-c", _HOG], check=False, stderr=subprocess.DEVNULL)
    return ended.returncode


def hog_in_a_child_and_raise():
    raise ChildProcessError(f"the child ended with {hog_in_a_child()}")


def hog_in_a_child_and_wait():
    """Go on after its end, as one who waits for what it should have sent."""
    hog_in_a_child()
    time.sleep(60)


def allocate_at_once(count):
    import numpy as np

    return np.zeros(count, dtype=np.uint8).nbytes


def multiply(threads, size):
    """Multiply matrices in so many threads at once."""
    import numpy as np

    def work(failures):
        try:
            for _ in range(3):
                np.dot(np.ones((size, size)), np.ones((size, size)))
        except MemoryError as error:
            failures.append(error)

    failures = []
    workers = [threading.Thread(target=work, args=(failures,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return threads


def sum_of(array):
    return float(array.sum()), os.getpid()


def burn_wall(seconds):
    """Compute for so long by the clock on the wall; return the CPU time it took."""
    begin, used = time.monotonic(), time.process_time()
    while time.monotonic() - begin < seconds:
        pass
    return time.process_time() - used


def burn_threads(threads):
    """Compute without end in C code that lets other threads run."""
    import hashlib

    def work():
        while True:
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 200_000)

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    work()


def start_threads(count, seconds=30):
    """Start threads that wait, for a time if all could start; return how many could."""
    done = threading.Event()
    try:
        for started in range(count):
            try:
                threading.Thread(target=done.wait, daemon=True).start()
            except RuntimeError:
                return started
        # Who counts them by looks sees them now and then.
        time.sleep(seconds)
        return count
    finally:
        done.set()


def draw(seconds=0.0):
    time.sleep(seconds)
    return random.random()
