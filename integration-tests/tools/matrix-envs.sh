#!/usr/bin/env bash
# Makes .venvs/X.Y for each Python found beside the one of .venv, and installs
# the wheel of dist/ into it.
set -euo pipefail

cd "$(dirname "$0")/../.."
requirements=integration-tests/requirements-matrix.txt
main=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

while read -r version python; do
    [[ $version == "$main" ]] && continue
    directory=.venvs/$version
    if [[ ! -e $directory/.stamp || $requirements -nt $directory/.stamp ]]; then
        echo "$directory: $python"
        integration-tests/tools/python-env.sh create "$directory" "$python"
        "$directory/bin/python" -m pip install --quiet --requirement "$requirements"
        touch "$directory/.stamp"
    fi
    "$directory/bin/python" -m pip install --quiet dist/joblib_clutch-*.whl
    "$directory/bin/python" -m pip install --quiet --no-deps --force-reinstall \
        dist/joblib_clutch-*.whl
done < <(integration-tests/tools/python-env.sh list)
