#!/usr/bin/env bash
# Makes .venvs/X.Y for each Python found beside the one of .venv, and installs
# the wheel of dist/ into it. Makes .venvs/numpy-1, too: Python as in .venv, with
# the last NumPy before 2, where there is one for that version.
set -euo pipefail

cd "$(dirname "$0")/../.."
requirements=integration-tests/requirements-matrix.txt
main=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# One a line: the folder, the interpreter, and what else to install.
environments() {
    local version python
    while read -r version python; do
        if [[ $version != "$main" ]]; then
            echo "$version $python"
        elif [[ $version == 3.1[0-2] ]]; then
            echo "numpy-1 $python numpy==1.26.4"
        fi
    done < <(integration-tests/tools/python-env.sh list)
}

while read -r name python more; do
    directory=.venvs/$name
    if [[ ! -e $directory/.stamp || $requirements -nt $directory/.stamp ]]; then
        echo "$directory: $python"
        integration-tests/tools/python-env.sh create "$directory" "$python"
        "$directory/bin/python" -m pip install --quiet --requirement "$requirements" $more
        touch "$directory/.stamp"
    fi
    "$directory/bin/python" -m pip install --quiet dist/joblib_clutch-*.whl
    "$directory/bin/python" -m pip install --quiet --no-deps --force-reinstall \
        dist/joblib_clutch-*.whl
done < <(environments)
