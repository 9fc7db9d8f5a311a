"""An expression as a cron line, where a cron line says the same.

Rules that take their phase from the moment before (`every 15 minutes`) are converted if cron gives the same series from
an aligned start: the beginning of the hour, the day, the month, the year. What would give other moments is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobmaster.schedules.natural import cron_fields, wall_clock
from jobmaster.schedules.natural.clauses import Clause, box, parted, single
from jobmaster.schedules.natural.cron_fields import CronDialect
from jobmaster.schedules.natural.rules import Every, MonthEdge, Part, Point, Range, Rules, SpecialDay, Unit
from jobmaster.schedules.natural.special_days import exact_day
from jobmaster.schedules.natural.stepping import Stepping, effective_points, lowest_units
from jobmaster.schedules.natural.wall_clock import DAY_SECONDS, Wall

_MONTHS = 12
_ALL_DAYS = frozenset(range(1, 32))
_SHORTEST_MONTH = 28
_FEBRUARIES = tuple(28 * 8 + starts_on for starts_on in range(1, 8))
_DAY: Wall = (2025, 1, 6, 0)


class CronConversionError(ValueError):
    """There is no cron line that means the same.

    Attributes:
        reasons: all of them.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(f"no cron line means the same: {'; '.join(reasons)}. Keep it as NaturalCron.")
        self.reasons = tuple(reasons)


def to_cron(rules: Rules, dialect: CronDialect = CronDialect.CRONTAB, *, seconds: bool = False) -> str:
    """The cron line that gives the same moments.

    Args:
        rules: the expression.
        dialect: the kind of cron to write for.
        seconds: write six fields, seconds first; Quartz always does.

    Raises:
        CronConversionError: there is none; it tells all reasons.
    """
    return _Conversion(rules, dialect, seconds=seconds).line()


