"""From text to rules: the way in of this package.

Problems are found in three steps, each only where the one before found none: words that do not exist; clauses that
cannot be read; rules of the whole expression (`checking.py`). All problems of a step are reported together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.checking import Clauses, problems_of_the_whole
from jobmaster.schedules.natural.phrases import (
    Atom,
    EveryPhrase,
    Group,
    PairPhrase,
    Phrase,
    PointPhrase,
    RangePhrase,
    Shape,
    ZonePhrase,
)
from jobmaster.schedules.natural.problems import Kind, Problem, Refusal, as_error, refuse
from jobmaster.schedules.natural.rules import (
    Every,
    Item,
    MonthEdge,
    Part,
    Point,
    Range,
    RangeWord,
    Rules,
    Span,
    Unit,
    Window,
)
from jobmaster.schedules.natural.values import Setting, read_group
from jobmaster.schedules.natural.vocabulary import MONTHS, WEEKDAYS
from jobmaster.schedules.natural.zones import similar_zone, zone_named

LONGEST_TEXT = 1_000
"""Characters that an expression may have."""
GREATEST_COUNT = 1_000_000_000
"""`every n`: the greatest n."""


@functools.lru_cache(maxsize=4096)
def parse_rules(text: str) -> Rules:
    """What `text` means.

    Raises:
        ScheduleSyntaxError: it is no valid expression.
    """
    if len(text) > LONGEST_TEXT:
        message = f"an expression has at most {LONGEST_TEXT:,} characters, this one has {len(text):,}"
        raise as_error(
            text[: LONGEST_TEXT + 1], [Problem(Kind.TOO_LONG, message, Span(LONGEST_TEXT, LONGEST_TEXT + 1))]
        )
    problems: list[Problem] = []
    clauses = _read(_phrases(text), problems)
    refused = [problem for problem in problems if problem.kind in _OF_CLAUSES]
    if not refused:
        refused = problems_of_the_whole(clauses, problems)
    if refused:
        raise _refusal(text, refused)
    return Rules(
        every=clauses.every[0] if clauses.every else None,
        points=tuple(clauses.points),
        ranges=tuple(clauses.ranges),
        zone=clauses.zones[0][0] if clauses.zones else None,
    )


_OF_CLAUSES = {Kind.UNKNOWN_TOKEN, Kind.BAD_CLAUSE, Kind.BAD_DATE}


def _phrases(text: str) -> Sequence[Phrase]:
    from lark import UnexpectedToken

    from jobmaster.schedules.natural import diagnosis, grammar

    if not text.strip(" \t\r\n;,"):
        return ()
    try:
        return grammar.phrases(text)
    except UnexpectedToken as surprise:
        raise _refusal(text, diagnosis.problems(text, surprise)) from None


def _refusal(text: str, problems: Sequence[Problem]) -> ScheduleSyntaxError:
    from jobmaster.schedules.natural.idioms import reworded  # its patterns are made for who erred only

    return as_error(text, reworded(text, problems))


def _read(phrases: Iterable[Phrase], problems: list[Problem]) -> Clauses:
    clauses = Clauses()
    for phrase in phrases:
        try:
            match phrase:
                case EveryPhrase():
                    clauses.every.append(_every(phrase, problems))
                case PointPhrase():
                    clauses.points.append(_point(phrase, problems))
                case RangePhrase():
                    clauses.ranges.append(_range(phrase, problems))
                case ZonePhrase():
                    clauses.zones.append((_zone(phrase, problems), phrase.span))
        except Refusal as refusal:
            problems.append(refusal.problem)
    return clauses


# -------------------------------------------------------------------------------------------------------------- clauses


def _every(phrase: EveryPhrase, problems: list[Problem]) -> Every:
    if phrase.number == 0:
        problems.append(
            Problem(Kind.INTERVAL_NOT_POSITIVE, "`every 0` never comes: the number is 1 or more", phrase.number_span)
        )
    if phrase.number > GREATEST_COUNT:
        raise refuse(Kind.BAD_CLAUSE, f"the number after `every` is at most {GREATEST_COUNT:,}", phrase.number_span)
    anchor = phrase.anchor
    if phrase.weekday is not None and anchor is not None:
        raise refuse(Kind.BAD_CLAUSE, "a weekday after `every` is the anchor already; leave this one out", anchor.span)
    value = phrase.weekday
    if anchor is not None:
        if anchor.unit not in {None, phrase.unit}:
            name, examples = phrase.unit.name.lower(), _ANCHORS.get(phrase.unit, "a number")
            raise refuse(
                Kind.BAD_CLAUSE, f"the anchor of `every {name}` is {examples}, not another unit's name", anchor.span
            )
        if not phrase.unit.lowest <= anchor.value <= phrase.unit.highest:
            name, lowest, highest = phrase.unit.name.lower(), phrase.unit.lowest, phrase.unit.highest
            raise refuse(
                Kind.BAD_CLAUSE, f"the anchor of `every {name}` lies between {lowest} and {highest}", anchor.span
            )
        value = anchor.value
    return Every(max(1, phrase.number), phrase.unit, value, phrase.span)


_ANCHORS = {Unit.WEEK: f"a weekday ({WEEKDAYS[1]})", Unit.MONTH: f"a month ({MONTHS[6]}, 7)"}


def _point(phrase: PointPhrase, problems: list[Problem]) -> Point:
    setting = Setting(Kind.BAD_POINT, phrase.unit, word=phrase.word)
    groups = [read_group(group, setting, problems) for group in phrase.groups]
    units = {part.unit for part in groups[0]}
    for index, group in enumerate(groups[1:], start=1):
        if {part.unit for part in group} != units:
            raise refuse(
                Kind.BAD_CLAUSE,
                f"all items of a list name the same units: the first names {_listed(groups[0])}, this one "
                f"{_listed(group)}",
                phrase.groups[index][0].span,
                _with_minutes(phrase.groups[index], group, groups[0]),
            )
    return Point(tuple(_ordered(group) for group in groups), phrase.span)


def _range(phrase: RangePhrase, problems: list[Problem]) -> Range:
    windows = [_window(pair, phrase, problems) for pair in phrase.pairs]
    units = [part.unit for part in windows[0].start]
    for window, pair in zip(windows[1:], phrase.pairs[1:], strict=True):
        if [part.unit for part in window.start] != units:
            raise refuse(
                Kind.BAD_CLAUSE,
                f"all ranges of a list name the same units: the first names {_listed(windows[0].start)}, this one "
                f"{_listed(window.start)}",
                pair.start[0].span,
            )
    return Range(phrase.word, tuple(windows), phrase.span)


def _window(pair: PairPhrase, phrase: RangePhrase, problems: list[Problem]) -> Window:
    if phrase.word is RangeWord.FROM:
        start = _ordered(read_group(pair.start, Setting(Kind.BAD_RANGE), problems))
        return Window(start, tuple(_highest(part) for part in start))
    if phrase.word is RangeWord.UPTO:
        end = _ordered(read_group(pair.end, Setting(Kind.BAD_RANGE), problems))
        return Window(tuple(Part(part.unit, part.unit.lowest, part.span) for part in end), end)
    first = read_group(pair.start, Setting(Kind.BAD_RANGE, phrase.unit, meant=_meant_beside(pair.end[0])), problems)
    units = [part.unit for part in first]
    last = read_group(pair.end, Setting(Kind.BAD_RANGE, phrase.unit, units), problems)
    if [part.unit for part in last] != units:
        better = _with_minutes(pair.start, first, last)
        raise refuse(
            Kind.BAD_CLAUSE,
            f"both ends of a range name the same units in the same order: the start names {_listed(first)}, the end "
            f"{_listed(last)}",
            (pair.start if better else pair.end)[0].span,
            better or _with_minutes(pair.end, last, first),
        )
    return Window(_ordered(first), _ordered(last))


def _meant_beside(other: Atom) -> str:
    """What a bare number `{}` at the start of a range means beside this end, or an empty text."""
    if other.shape is Shape.CLOCK:
        return "{}:00"
    return "" if other.unit is None else f"{other.unit.name.lower()} {{}}"


def _with_minutes(group: Group, parts: Sequence[Part], other: Sequence[Part]) -> str:
    """`9:00am` for the hour `9am`, where the `other` end or item has minutes; else an empty text."""
    if {part.unit for part in parts} != {Unit.HOUR} or {part.unit for part in other} != {Unit.HOUR, Unit.MINUTE}:
        return ""
    half = {None: "", False: "am", True: "pm"}[group[0].afternoon]
    return f"{group[0].text}:00{half}"


def _highest(part: Part) -> Part:
    return Part(part.unit, MonthEdge(last=True) if part.unit is Unit.DAY else part.unit.highest, part.span)


def _zone(phrase: ZonePhrase, problems: list[Problem]) -> str:
    zone = zone_named(phrase.name)
    if zone is None:
        message = f"`{phrase.name}` is no time zone: IANA ids are written like `Europe/Berlin`"
        problems.append(Problem(Kind.UNKNOWN_ZONE, message, phrase.name_span, similar_zone(phrase.name)))
    return zone or phrase.name


def _ordered(parts: Sequence[Part]) -> Item:
    return tuple(sorted(parts, key=_unit_of, reverse=True))


def _unit_of(part: Part) -> Unit:
    return part.unit


def _listed(parts: Iterable[Part]) -> str:
    names = ["weekday" if part.unit is Unit.WEEK else part.unit.name.lower() for part in parts]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
