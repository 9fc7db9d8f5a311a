"""Which promise of which verb a case is about, so that a test can see that none was forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

KINDS = ("success", "conflict", "repeat", "race")
"""It works; somebody else was there first, or it cannot be; the same call again; several at once."""

Case = TypeVar("Case", bound=Callable[..., Any])
COVERED: dict[tuple[str, str], list[str]] = {}


def case(kind: str, *verbs: str) -> Callable[[Case], Case]:
    """Mark a test as the case of this kind for these verbs."""
    assert kind in KINDS

    def mark(test: Case) -> Case:
        for verb in verbs:
            COVERED.setdefault((verb, kind), []).append(test.__name__)
        return test

    return mark
