"""Cases as they stand in the files of `cases/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

CASES = Path(__file__).parent / "cases"
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class Case:
    """An expression and what follows `base`, step by step; None: nothing more. Times are walls of `zone`."""

    id: str
    expression: str
    base: datetime
    expected: tuple[datetime | None, ...]
    zone: tzinfo


def published() -> list[dict[str, Any]]:
    """The public file of the language."""
    return json.loads((CASES / "published.json").read_text("utf-8"))


def published_occurrences() -> list[Case]:
    return [
        Case(
            case["id"],
            case["expression"],
            moment(case["base"]),
            tuple(moment(text) if text else None for text in case["expected"]),
            ZoneInfo(case["tz"]) if "tz" in case else UTC,
        )
        for case in published()
        if "expected" in case
    ]


def moment(text: str) -> datetime:
    for form in _FORMS:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - a wall
        except ValueError:
            continue
    raise ValueError(text)


def rows(name: str) -> list[list[str]]:
    """The lines of a file, split at `|`."""
    lines = (CASES / name).read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines if line.strip() and not line.startswith("#")]


def occurrences(name: str) -> list[Case]:
    found = []
    for number, (expression, base, expected, *zone) in enumerate(rows(name), start=1):
        previous = moment(base)
        results: list[datetime | None] = []
        for text in expected.split(","):
            if text.strip() == "never":
                results.append(None)
                continue
            words = text.strip()
            previous = moment(words if "-" in words else f"{previous:%Y-%m-%d} {words}")
            results.append(previous)
        found.append(
            Case(f"{name}-{number}", expression, moment(base), tuple(results), ZoneInfo(zone[0]) if zone else UTC)
        )
    return found
