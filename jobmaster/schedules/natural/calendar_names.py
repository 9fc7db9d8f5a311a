"""Days and months as builders take them."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple


class Weekday(IntEnum):
    """Days of the week as the language counts them."""

    SUNDAY = 1
    MONDAY = 2
    TUESDAY = 3
    WEDNESDAY = 4
    THURSDAY = 5
    FRIDAY = 6
    SATURDAY = 7


class Month(IntEnum):
    """Months of the year."""

    JANUARY = 1
    FEBRUARY = 2
    MARCH = 3
    APRIL = 4
    MAY = 5
    JUNE = 6
    JULY = 7
    AUGUST = 8
    SEPTEMBER = 9
    OCTOBER = 10
    NOVEMBER = 11
    DECEMBER = 12


class DayPosition(Enum):
    """Days that each month has; a weekday of the last two is Monday to Friday."""

    FIRST_DAY = "FirstDay"
    LAST_DAY = "LastDay"
    FIRST_WEEKDAY = "FirstWeekday"
    LAST_WEEKDAY = "LastWeekday"


class Nth(Enum):
    """Which of the Mondays (Tuesdays ...) of a month."""

    FIRST = "1st"
    SECOND = "2nd"
    THIRD = "3rd"
    FOURTH = "4th"
    FIFTH = "5th"
    LAST = "Last"


class MonthDay(NamedTuple):
    """A day of each year."""

    month: Month
    day: int
