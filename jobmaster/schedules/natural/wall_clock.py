"""Arithmetic of wall clocks: moving what clocks and calendars show by units of time."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, date, datetime

from jobmaster.schedules.natural.rules import Unit
from jobmaster.schedules.natural.special_days import month_length

Wall = tuple[int, int, int, int]
"""What a clock and a calendar show: year, month, day, second of the day."""

DAY_SECONDS = 86_400
UNIT_SECONDS = {
    Unit.SECOND: 1,
    Unit.MINUTE: 60,
    Unit.HOUR: 3600,
    Unit.DAY: DAY_SECONDS,
    Unit.WEEK: 7 * DAY_SECONDS,
}
_LAST_ORDINAL = date.max.toordinal()


def of(moment: datetime) -> Wall:
    """The whole seconds that `moment` shows in its own zone."""
    return moment.year, moment.month, moment.day, moment.hour * 3600 + moment.minute * 60 + moment.second


def shown(wall: Wall) -> datetime:
    """`wall` as a naive datetime."""
    year, month, day, second = wall
    minute, second = divmod(second, 60)
    return datetime(year, month, day, minute // 60, minute % 60, second)  # noqa: DTZ001 - a wall has no zone


def linear(wall: Wall) -> int:
    """Seconds since the first day of year 1: differences are distances."""
    year, month, day, second = wall
    return date(year, month, day).toordinal() * DAY_SECONDS + second


def from_linear(seconds: int) -> Wall | None:
    """The opposite of `linear`; None: out of the calendar."""
    ordinal, second = divmod(seconds, DAY_SECONDS)
    if not 1 <= ordinal <= _LAST_ORDINAL:
        return None
    day = date.fromordinal(ordinal)
    return day.year, day.month, day.day, second


def moved(wall: Wall, count: int, unit: Unit) -> Wall | None:
    """`count` units later; a day that the month does not have becomes its last one. None: after year 9999."""
    if unit < Unit.MONTH:
        return from_linear(linear(wall) + count * UNIT_SECONDS[unit])
    year, month, day, second = wall
    months = year * 12 + month - 1 + count * (12 if unit is Unit.YEAR else 1)
    year, month = divmod(months, 12)
    if not MINYEAR <= year <= MAXYEAR:
        return None
    return year, month + 1, min(day, month_length(year, month + 1)), second


def weekday(wall: Wall) -> int:
    """1 Sunday to 7 Saturday."""
    return date(*wall[:3]).isoweekday() % 7 + 1


def value(wall: Wall, unit: Unit) -> int:
    """The value of `unit`; of WEEK the weekday."""
    match unit:
        case Unit.SECOND:
            return wall[3] % 60
        case Unit.MINUTE:
            return wall[3] // 60 % 60
        case Unit.HOUR:
            return wall[3] // 3600
        case Unit.WEEK:
            return weekday(wall)
    return wall[(Unit.DAY, Unit.MONTH, Unit.YEAR)[::-1].index(unit)]


def with_value(wall: Wall, unit: Unit, number: int) -> Wall:
    """`wall` with another value of `unit` (not WEEK); days are cut to the month."""
    year, month, day, second = wall
    if unit < Unit.DAY:
        size = UNIT_SECONDS[unit]
        return year, month, day, second + (number - value(wall, unit)) * size
    if unit is Unit.YEAR:
        year = number
    elif unit is Unit.MONTH:
        month = number
    else:
        day = number
    return year, month, min(day, month_length(year, month)), second
