#!/usr/bin/env bash
# Builds the Python package, installs it in a virtual environment, and runs its tests on simulated devices. Needs Python
# 3.11 or later; without it the script prints that the tests were skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo 'skipped: the Python package needs Python 3.11 or later'
    exit 0
fi

environment=target/python
"$python" -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check './python[test]'
"$environment/bin/python" -m pytest -q python/tests "$@"
