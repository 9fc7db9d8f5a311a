"""What a cron expression says, in English."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from jobmaster.schedules.cron_fields import LAST_OF_MONTH, Days, Fields
from jobmaster.schedules.english import MONTHS, WEEKDAYS, clock, every, listed, nth, ordinal, runs, step_of

_MOST_TIMES = 6
_SIXTY = 60
_TWICE = 2
_FEW_DAYS = 5
_HOURS = 24


def in_words(fields: Fields) -> str:
    """The expression as a phrase without a full stop: "every day at 3:00", "every 15 minutes, Monday to Friday"."""
    times = _times(fields)
    if times:
        sentence = _at_times(fields, f"at {listed(times)}")
    else:
        rhythm, days = _rhythm(fields), _on_days(fields)
        run = _weekday_run(fields.days)
        sentence = f"{rhythm}, {run}{_in_months(fields.months)}" if run else " ".join(filter(None, (rhythm, days)))
    return f"{sentence}{_within(fields.years, str)}" if fields.years else sentence


# --- times of day


def _times(fields: Fields) -> list[str]:
    """The times of day, if they are so few that each can be told."""
    count = len(fields.hours) * len(fields.minutes) * len(fields.seconds)
    if count > _MOST_TIMES or (len(fields.hours) > _TWICE and _even(fields.hours, _HOURS)):
        return []
    return [clock(*time) for time in product(fields.hours, fields.minutes, fields.seconds)]


def _at_times(fields: Fields, times: str) -> str:
    days = fields.days
    if days.every_day:
        return f"every day{_in_months(fields.months)} {times}"
    if days.any_number and not days.nth:
        run = _weekday_run(days)
        which = f"day from {run}" if run else listed(_weekdays(days))
        return f"every {which}{_in_months(fields.months)} {times}"
    is_plain = days.either or days.any_weekday or bool(days.nth)
    return f"{_on_days(fields)} {times}" if is_plain else f"{times} {_on_days(fields)}"


def _rhythm(fields: Fields) -> str:
    """How often within an allowed day: "every 15 minutes from 9:00 to 17:45"."""
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    if seconds == (0,):
        return _minutes_and_hours(minutes, hours, every_day=fields.days.every_day)
    spoken = _every_or_at(seconds, "second")
    if len(minutes) == len(hours) == 1:
        first, last = (clock(hours[0], minutes[0], second) for second in (seconds[0], seconds[-1]))
        return f"{spoken if spoken.startswith('every') else f'{len(seconds)} times'} from {first} to {last}"
    if len(minutes) == _SIXTY and len(hours) == _HOURS:
        return spoken if spoken.startswith("every") else f"{spoken} of every minute"
    if len(minutes) == _SIXTY:
        return f"{spoken}{'' if spoken.startswith('every') else ' of every minute'} {_in_hours(hours, minutes)}"
    of_minutes = (
        f"of every {minutes[1]}{'th' if minutes[1] > 3 else 'nd' if minutes[1] == 2 else 'rd'} minute"  # noqa: PLR2004
        if len(minutes) > 1 and _even(minutes, _SIXTY)
        else f"of minute{'s' if len(minutes) > 1 else ''} {_joined(minutes, str)}"
    )
    return f"{spoken} {of_minutes} {_in_hours(hours, minutes)}"


def _minutes_and_hours(minutes: Sequence[int], hours: Sequence[int], *, every_day: bool) -> str:
    if len(minutes) > 1 and _even(minutes, _SIXTY):
        rhythm = every(minutes[1], "minute")
        return rhythm if len(hours) == _HOURS else f"{rhythm} {_in_hours(hours, minutes)}"
    if len(minutes) == 1 and len(hours) == _HOURS:
        return "every hour" if minutes == (0,) else f"every hour at {minutes[0]} {_minutes(minutes)} past"
    if len(minutes) == 1 and len(hours) > 1 and _even(hours, _HOURS):
        start = "" if minutes == (0,) else f" from {clock(0, minutes[0])}"
        return f"{every(hours[1], 'hour')}{start}"
    if len(minutes) == 1 and len(hours) > _MOST_TIMES and step_of(hours) > 1:
        return f"{every(step_of(hours), 'hour')} from {clock(hours[0], minutes[0])} to {clock(hours[-1], minutes[0])}"
    starts = [hour for hour in hours if (hour - 1) % _HOURS not in hours]
    if len(minutes) == len(starts) == 1 and (every_day or starts[0] == hours[0]):  # over midnight, too
        last = (starts[0] + len(hours) - 1) % _HOURS
        return f"every hour from {clock(starts[0], minutes[0])} to {clock(last, minutes[0])}"
    if len(hours) == len(runs(minutes)) == 1 and len(minutes) > 1:
        return f"every minute from {clock(hours[0], minutes[0])} to {clock(hours[0], minutes[-1])}"
    if len(minutes) > _MOST_TIMES and step_of(minutes) > 1 and step_of(minutes) * len(minutes) == _SIXTY:
        rhythm = f"{every(step_of(minutes), 'minute')} from minute {minutes[0]} of the hour"
        return rhythm if len(hours) == _HOURS else f"{rhythm} {_in_hours(hours, minutes)}"
    past = f"at {_joined(minutes, str)} {_minutes(minutes)} past"
    return f"{past} every hour" if len(hours) == _HOURS else f"{past} {_joined(hours, lambda hour: clock(hour, 0))}"


def _minutes(minutes: Sequence[int]) -> str:
    return "minute" if minutes[-1] == 1 else "minutes"


def _every_or_at(seconds: Sequence[int], unit: str) -> str:
    if len(seconds) > 1 and _even(seconds, _SIXTY):
        return every(seconds[1], unit)
    return f"at {unit}{'s' if len(seconds) > 1 else ''} {_joined(seconds, str)}"


def _in_hours(hours: Sequence[int], minutes: Sequence[int]) -> str:
    if len(hours) == _HOURS:
        return "of every hour"
    spans = [f"{clock(first, minutes[0])} to {clock(last, minutes[-1])}" for first, last in _spans(hours)]
    if len(spans) <= _MOST_TIMES:
        return f"from {listed(spans)}"
    return f"in the hours {_joined(hours, str)}"


def _spans(hours: Sequence[int]) -> list[tuple[int, int]]:
    """Hours as runs of neighbours, two neighbours being one run."""
    starts = [hour for hour in hours if hour - 1 not in hours]
    ends = [hour for hour in hours if hour + 1 not in hours]
    return list(zip(starts, ends, strict=True))


def _even(numbers: Sequence[int], whole: int) -> bool:
    """Whether the numbers are every n-th from 0 through the whole, such as 0, 15, 30, 45 of 60."""
    step = step_of(numbers)
    return step > 0 and numbers[0] == 0 and step * len(numbers) == whole


# --- days


def _on_days(fields: Fields) -> str:
    days, months = fields.days, fields.months
    if days.every_day:
        return _in_months(months).lstrip()
    if days.either:
        return f"on {_numbered(days, months)} or on any {listed(_weekdays(days), 'or')}{_in_months(months)}"
    if days.any_number:
        return f"on {_weekdays_in_months(days, months)}"
    condition = "" if days.any_weekday else f" if it is a {listed(_weekdays(days), 'or')}"
    return f"on {_numbered(days, months)}{condition}"


def _numbered(days: Days, months: Sequence[int]) -> str:
    """The days of the month with their months: "the 1st and 15th of every month"."""
    numbers = sorted(days.numbers)
    names = [_day_run(first, last) for first, last in runs(numbers)]
    if len(names) > _FEW_DAYS and step_of(numbers) and not days.last:
        stepped = f"every {ordinal(step_of(numbers))} day from the {ordinal(numbers[0])} to the {ordinal(numbers[-1])}"
        return f"{stepped} of {_month_names(months)}"
    if days.last:
        names.append("last day")
    if days.nearest:
        names.append(f"weekday nearest to the {ordinal(days.nearest)}")
    return f"the {listed(names)} of {_month_names(months)}"


def _day_run(first: int, last: int) -> str:
    return ordinal(first) if first == last else f"{ordinal(first)} to {ordinal(last)}"


def _weekdays_in_months(days: Days, months: Sequence[int]) -> str:
    if not days.nth:
        return f"{listed(_weekdays(days))}{_in_months(months)}"
    return f"the {listed([_nth_name(*pair) for pair in sorted(days.nth)])} of {_month_names(months)}"


def _weekdays(days: Days) -> list[str]:
    return [_weekday_name(day) for day in _from_monday(days.weekdays)] + [_nth_name(*pair) for pair in sorted(days.nth)]


def _weekday_run(days: Days) -> str:
    """Weekdays that are one run, over the week's end, too: "Friday to Monday"; empty: they are none."""
    weekdays = days.weekdays
    firsts = [day for day in weekdays if (day - 1) % 7 not in weekdays]
    if not days.any_number or days.nth or len(firsts) != 1 or len(weekdays) <= _TWICE:
        return ""
    return f"{WEEKDAYS[firsts[0]]} to {WEEKDAYS[(firsts[0] + len(weekdays) - 1) % 7]}"


