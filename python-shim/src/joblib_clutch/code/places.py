"""Which files belong to the interpreter and to installed packages, and which to the driver."""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig

# What holds installed packages, whoever made it.
_PACKAGES = ("site-packages", "dist-packages")


def is_installed(path: str) -> bool:
    """Tell whether a file or folder is the interpreter's, or an installed package's.

    Parameters
    ----------
    path : str
        An absolute path.

    Returns
    -------
    bool
        False: it is the driver's own.
    """
    if any(part in _PACKAGES for part in path.split(os.sep)):
        return True
    return any(path == folder or path.startswith(folder + os.sep) for folder in _installed())


def own_entries() -> list[str]:
    """Give the entries of ``sys.path`` that are the driver's own and exist, in order.

    Returns
    -------
    list of str
        Absolute paths, each once.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = ""
    entries = [os.path.abspath(entry) if entry else here for entry in map(str, sys.path)]
    own = [entry for entry in entries if entry and not is_installed(entry)]
    return [entry for entry in dict.fromkeys(own) if os.path.exists(entry)]


@functools.cache
def _installed() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {sysconfig.get_paths().get(name, "") for name in names}
    # That of the interpreter from which a virtual environment was made.
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    base |= {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    folders |= {sysconfig.get_path(name, vars=base) for name in names}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    folders.add(os.path.dirname(os.__file__))
    return tuple(sorted({os.path.abspath(folder) for folder in folders if folder}))
