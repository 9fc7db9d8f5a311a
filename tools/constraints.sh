#!/bin/sh
# Pins in constraints.txt what the given environment holds: tools/constraints.sh .venv/bin/python
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
{
    echo "# The versions that the tests were last seen passing with. Written by \`make constraints\`; used by tools/venv.sh"
    echo "# only: whoever installs the package gets the ranges of pyproject.toml."
    "$python" -m pip freeze --exclude-editable --disable-pip-version-check |
        grep -v -e '^#' -e '^-e' -e '^jobmaster ' -e ' @ ' -e '^py-spy=='
} >constraints.txt.new
mv constraints.txt.new constraints.txt
