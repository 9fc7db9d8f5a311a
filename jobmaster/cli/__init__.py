"""The command line. `jobmaster COMMAND --help` explains each command; docs/guide/command-line.md all of them.

A command's module is imported when the command is used, so that `jobmaster --help` costs next to nothing.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from jobmaster.cli.standard_streams import hold_standard_streams


def main() -> NoReturn:
    """Run the command that `sys.argv` asks for, and end the process with its exit code."""
    hold_standard_streams()
    try:
        from jobmaster.cli.program import program
    except KeyboardInterrupt:  # pressed before anything could have begun
        sys.exit(130)
    program.main()
    raise AssertionError("program.main() ends the process")
