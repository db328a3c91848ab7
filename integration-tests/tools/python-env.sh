#!/usr/bin/env bash
# Finds Python interpreters that Clutch can host, and makes environments of them.
#
#   python-env.sh find            the interpreter to develop with
#   python-env.sh list            one interpreter per Python version
#   python-env.sh generator       one that runs protocol/generate_python.py, or nothing
#   python-env.sh create DIR PY   a virtual environment
set -euo pipefail

# A candidate must run, be CPython 3.10 or later, and bring libpython: the agent
# loads it to host workers. Prints `major.minor` and the real interpreter.
probe() {
    "$1" - 2>/dev/null <<'PYTHON'
import os, sys, sysconfig
library = os.path.join(*(sysconfig.get_config_var(n) or "" for n in ("LIBDIR", "INSTSONAME")))
if (
    sys.version_info < (3, 10)
    or sys.implementation.name != "cpython"
    or not sysconfig.get_config_var("Py_ENABLE_SHARED")
    or not os.path.exists(library)
):
    raise SystemExit(1)
print("%d.%d" % sys.version_info[:2], sys.executable)
PYTHON
}

# The version that the requirements are pinned for comes first.
candidates() {
    local version
    for version in 3.11 3.12 3.13 3.10 3.14; do
        echo "python$version"
    done
    echo python3
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python 2>/dev/null | sort -rV || true
}

find_python() {
    local candidate
    while read -r candidate; do
        if probe "$candidate" | cut -d' ' -f2- | grep .; then
            return
        fi
    done < <(candidates)
    cat >&2 <<'TEXT'
No suitable Python: Clutch needs CPython 3.10 or later with its shared library.
  Debian, Ubuntu:  apt install python3 python3-venv libpython3-dev
  pyenv:           PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11
Or name one: make PYTHON=/path/to/python
TEXT
    return 1
}

list_pythons() {
    local candidate
    while read -r candidate; do
        probe "$candidate" || true
    done < <(candidates) | sort -V -k1,1 -u
}

find_generator() {
    local version
    for version in 3.11 3.12 3.10; do
        if list_pythons | grep "^$version " | cut -d' ' -f2-; then
            return
        fi
    done
}

create() {
    local directory=$1 python=$2
    if ! probe "$python" >/dev/null; then
        echo "$python does not run, is older than 3.10, or lacks its shared library." >&2
        return 1
    fi
    rm -rf "$directory"
    if "$python" -m venv "$directory" && "$directory/bin/python" -m pip --version >/dev/null; then
        return
    fi
    echo "venv does not work with $python; trying virtualenv" >&2
    rm -rf "$directory"
    local helper
    helper=$(mktemp -d)
    trap 'rm -rf "$helper"' RETURN
    if "$python" -m pip install --quiet --target "$helper" virtualenv &&
        PYTHONPATH=$helper "$python" -m virtualenv --quiet "$directory"; then
        return
    fi
    echo "Cannot make a virtual environment. Debian, Ubuntu: apt install python3-venv" >&2
    return 1
}

case "${1:-}" in
find) find_python ;;
list) list_pythons ;;
generator) find_generator ;;
create) create "$2" "$3" ;;
*)
    echo "usage: $0 find | list | generator | create DIR PYTHON" >&2
    exit 2
    ;;
esac
