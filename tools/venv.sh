#!/bin/sh
# Makes or refreshes a virtual environment of this checkout; does nothing when it is up to date.
#
#   tools/venv.sh run [FOLDER] [PYTHON]    what the demo needs: the package itself        (FOLDER: .venv)
#   tools/venv.sh dev [FOLDER] [PYTHON]    the same plus the tools of `make test`         (PYTHON: found below)
#
# Versions come from constraints.txt. Nothing outside the checkout is changed, with one exception that has to be asked
# for: CI=true or APT=1 lets this script call apt-get, for python3-venv where Python's venv module is missing, and (dev)
# for the servers that some tests need and that no wheel has. Without them those tests are skipped, and say so.
set -eu
cd "$(dirname "$0")/.."

level=${1:-run}
folder=${2:-.venv}
python=${3:-${PYTHON:-}}

case $level in
    run) what="." ;;
    dev) what=".[dev]" ;;
    *)   echo "venv.sh: '$level' is neither 'run' nor 'dev'" >&2; exit 2 ;;
esac

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    for candidate in python3.11 python3 python3.12 python3.13 python3.14; do
        if usable "$candidate"; then echo "$candidate"; return; fi
    done
    echo "JobMaster needs Python 3.11 or newer, and none was found on PATH (looked for python3.11, python3, 3.12 to 3.14)." >&2
    echo "Debian, Ubuntu:  sudo apt-get install python3 python3-venv" >&2
    echo "macOS:           brew install python@3.13" >&2
    echo "elsewhere:       https://www.python.org/downloads/, then: make PYTHON=/path/to/python3 ..." >&2
    exit 1
}

may_call_apt() {
    { [ "${CI:-}" = true ] || [ "${APT:-}" = 1 ]; } && command -v apt-get >/dev/null
}

install_venv_module() {
    if ! may_call_apt; then
        echo "$1 lacks the module 'venv' (or 'ensurepip'), which Debian and Ubuntu ship apart." >&2
        echo "Install it (sudo apt-get install python3-venv) or, there and as root, run the same command with APT=1." >&2
        exit 1
    fi
    version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "$version-venv" >&2 ||
        apt-get install -y -qq --no-install-recommends python3-venv >&2
}

install_servers() {
    if [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || ! may_call_apt; then return; fi
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends pgbouncer; } >&2 ||
        echo "venv.sh: pgbouncer could not be installed; the tests that need it will be skipped" >&2
}
if [ "$level" = dev ]; then install_servers; fi

# The stamp holds what the environment was made from, so an edit of either file refreshes it at the next call.
made_from() { cat pyproject.toml constraints.txt | cksum; }
stamp=$folder/.made-$level
if [ -x "$folder/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from)" ]; then
    exit 0
fi

# Also made anew: one whose making was interrupted before it had pip.
if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    [ -n "$python" ] || python=$(find_python)
    usable "$python" || { echo "venv.sh: '$python' is not a Python of version 3.11 or newer" >&2; exit 1; }
    has_venv "$python" || install_venv_module "$python"
    echo "making $folder with $("$python" -V)" >&2
    "$python" -m venv --clear "$folder"
fi
echo "installing $what into $folder" >&2
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable "$what"
made_from >"$stamp"
# The tools contain the plain package, so the smaller level is up to date as well.
if [ "$level" = dev ]; then cp "$stamp" "$folder/.made-run"; fi
