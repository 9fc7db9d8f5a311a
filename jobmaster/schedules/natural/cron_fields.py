"""The fields of a cron line: sets of numbers and days of a month as cron writes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from jobmaster.schedules.natural.rules import LAST, ClosestWeekday, MonthEdge, NthWeekday, SpecialDay, WeekdayEdge
from jobmaster.schedules.natural.vocabulary import WEEKDAYS

_SHORTEST_MONTH = 28
_LONGEST_MONTH = 31
_SHORT_LIST = 4  # `1,3,5` is easier to read than `1-5/2`


@dataclass(frozen=True, slots=True)
class Traits:
    """What a kind of cron can say.

    Attributes:
        has_seconds: six fields, seconds first.
        has_special_days: `L`, `LW`, `15W`, `5#2`, `5L`.
        has_weekday_names: weekdays are `MON`, as their numbers mean other days elsewhere.
        has_question_mark: the day field that says nothing is `?`.
        joins_days: a day must suit both day fields where both say something.
    """

    has_seconds: bool
    has_special_days: bool
    has_weekday_names: bool
    has_question_mark: bool
    joins_days: bool


class CronDialect(Enum):
    """The kind of cron to write for."""

    CRONTAB = "crontab"
    CRONOS = "cronos"
    QUARTZ = "quartz"

    @property
    def traits(self) -> Traits:
        """What it can say."""
        return _TRAITS[self]


_TRAITS = {
    CronDialect.CRONTAB: Traits(
        has_seconds=False, has_special_days=False, has_weekday_names=False, has_question_mark=False, joins_days=False
    ),
    CronDialect.CRONOS: Traits(
        has_seconds=False, has_special_days=True, has_weekday_names=False, has_question_mark=False, joins_days=True
    ),
    CronDialect.QUARTZ: Traits(
        has_seconds=True, has_special_days=True, has_weekday_names=True, has_question_mark=True, joins_days=False
    ),
}


def numbers(values: Collection[int], lowest: int, highest: int) -> str:
    """A field: `*`, `*/15`, `9-17`, `9-17/2`, `1-5,7`."""
    ordered = sorted(values)
    size = highest - lowest + 1
    if len(ordered) == size:
        return "*"
    step = ordered[1] - ordered[0] if len(ordered) > 1 else 0
    if step > 1 and ordered == list(range(ordered[0], ordered[-1] + 1, step)):
        if ordered[0] == lowest and size == len(ordered) * step and (lowest == 0 or len(ordered) >= _SHORT_LIST):
            return f"*/{step}"
        if len(ordered) >= _SHORT_LIST:
            return f"{ordered[0]}-{ordered[-1]}/{step}"
    return ",".join(_runs(ordered))


def _runs(ordered: list[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in ordered:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = []
    for run in runs:
        parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(number) for number in run]  # noqa: PLR2004
    return parts


def weekdays(values: Collection[int], traits: Traits) -> str:
    """The field of weekdays (1 Sunday to 7 Saturday)."""
    if len(values) == 7:  # noqa: PLR2004 - days of the week
        return "*"
    if not traits.has_weekday_names:
        return numbers([value - 1 for value in values], 0, 6)
    runs = _runs(sorted(values))
    return ",".join("-".join(_name(int(end)) for end in run.split("-")) for run in runs)


def _name(weekday: int) -> str:
    return WEEKDAYS[weekday - 1][:3].upper()


def special_day(day: SpecialDay, traits: Traits) -> tuple[str, str] | str:
    """Day of the month and day of the week, one of them `*`; or the reason why cron cannot say it (one text)."""
    if isinstance(day, MonthEdge) and not day.last and 1 + day.shift <= _SHORTEST_MONTH:
        return str(max(1, 1 + day.shift)), "*"
    if not traits.has_special_days:
        return "this kind of cron has no sign for days that depend on the month (the last day, the second Friday ...)"
    match day:
        case MonthEdge(last=True, shift=shift) if -shift < _SHORTEST_MONTH:
            return (f"L-{-shift}" if shift < 0 else "L"), "*"
        case WeekdayEdge(last=last, shift=0):
            return ("LW" if last else "1W"), "*"
        case ClosestWeekday(day=number) if number <= _SHORTEST_MONTH:
            return f"{number}W", "*"
        case ClosestWeekday(day=number) if number >= _LONGEST_MONTH:
            return "LW", "*"
        case NthWeekday(nth=nth, weekday=weekday, shift=0):
            # Quartz counts Sunday as 1, everybody else as 0.
            number = weekday if traits.has_weekday_names else weekday - 1
            return "*", (f"{number}L" if nth == LAST else f"{number}#{nth}")
    return "cron cannot count days from a special day, or cut it to a shorter month"