def _from_monday(weekdays: frozenset[int]) -> list[int]:
    """Weekdays in the order of people: 1 Monday to 7 Sunday."""
    return sorted(day or 7 for day in weekdays)


def _weekday_name(day: int) -> str:
    return WEEKDAYS[day % 7]


def _nth_name(weekday: int, number: int) -> str:
    return f"{'last' if number == LAST_OF_MONTH else nth(number)} {WEEKDAYS[weekday]}"


def _in_months(months: Sequence[int]) -> str:
    return "" if len(months) == len(MONTHS) else _within(months, _month_name)


def _within(numbers: Sequence[int], name: Callable[[int], str]) -> str:
    """Months or years as a limit: " in June", " from January to March"."""
    is_run = len(numbers) > _TWICE and len(runs(numbers)) == 1
    return f" {'from' if is_run else 'in'} {_joined(numbers, name)}"


def _month_names(months: Sequence[int]) -> str:
    return "every month" if len(months) == len(MONTHS) else _joined(months, _month_name)


def _month_name(month: int) -> str:
    return MONTHS[month - 1]


def _joined(numbers: Sequence[int], name: Callable[[int], str]) -> str:
    """Numbers in order as a list of names, neighbours as "first to last"."""
    return listed([name(a) if a == b else f"{name(a)} to {name(b)}" for a, b in runs(numbers)])
