"""The job of RQ, which wants an importable function in a module of its own."""

from __future__ import annotations

from slots import ran


def nothing(number: int, who: str, due: float) -> None:
    ran(due)
