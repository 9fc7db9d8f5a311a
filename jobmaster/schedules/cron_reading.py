"""Reading a cron expression: croniter knows the fields, we know what is wrong and where.

    second  minute  hour  day-of-month  month  weekday  year        5 fields: minute to weekday
                                                                    6 fields: second to weekday
                                                                    7 fields: all of them

Four things of croniter's own reading are not left to it, as they surprise: `5-5` is every minute there (here: 5),
`@daily` becomes another hour where hashed fields are on (here: midnight), `H` may be day 31 (here: 1 to 28), and `R`
gives each machine another time (refused).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from croniter import croniter

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.cron_fields import LAST_OF_MONTH, Days, Fields

_LONGEST = 500
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_WORD = re.compile(r"\S+", re.ASCII)
_EQUAL_RANGE = re.compile(r"^(\w+)-\1(/\d+)?$", re.ASCII)
_HASHED_DAY = re.compile(r"^h(?=/|$)", re.ASCII)
_RANDOM = re.compile(r"^r(\(|/|$)", re.ASCII)
_WIDE_STEP = re.compile(r"^\*/(\d+)$", re.ASCII)
_NEAREST = re.compile(r"^(?:(\d+)w|w(\d+))$", re.ASCII)
_LAST_WEEKDAY = re.compile(r"^([0-7])l$", re.ASCII)
_LONG_NAME = re.compile(
    "january|february|march|april|june|july|august|september|october|november|december"
    "|sunday|monday|tuesday|wednesday|thursday|friday|saturday"
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one of the seven fields may hold."""

    name: str
    lowest: int
    highest: int
    allowed: str


_STEPS = "lists (1,2), ranges (1-5), steps (*/2, 1-5/2) and H"
_SECOND = _Kind("second", 0, 59, f"0 to 59, *, {_STEPS}")
_MINUTE = _Kind("minute", 0, 59, f"0 to 59, *, {_STEPS}")
_HOUR = _Kind("hour", 0, 23, f"0 to 23, *, {_STEPS}")
_DAY = _Kind("day of month", 1, 31, f"1 to 31, *, ?, L (the last day), 15W (the nearest weekday), {_STEPS}")
_MONTH = _Kind("month", 1, 12, f"1 to 12, JAN to DEC, *, {_STEPS}")
_WEEKDAY = _Kind(
    "weekday",
    0,
    7,
    f"0 to 7 (0 and 7: Sunday), SUN to SAT, *, ?, MON#2 (the second Monday), L5 (the last Friday), {_STEPS}",
)
_YEAR = _Kind("year", 1970, 2099, f"1970 to 2099, *, {_STEPS}")
_BY_COUNT = {
    5: (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY),
    6: (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY),
    7: (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _YEAR),
}


@dataclass(frozen=True, slots=True)
class _Field:
    """One field as it is written: its kind, its text in small letters, its place."""

    kind: _Kind
    written: str
    position: int

    @property
    def is_starred(self) -> bool:
        return self.written.startswith(("*", "?"))

    @property
    def items(self) -> list[str]:
        return self.written.split(",")


@functools.lru_cache(maxsize=1024)
def read_fields(text: str, hash_id: str) -> Fields:
    """What `text` means.

    Args:
        text: a cron expression of 5, 6 or 7 fields, or `@daily` and the like.
        hash_id: what `H` is derived from: the same id gives the same moments on every machine.

    Raises:
        ScheduleSyntaxError: with the place of the faulty field.
    """
    fields = _split(text)
    known = {field.kind.name: field for field in fields}
    rewritten = {field.kind.name: ",".join(_rewritten(text, field)) for field in fields}
    try:
        expanded, nth = _expand(rewritten, hash_id)
    except ValueError:
        _blame(text, fields, hash_id)
    by_weekday = known[_WEEKDAY.name]
    found = Fields(
        seconds=_numbers(expanded[5], _SECOND) if _SECOND.name in known else (0,),
        minutes=_numbers(expanded[0], _MINUTE),
        hours=_numbers(expanded[1], _HOUR),
        days=_days(known[_DAY.name], by_weekday, (expanded[2], expanded[4], nth)),
        months=_numbers(expanded[3], _MONTH),
        years=_years(expanded[6]) if _YEAR.name in known else None,
        runs_on=any(
            "*" in field.written or "/" in field.written for field in fields if field.kind in (_SECOND, _MINUTE)
        ),
    )
    eve = datetime((found.years or (2000,))[0] - 1, 12, 31, 23, 59, 59)  # noqa: DTZ001 - a wall
    if found.next_wall(eve) is None:
        raise _error(text, known[_DAY.name], "this never happens: no allowed month has such a day", kind="never")
    return found


def _split(text: str) -> tuple[_Field, ...]:
    words = [(match.group().lower(), match.start()) for match in _WORD.finditer(text)]
    if len(text) > _LONGEST:
        raise ScheduleSyntaxError(
            f"a cron expression has at most {_LONGEST} characters", _LONGEST, text=text, kind="too-long"
        )
    if words and words[0][0].startswith("@"):
        alias, position = words[0]
        if alias not in _ALIASES or len(words) > 1:
            raise ScheduleSyntaxError(
                f"cron knows no `{alias}`, but {', '.join(_ALIASES)}"
                + ("; for every n minutes or seconds write Interval(...)" if alias == "@every" else ""),
                position,
                length=len(alias),
                text=text,
                kind="unknown-alias",
            )
        words = [(word, position) for word in _ALIASES[alias].split()]
    if len(words) not in _BY_COUNT:
        position = words[7][1] if len(words) > 7 else len(text.rstrip())  # noqa: PLR2004 - as in the sentence
        raise ScheduleSyntaxError(
            "a cron expression has 5 fields (minute, hour, day of month, month, weekday), 6 with the second before "
            f"them, or 7 with the year behind them, separated by blanks; this one has {len(words)}",
            position,
            text=text,
            kind="field-count",
        )
    return tuple(_Field(kind, *word) for kind, word in zip(_BY_COUNT[len(words)], words, strict=True))


