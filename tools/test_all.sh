#!/bin/sh
# Runs the test suite on each Python version named that this machine has, in an environment of its own each:
#   tools/test_all.sh 3.11 3.12 3.13
# Versions that are missing are named at the end; failing or finding none at all ends with exit code 1.
set -eu
cd "$(dirname "$0")/.."

passed="" failed="" missing=""
for version in "$@"; do
    python=python$version
    if ! "$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$version" 2>/dev/null; then
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
