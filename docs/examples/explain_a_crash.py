"""What is known about a worker that died under a task."""

import ctypes
import signal

from joblib import Parallel, delayed, parallel_config

from joblib_clutch.exceptions import WorkerCrashedError


def step(number):
    """Stand for native code with a defect: reads from address 0."""
    return ctypes.string_at(0) if number == 3 else number


with parallel_config("clutch", n_jobs=2):
    try:
        Parallel()(delayed(step)(number) for number in range(6))
    except WorkerCrashedError as error:
        print("what:", error.args[0])
        print("function:", error.function)
        print("process:", error.pid, "on", error.host)
        print("signal:", signal.Signals(error.signal).name if error.signal else "none")
        print("exit code:", error.exit_code)
        print("stack:", *error.stderr_tail.splitlines()[:6], sep="\n  ")
        print("advice:", error.advice)

    # The crash cost one worker. The next call gets another.
    print(Parallel()(delayed(step)(number) for number in range(3)))