class _Conversion:
    def __init__(self, rules: Rules, dialect: CronDialect, *, seconds: bool) -> None:
        self._every = rules.every
        self._traits = replace(dialect.traits, has_seconds=seconds or dialect.traits.has_seconds)
        self._reasons: list[str] = []
        self._clock_points: list[Point] = []
        self._clock_ranges: list[Range] = []
        self._clauses: list[Clause] = []
        self._days: list[int | SpecialDay] | None = None
        self._day_ranges: list[Range] = []
        self._lowest = lowest_units(rules)
        if rules.zone is not None:
            self._reasons.append(
                f"cron has no field for the zone: leave it out and give it to the schedule ({rules.zone})"
            )
        for point in effective_points(rules):
            self._sort_point(point)
        for each in rules.ranges:
            self._sort_range(each)

    def line(self) -> str:
        seconds, minutes, hours = self._clock()
        months = self._months()
        day, weekday = self._day_fields()
        if not (months and day and weekday):
            self._reasons.append("it never happens")
        if self._reasons:
            raise CronConversionError(list(dict.fromkeys(self._reasons)))
        fields = [
            cron_fields.numbers(minutes, 0, 59),
            cron_fields.numbers(hours, 0, 23),
            day,
            cron_fields.numbers(months, 1, _MONTHS),
            weekday,
        ]
        if self._traits.has_seconds:
            fields.insert(0, cron_fields.numbers(seconds, 0, 59))
        return " ".join(fields)

    # ---------------------------------------------------------------------------------------------------------- sorting

    def _sort_point(self, point: Point) -> None:
        units = point.units
        if max(units) < Unit.DAY:
            self._clock_points.append(point)
            return
        parts = parted(Clause(tuple(box(item, item, exact=True) for item in point.items)))
        if not all(part.is_plain for part in parts):
            self._reasons.append("a list of dates that are not all combinations of its days, months and times")
            return
        for part in parts:
            (unit,) = part.units
            if unit < Unit.DAY:
                values = sorted(value for value in (each.low[unit] for each in part.boxes) if isinstance(value, int))
                self._clock_points.append(_point_of(unit, values))
            elif unit is Unit.DAY and not part.boxes[0].weekdays:
                self._days = [each.low[unit] for each in part.boxes]
            else:
                self._clauses.append(part)

    def _sort_range(self, each: Range) -> None:
        units = each.units
        if max(units) < Unit.DAY:
            self._clock_ranges.append(each)
        elif len(units) > 1:
            self._reasons.append("a range over several units is no field of cron")
        elif units == (Unit.DAY,):
            self._day_ranges.append(each)
        else:
            self._clauses.append(Clause(tuple(box(w.start, w.end, exact=False) for w in each.windows)))

    # ------------------------------------------------------------------------------------------------------------ clock

    def _clock(self) -> tuple[set[int], set[int], set[int]]:
        """Seconds, minutes, hours."""
        times = self._times_of_day()
        if times is None:
            self._reasons.append("its times are not the same on each day")
            return {0}, {0}, {0}
        seconds = {time % 60 for time in times}
        minutes = {time // 60 % 60 for time in times}
        hours = {time // 3600 for time in times}
        if len(seconds) * len(minutes) * len(hours) != len(times):
            self._reasons.append("its times of day are not all combinations of some hours and some minutes")
        if seconds != {0} and not self._traits.has_seconds:
            self._reasons.append("cron of five fields has no seconds (seconds=True gives six)")
        return seconds, minutes, hours

    def _times_of_day(self) -> set[int] | None:
        """The seconds of the day at which it happens from an aligned start, or None: they change from day to day."""
        every = self._every
        if every is not None and every.unit >= Unit.DAY:
            every = Every(1, Unit.DAY)
        if every is None and not self._clock_points:
            return {0}
        stepping = Stepping(Rules(every, tuple(self._clock_points), tuple(self._clock_ranges)))
        start = stepping.matching.first(_DAY)
        if start is None or start[:3] != _DAY[:3]:
            return None
        days: list[set[int]] = [set(), set(), set()] if stepping.is_phased else [set()]
        first = wall_clock.linear(_DAY)
        at: Wall | None = start
        while at is not None:
            day, second = divmod(wall_clock.linear(at) - first, DAY_SECONDS)
            if day >= len(days):
                break
            days[day].add(second)
            at = stepping.next_wall(at)
        return days[0] if all(day == days[0] for day in days) else None

    # ------------------------------------------------------------------------------------------------------------- days

    def _months(self) -> set[int]:
        every = self._every
        if any(Unit.YEAR in clause.units for clause in self._clauses):
            self._reasons.append("cron has no field for the year")
        named = [clause for clause in self._clauses if Unit.MONTH in clause.units]
        months = {month for month in range(1, _MONTHS + 1) if all(c.mask(Unit.MONTH, 0) >> month & 1 for c in named)}
        if every is None:
            return months if named or Unit.MONTH not in self._lowest else {1}
        if every.unit is Unit.YEAR:
            if every.count > 1:
                self._reasons.append(f"every {every.count} years: cron has no field for the year")
            is_set = any(each.exact for clause in named for each in clause.boxes)
            return months if is_set else {min(months, default=1)}
        if every.unit is Unit.MONTH and every.count > 1:
            if _MONTHS % every.count or named:
                self._reasons.append(f"every {every.count} months is not the same in each year")
                return {1}
            return {month for month in months if (month - (every.anchor or 1)) % every.count == 0}
        return months

    def _check_drift(self) -> None:
        """Where a period without the day shifts the months of all later ones, cron says something else."""
        every = self._every
        months_set = any(Unit.MONTH in c.units and any(b.exact for b in c.boxes) for c in self._clauses)
        if every is None or not (
            (every.unit is Unit.MONTH and every.count > 1 and every.anchor is None)
            or (every.unit is Unit.YEAR and not months_set)
        ):
            return
        weekdays = any(clause.boxes[0].weekdays for clause in self._clauses)
        if weekdays or not all(_is_in_every_month(day) for day in self._days or ()):
            self._reasons.append("a month without such a day shifts all that follows")

    def _day_fields(self) -> tuple[str, str]:
        self._check_drift()
        weekdays = self._weekdays()
        day, weekday = self._days_of_month()
        if weekdays is not None:
            if weekday != "*" or (day != "*" and not self._traits.joins_days):
                self._reasons.append("this kind of cron cannot ask for a day of the month and a weekday together")
            weekday = cron_fields.weekdays(weekdays, self._traits) if weekdays else ""
        if self._traits.has_question_mark:
            return ("?", weekday) if weekday != "*" else (day, "?")
        return day, weekday

    def _weekdays(self) -> set[int] | None:
        every = self._every
        month_from_sunday = 31 * 8 + 1
        named = [clause for clause in self._clauses if clause.boxes[0].weekdays]
        if every is not None and every.unit is Unit.WEEK:
            if every.count > 1:
                self._reasons.append(f"every {every.count} weeks: cron has no field for the week")
            if every.anchor is not None:
                named.append(single(Unit.WEEK, [every.anchor]))
            elif not any(each.exact for clause in named for each in clause.boxes) and self._days is None:
                self._reasons.append("every week, but on which weekday")
        if every is not None and every.unit >= Unit.MONTH and named and self._days is None:
            self._reasons.append(f"every {every.unit.name.lower()} on a day that depends on the one before")
            return None
        if not named:
            return None
        return {day for day in range(1, 8) if all(c.mask(Unit.DAY, month_from_sunday) >> day & 1 for c in named)}

    def _days_of_month(self) -> tuple[str, str]:
        every = self._every
        days = self._plain_days()
        if every is not None and every.unit is Unit.DAY and every.count > 1:
            if every.anchor is None or every.count > _SHORTEST_MONTH:
                self._reasons.append(f"every {every.count} days: cron begins anew in each month")
            else:
                held = _ALL_DAYS if days is None else days
                days = {day for day in held if (day - every.anchor) % every.count == 0}
        if self._days is not None:
            special = [day for day in self._days if not isinstance(day, int)]
            if special:
                return self._special(special[0], alone=len(self._days) == 1 and not self._day_ranges)
            days = {day for day in self._days if isinstance(day, int)} & (_ALL_DAYS if days is None else days)
        elif every is not None and every.unit >= Unit.MONTH:
            days = {1} if days is None else set(sorted(days)[:1])
        elif every is None and Unit.DAY in self._lowest:
            days = {1}
        if days is not None and not days:
            return "", "*"
        return ("*" if days is None else cron_fields.numbers(days, 1, 31)), "*"

    def _special(self, day: SpecialDay, *, alone: bool) -> tuple[str, str]:
        fields = cron_fields.special_day(day, self._traits)
        if not isinstance(fields, tuple):
            self._reasons.append(fields)
            return "*", "*"
        if not alone:
            self._reasons.append("a special day beside other days of the month")
        return fields

    def _plain_days(self) -> set[int] | None:
        """The days of the month that the ranges leave, or None: all."""
        if not self._day_ranges:
            return None
        days = set(_ALL_DAYS)
        for each in self._day_ranges:
            held: set[int] = set()
            for window in each.windows:
                low, high = window.start[0].value, window.end[0].value
                low = 1 if low == MonthEdge(last=False) else low
                high = 31 if high == MonthEdge(last=True) else high
                if not isinstance(low, int) or not isinstance(high, int) or low > _SHORTEST_MONTH:
                    self._reasons.append("a range of days that depends on the length of the month")
                    return None
                held |= set(range(low, high + 1))
            days &= held
        return days


def _is_in_every_month(day: int | SpecialDay) -> bool:
    return all(exact_day(day, kind) is not None for kind in _FEBRUARIES)


def _point_of(unit: Unit, values: Sequence[int]) -> Point:

    return Point(tuple((Part(unit, value),) for value in values))
