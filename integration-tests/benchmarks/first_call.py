"""A new driver that makes its first calls and says how long they took.

Imports nothing that a user's script would not: run it through `fleet.first_calls`.
"""

import json
import sys
import time


def main() -> None:
    """Run as ``first_call.py BACKEND STARTED_AT [ADDRESS]``."""
    name, started_at = sys.argv[1], float(sys.argv[2])
    address = sys.argv[3] if len(sys.argv) > 3 else None
    import backends
    from joblib import Parallel, delayed
    from model import N_JOBS
    from workload import import_ensemble

    backend = backends.BY_NAME[name]
    backend.load()
    imported_at = time.monotonic()
    with backend.use(address):
        Parallel(n_jobs=N_JOBS)([delayed(import_ensemble)()])
        first_at = time.monotonic()
        Parallel(n_jobs=N_JOBS)([delayed(import_ensemble)()])
        second_at = time.monotonic()
        print(
            json.dumps(
                {
                    "total": first_at - started_at,
                    "beyond_imports": first_at - imported_at,
                    "second_call": second_at - first_at,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