def _rewritten(text: str, field: _Field) -> list[str]:
    """The items of a field as croniter shall see them."""
    items = []
    for item in field.items:
        if not item:
            raise _error(text, field, f"a comma stands without a {field.kind.name} on each side of it", kind="bad-list")
        if _RANDOM.match(item):
            raise _error(text, field, "R is another time on each machine", item, suggestion="H" + item[1:])
        wide = _WIDE_STEP.match(item)
        if wide and int(wide[1]) > field.kind.highest:
            raise _error(
                text,
                field,
                f"a step of {wide[1]} never comes to a second value (0 to {field.kind.highest}); for a period that "
                "fits into no field write Interval(...)",
                item,
                kind="wide-step",
            )
        short = item if field.kind not in (_MONTH, _WEEKDAY) else _LONG_NAME.sub(lambda name: name[0][:3], item)
        short = _EQUAL_RANGE.sub(r"\1", short)
        items.append(_HASHED_DAY.sub("h(1-28)", short) if field.kind is _DAY else short)
    return items


def _expand(written: dict[str, str], hash_id: str) -> tuple[list[list[int | str]], dict[int, set[int | str]]]:
    """The lists of croniter in its order: minute, hour, day, month, weekday, second, year.

    Raises:
        ValueError: croniter cannot read it.
    """
    kinds = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _YEAR)
    defaults = {_SECOND.name: "0", _YEAR.name: "*"}
    text = " ".join(written.get(kind.name, defaults.get(kind.name, "*")) for kind in kinds)
    found: Any = croniter.expand(text, hash_id=hash_id.encode(), second_at_beginning=True)
    expanded, nth = found  # its annotations say other types than it gives
    return expanded, nth


def _blame(text: str, fields: Sequence[_Field], hash_id: str) -> NoReturn:
    """Raises the error of the first item that cannot be read alone, or of the weekdays if each can."""
    for field in fields:
        for item, rewritten in zip(field.items, _rewritten(text, field), strict=True):
            try:
                _expand({field.kind.name: rewritten}, hash_id)
            except ValueError:
                place = field.position + _place_of(field, item)
                what = f"`{text[place : place + len(item)]}` is none; allowed: {field.kind.allowed}"
                last = _LAST_WEEKDAY.match(item) if field.kind is _WEEKDAY else None
                raise _error(text, field, what, item, suggestion=f"L{int(last[1]) % 7}" if last else "") from None
    day, weekday = (field for field in fields if field.kind in (_DAY, _WEEKDAY))
    if "w" in day.written:
        raise _error(text, day, "`W` stands alone, not in a list", kind="nearest-weekday") from None
    raise _error(
        text, weekday, "plain weekdays and those with # or L cannot stand in one list", kind="mixed-weekdays"
    ) from None


def _error(
    text: str, field: _Field, message: str, item: str | None = None, *, kind: str = "bad-field", suggestion: str = ""
) -> ScheduleSyntaxError:
    """The error for one item of a field, or for all of it."""
    offset, length = 0, len(field.written)
    if item is not None:
        offset, length = _place_of(field, item), len(item)
    return ScheduleSyntaxError(
        f"{field.kind.name}: {message}",
        field.position + offset,
        length=max(1, length),
        text=text,
        kind=kind,
        suggestion=suggestion,
    )


def _place_of(field: _Field, item: str) -> int:
    """Where the item begins in its field."""
    places = [0, *(place + 1 for place, letter in enumerate(field.written) if letter == ",")]
    return next(place for place in places if field.written.startswith(item, place))


def _numbers(values: list[int | str], kind: _Kind) -> tuple[int, ...]:
    if "*" in values:
        return tuple(range(kind.lowest, kind.highest + 1))
    return tuple(sorted({value for value in values if isinstance(value, int)}))


def _years(values: list[int | str]) -> tuple[int, ...] | None:
    return None if "*" in values else _numbers(values, _YEAR)


def _days(
    day: _Field, weekday: _Field, expanded: tuple[list[int | str], list[int | str], dict[int, set[int | str]]]
) -> Days:
    numbers, weekdays, nth = expanded
    nearest = _NEAREST.match(day.written)
    return Days(
        numbers=frozenset() if nearest else frozenset(value for value in numbers if isinstance(value, int)),
        last="l" in numbers,
        nearest=int(nearest[1] or nearest[2]) if nearest else 0,
        any_number="*" in numbers or len(numbers) == 31,  # noqa: PLR2004 - days of the longest month
        weekdays=frozenset(value for value in weekdays if isinstance(value, int) and value not in nth),
        nth=frozenset(
            (weekday_number, LAST_OF_MONTH if number == "l" else int(number))
            for weekday_number, numbers_of in nth.items()
            for number in numbers_of
        ),
        any_weekday="*" in weekdays or len(set(weekdays) - nth.keys()) == 7,  # noqa: PLR2004 - days of a week
        either=not day.is_starred and not weekday.is_starred,
    )
