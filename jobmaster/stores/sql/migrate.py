"""`python -m jobmaster.stores.sql.migrate`: expand a database's schema as far as running workers survive it.

The address comes on standard input, because it may hold a password and a command line can be read by everybody.
Workers and producers call `in_own_process`, so that SQLAlchemy and Alembic never get into them.
"""

from __future__ import annotations

import subprocess
import sys

from jobmaster.errors import JobMasterError, SchemaError

LONGEST_MIGRATION = 600.0
DONE = "done"
"""The migrator's word for its success. Its exit code may get lost: process 1 of a container reaps strangers, too."""


def in_own_process(dsn: str) -> None:
    """Run the migrator and wait for it.

    Raises:
        SchemaError: it failed; the text says why.
    """
    command = [sys.executable, "-m", "jobmaster.stores.sql.migrate"]
    try:
        done = subprocess.run(
            command, input=dsn, capture_output=True, text=True, timeout=LONGEST_MIGRATION, check=False
        )
    except subprocess.TimeoutExpired:
        raise SchemaError(
            f"Changing the schema took longer than {LONGEST_MIGRATION:.0f} s and was stopped. "
            "Run it by hand: jobmaster db upgrade"
        ) from None
    if done.returncode or not done.stdout.endswith(DONE):
        said = done.stderr.strip().splitlines()
        raise SchemaError(
            f"The schema could not be changed: {said[-1] if said else 'no reason given'} Run: jobmaster db upgrade"
        )


def main() -> int:
    """Read the address, expand, and say on standard error why it failed if it did."""
    from jobmaster.stores.sql.provision import upgrade

    try:
        upgrade(sys.stdin.read().strip(), expand_only=True)
    except JobMasterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(DONE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
