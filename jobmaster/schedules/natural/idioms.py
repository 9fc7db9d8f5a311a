"""What people say in plain English, and how NaturalCron says it: for errors, never for reading."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from jobmaster.schedules.natural.problems import Kind, Problem
from jobmaster.schedules.natural.rules import Span
from jobmaster.schedules.natural.vocabulary import MONTHS, SHORTCUTS, UNITS, WEEKDAYS

Match = re.Match[str]


class _Idiom(NamedTuple):
    """A way to speak.

    Attributes:
        pattern: what is said; its group `here` is the place that is shown.
        message: why it is refused; an empty text leaves the reason as it was.
        meant: what to write at that place instead; None: this match is something else.
        kind: only where the refusal has this reason; None: whatever it is.
    """

    pattern: re.Pattern[str]
    message: str
    meant: Callable[[Match], str | None]
    kind: Kind | None = None


def reworded(text: str, problems: Sequence[Problem]) -> list[Problem]:
    """The same problems; those within a known idiom are told as one, with what it is called in NaturalCron."""
    found = list(_found(text))
    told: list[Problem] = []
    for problem in problems:
        better = next((each for each in found if _explains(each, problem)), None)
        if better is None:
            told.append(problem)
            continue
        message = better.message or problem.message
        new = Problem(problem.kind, message, better.span, better.meant)
        if all(new.span != other.span for other in told):
            told.append(new)
    return told


class _Found(NamedTuple):
    span: Span
    message: str
    meant: str
    kind: Kind | None


def _found(text: str) -> Iterator[_Found]:
    for idiom in _IDIOMS:
        for match in idiom.pattern.finditer(text):
            meant = idiom.meant(match)
            if meant is not None:
                yield _Found(Span(*match.span("here")), idiom.message, meant, idiom.kind)


def _explains(found: _Found, problem: Problem) -> bool:
    return found.span.start <= problem.span.start < found.span.end and found.kind in {None, problem.kind}


# ----------------------------------------------------------------------------------------------- what the patterns need

_DAY = "|".join(f"{name}s?|{name[:3]}" for name in WEEKDAYS)
_MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
_SEPARATOR = r"\s*(?:,\s*(?:and|or)\b|,|&|\band\b|\bor\b)\s*"
_TO = r"(?:\s*-\s*|\s+(?:to|through|thru|till|until)\s+)"
_UNIT = "|".join(sorted(" ".join(UNITS.values()).split(), key=len, reverse=True))
_TIME = r"\d{1,2}(?::\d\d){0,2}(?:\s*[ap]m)?"
_ORDINALS = {"other": 2, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6}
_HALVES = {"week": (84, "hours"), "day": (12, "hours"), "hour": (30, "minutes"), "minute": (30, "seconds")}
_SHORT = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_LAST_HOUR, _LAST_MINUTE = 23, 59


def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<![\w/@]){source}")


_WORKING_DAYS = r"(?:weekdays?|work(?:ing\s?)?days?|business\s?days?)"
_EVERY = _pattern(rf"@?(?:every|{'|'.join(SHORTCUTS)})\b")


def _said(meant: str) -> Callable[[Match], str]:
    return lambda _: meant


def _repeated(days: str) -> Callable[[Match], str]:
    """A clause that limits `every ...`; where there is none, with one."""
    return lambda match: days if _EVERY.search(match.string) else f"every day {days}"


def _list_of_days(match: Match) -> str:
    days = [
        day.removesuffix("s") if len(day) > len("sun") else day for day in re.findall(rf"(?i){_DAY}", match["days"])
    ]
    return f"{match['word']} [{', '.join(days)}]" if match["word"] != "every" else f"every week on [{', '.join(days)}]"


def _range_of_days(match: Match) -> str | None:
    before = match.string[: match.start()].rstrip()
    if before.endswith(("[", ",")) or re.search(r"(?i)\b(?:between|from|and)$", before):
        return None
    every = "" if _EVERY.search(match.string) and (match["word"] or "").lower() != "every" else "every day "
    return f"{every}between {match['first']} and {match['last']}"


def _nth_unit(match: Match) -> str:
    return f"{_ORDINALS[match['nth'].lower()]} {match['unit'].lower().removesuffix('s')}s"


def _every_so_many_weeks(match: Match) -> str:
    count = match["count"] if match["count"].isdigit() else "2"
    return f"every {count} weeks AnchoredOn {match['day']}"


def _duration(match: Match) -> str:
    if match["more"]:
        return f"every {int(match['number']) * 60 + int(match['more'])} minutes"
    unit = _SHORT[match["unit"].lower()]
    return f"every {match['number']} {unit}s"


def _and_a_half(match: Match) -> str:
    unit = match["unit"].lower()
    half, smaller = _HALVES[unit]
    return f"{int(match['number']) * 2 * half + half} {smaller}"


def _clock(match: Match) -> str | None:
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    return f"{hour}:{minute:02}" if hour <= _LAST_HOUR and minute <= _LAST_MINUTE else None


def _hours(match: Match) -> str | None:
    first, last = int(match["first"]), int(match["last"])
    within_a_day = re.search(r"(?i)every\s+(?:\d+\s*)?(?:h|min|s)", match.string)
    return f"{first}:00 and {last}:00" if within_a_day and max(first, last) <= _LAST_HOUR else None


def _around_midnight(match: Match) -> str | None:
    hours = [int(re.split(r"\D", match[end])[0]) for end in ("first", "here")]
    if max(hours) > _LAST_HOUR or re.search("(?i)[ap]m", match[0]):
        return None
    seconds = ":{:02}" if match[0].count(":") > len(hours) else ""
    midnight = "23:59" + seconds.format(59), "0:00" + seconds.format(0)
    return f"[{match['first']} and {midnight[0]}, {midnight[1]} and {match['here']}]"


def _around_the_end(names: Sequence[str]) -> Callable[[Match], str]:
    """Weekdays or months over the end of the week or the year."""
    return lambda match: f"[{match['first']} and {names[-1]}, {names[0]} and {match['here']}]"


_IDIOMS = (
    _Idiom(
        re.compile(
            r"(?i)^\s*(?P<here>(?:@?every\s+)?(?P<number>\d{1,6})\s*(?P<unit>h)\s*(?P<more>\d{1,2})\s*m(?:in)?)\s*$"
        ),
        "`every` takes one number and one unit",
        _duration,
    ),
    _Idiom(
        re.compile(r"(?i)^\s*(?P<here>(?P<number>\d{1,6})\s*(?P<unit>[smhdw])(?P<more>))\s*$"),
        "",
        _duration,
    ),
    _Idiom(
        _pattern(rf"(?P<here>@?(?P<word>every|on|at|in)\s+(?P<days>(?:{_DAY})(?:{_SEPARATOR}(?:{_DAY})\b)+))"),
        "several weekdays stand in brackets",
        _list_of_days,
    ),
    _Idiom(
        _pattern(rf"(?P<here>(?:@?(?P<word>every|on|at|in)\s+)?(?P<first>{_DAY}){_TO}(?P<last>{_DAY})\b)"),
        "a range is written with `between`",
        _range_of_days,
    ),
    _Idiom(
        _pattern(rf"(?P<here>@?(?:on|at|in)\s+(?:the\s+)?{_WORKING_DAYS})\b"),
        "",
        _repeated("between Monday and Friday"),
    ),
    _Idiom(re.compile(rf"(?i)^\s*(?P<here>{_WORKING_DAYS})\b"), "", _said("every day between Monday and Friday")),
    _Idiom(re.compile(r"(?i)^\s*(?P<here>weekends?)\b"), "", _said("every week on [Saturday, Sunday]")),
    _Idiom(
        re.compile(rf"(?i)^\s*(?P<here>(?P<day>{'|'.join(WEEKDAYS)})s)\b"), "", lambda match: f"every {match['day']}"
    ),
    _Idiom(
        _pattern(rf"(?P<here>@?every\s+(?P<count>\d{{1,3}}|other|second)\s+(?P<day>{'|'.join(WEEKDAYS)})s?)\b"),
        "`every` counts units, not weekdays",
        _every_so_many_weeks,
    ),
    _Idiom(
        _pattern(r"@?every\s+(?P<here>\d{1,3}(?P<separator>[,'_])\d{3}(?:(?P=separator)\d{3})*)\b"),
        "numbers are written with digits alone",
        lambda match: re.sub(r"\D", "", match["here"]),
    ),
    _Idiom(_pattern(r"(?P<here>@?(?:on|at|in)\s+(?:the\s+)?weekends?)\b"), "", _said("on [Saturday, Sunday]")),
    _Idiom(_pattern(r"@?every\s+(?P<here>(?:working|business)\s?days?)\b"), "", _said("day between Monday and Friday")),
    _Idiom(_pattern(r"@?every\s+(?P<here>half(?:\s+an?)?[\s-]+hour)\b"), "", _said("30 minutes")),
    _Idiom(_pattern(r"@?every\s+(?P<here>quarter(?:\s+of\s+an)?[\s-]+hour)\b"), "", _said("15 minutes")),
    _Idiom(_pattern(r"@?every\s+(?P<here>morning|night|evening|afternoon)\b"), "", _said("day")),
    _Idiom(
        _pattern(rf"@?every\s+(?P<here>(?P<nth>{'|'.join(_ORDINALS)})\s+(?P<unit>{_UNIT}))\b"),
        "",
        _nth_unit,
    ),
    _Idiom(
        _pattern(rf"@?every\s+(?P<here>(?P<number>\d{{1,3}})\.5\s*(?P<unit>{'|'.join(_HALVES)})s?)\b"),
        "numbers are whole, a decimal point does not belong here",
        _and_a_half,
    ),
    _Idiom(
        _pattern(rf"@?every\s+(?P<here>\d+\s*-\s*\d+)\s*(?:{_UNIT})\b"),
        "`every` takes one number; to spread runs over some time give the schedule a jitter",
        _said(""),
    ),
    _Idiom(
        re.compile(
            r"(?i)(?:\b(?:at|between|and|from|upto)\s+|[\[,]\s*)(?P<here>(?P<hour>\d{1,2})[.h](?P<minute>\d\d))\b"
        ),
        "hours and minutes are joined by `:`",
        _clock,
    ),
    _Idiom(
        re.compile(r"(?i)\bbetween\s+(?P<here>(?P<first>\d{1,2})\s+and\s+(?P<last>\d{1,2}))(?!\s*(?:[:\w]))"),
        "",
        _hours,
    ),
    _Idiom(
        re.compile(rf"(?i)\bbetween\s+(?P<first>{_TIME})\s+and\s+(?P<here>{_TIME})"),
        "",
        _around_midnight,
        Kind.BAD_RANGE,
    ),
    *(
        _Idiom(
            re.compile(rf"(?i)\bbetween\s+(?P<first>{name})\s+and\s+(?P<here>{name})\b"),
            "",
            _around_the_end(names),
            Kind.BAD_RANGE,
        )
        for name, names in ((_DAY, WEEKDAYS), (_MONTH, MONTHS))
    ),
    _Idiom(
        _pattern(rf"(?P<here>@?(?:on|at|in)\s+(?P<unit>{_UNIT})\s+(?P<first>\d+)\s*-\s*(?P<last>\d+))\b"),
        "a range is written with `between`",
        lambda match: f"between {match['unit']} {match['first']} and {match['last']}",
    ),
    _Idiom(
        _pattern(r"(?P<here>(?P<verb>anchored|based)\s+(?P<word>on|at|in))\b"),
        "an anchor is given by one word",
        lambda match: match["verb"].title() + match["word"].title(),
    ),
    _Idiom(_pattern(r"(?P<here>@?(?:on|at)\s+the\s+hour)\b"), "", _said("at minute 0")),
    _Idiom(
        _pattern(r"(?P<here>except|excluding|but\s+not|not)\b"),
        "there are no exceptions here: name what is wanted, as in `between Monday and Saturday`",
        _said(""),
    ),
    _Idiom(
        _pattern(r"(?P<here>today|tonight|tomorrow)\b"),
        "a day is named by its date, as in `on 2027-12-31 at 9:00`",
        _said(""),
    ),
)
"""The first that explains a problem is told."""
