"""`python -m jobmaster` is the command `jobmaster` of that Python."""

from __future__ import annotations

from jobmaster.cli import main

if __name__ == "__main__":
    main()
