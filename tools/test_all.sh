#!/bin/sh
# Runs the test suite on each Python version named that this machine has, in an environment of its own each:
#   tools/test_all.sh 3.11 3.12 3.13
# Versions that are missing are named at the end; failing or finding none at all ends with exit code 1.
set -eu
cd "$(dirname "$0")/.."

# pythonX.Y on PATH, or one that pyenv keeps without having it activated.
find_version() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if "$candidate" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$1" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

passed="" failed="" missing=""
for version in "$@"; do
    python=$(find_version "$version")
    if [ -z "$python" ]; then
        missing="$missing $version"
        continue
    fi
    echo "== Python $version" >&2
    if tools/venv.sh dev ".venv-$version" "$python" && ".venv-$version/bin/python" -m pytest; then
        passed="$passed $version"
    else
        failed="$failed $version"
    fi
done
echo "passed:${passed:- none}   failed:${failed:- none}   not on this machine:${missing:- none}"
[ -z "$failed" ] && [ -n "$passed" ]
