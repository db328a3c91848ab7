"""Loads gRPC as a driver needs it: quiet, and unharmed by forks.

gRPC reads its environment once, when it is loaded; so this comes before
whatever else imports it, and leaves the environment as it was. What the user
set stays in force.
"""

import os

import joblib

# Without it, each fork of the driver is announced on its standard error.
_variables = {"GRPC_VERBOSITY": "ERROR"}
if tuple(map(int, joblib.__version__.split(".")[:2])) < (1, 5):
    # This loky closes all descriptors between fork and exec. gRPC's thread in
    # the child aborts it when its epoll descriptor goes; poll has none.
    _variables["GRPC_POLL_STRATEGY"] = "poll"

_added = {name: value for name, value in _variables.items() if name not in os.environ}
os.environ.update(_added)
try:
    import grpc  # noqa: F401
finally:
    for _name in _added:
        del os.environ[_name]
