"""Pieces of English sentences about time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_SHORTEST_RUN = 3
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def listed(words: Sequence[str], last: str = "and") -> str:
    """The words as a list: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def ordinal(number: int) -> str:
    """The number as a place: "1st", "22nd", "13th"."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def nth(number: int) -> str:
    """The number as a word: "first" to "fifth"."""
    return _ORDINALS[number - 1]


def clock(hour: int, minute: int, second: int = 0) -> str:
    """A time of day: "9:05", with seconds where there are any."""
    return f"{hour}:{minute:02}:{second:02}" if second else f"{hour}:{minute:02}"


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers in order as runs of neighbours, (first, last) each; two neighbours are two runs."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return [
        run
        for first, last in found
        for run in ([(first, last)] if last - first + 1 >= _SHORTEST_RUN else [(n, n) for n in range(first, last + 1)])
    ]


def step_of(numbers: Sequence[int]) -> int:
    """The distance between all neighbours of an ordered list of two or more; 0: they differ."""
    distances = {after - before for before, after in pairwise(numbers)}
    return distances.pop() if len(distances) == 1 else 0


def every(count: int, unit: str) -> str:
    """A period of whole units: "every minute", "every 15 minutes"."""
    return f"every {unit}" if count == 1 else f"every {count} {unit}s"


def length_of(time: timedelta) -> str:
    """A length of time in units: "1 hour 30 minutes", "2 days", "1.5 seconds"."""
    rest, parts = time // timedelta(microseconds=1), []
    for unit, seconds in _UNITS:
        count, rest = divmod(rest, seconds * 1_000_000)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    if rest or not parts:
        written = f"{rest // 1_000_000}.{rest % 1_000_000:06}".rstrip("0").rstrip(".")
        parts.append(f"{written} second{'' if written == '1' else 's'}")
    return " ".join(parts)
