"""Run ``joblib.Parallel`` on Clutch agents.

Importing this package registers the joblib backend ``"clutch"``::

    import joblib_clutch
    from joblib import Parallel, delayed

    Parallel(n_jobs=-1, backend="clutch")(delayed(abs)(i) for i in range(-3, 3))
"""

from joblib import register_parallel_backend

from joblib_clutch import exceptions
from joblib_clutch.access import connect
from joblib_clutch.backend import ClutchBackend
from joblib_clutch.report import last_report
from joblib_clutch.version import __version__

__all__ = ["ClutchBackend", "__version__", "connect", "exceptions", "last_report"]

register_parallel_backend("clutch", ClutchBackend)
