"""Cron lines that mean the same: compared with croniter, or refused with all reasons."""

import os
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, croniter
from hypothesis import HealthCheck, Phase, assume, given, settings

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.cron_fields import CronDialect
from jobmaster.schedules.natural.occurrences import Evaluator
from jobmaster.schedules.natural.reading import parse_rules
from jobmaster.schedules.natural.to_cron import CronConversionError, to_cron
from tests.schedules.natural.random_expressions import expressions

UTC = ZoneInfo("UTC")
CRONTAB = [
    ("every minute", "* * * * *"),
    ("every 15 minutes", "*/15 * * * *"),
    ("every 30 minutes", "*/30 * * * *"),
    ("every hour", "0 * * * *"),
    ("every 6 hours", "0 */6 * * *"),
    ("every 12 hours", "0 */12 * * *"),
    ("every 24 hours", "0 0 * * *"),
    ("every hour at minute 30", "30 * * * *"),
    ("every 2 hours at minute 30", "30 */2 * * *"),
    ("every 2 hours at minute [0, 30]", "*/30 */2 * * *"),
    ("every 2 hours between hour 9 and 17", "0 9-17/2 * * *"),
    ("every hour between 09:00 and 18:00", "0 9-18 * * *"),
    ("every 30 minutes between 9:00 and 17:59", "*/30 9-17 * * *"),
    ("every 25 minutes on [mon, tue, fri] between 9:00 and 10:00", "0,25,50 9 * * 1,2,5"),
    ("every 15 minutes between 8am and 12pm", "*/15 8-12 * * *"),
    ("every 15 minutes between 8am and 12pm between mon and fri", "*/15 8-12 * * 1-5"),
    ("every 10 minutes at 9pm", "*/10 21 * * *"),
    ("every 10 minutes on monday in march", "*/10 * * 3 1"),
    ("every 5 minutes BasedAt 7", "2-57/5 * * * *"),
    ("every 5 hours BasedAt 10", "0 0-20/5 * * *"),
    ("every day", "0 0 * * *"),
    ("every day at 6:00pm", "0 18 * * *"),
    ("at 3am", "0 3 * * *"),
    ("every day at [10:00, 14:00, 18:00]", "0 10,14,18 * * *"),
    ("every day at [10:30, 14:30]", "30 10,14 * * *"),
    ("every day between 13:00 and 15:00", "0 13 * * *"),
    ("every day at 10:00 on [monday, wednesday, friday]", "0 10 * * 1,3,5"),
    ("every day between monday and friday at 18:00", "0 18 * * 1-5"),
    ("every day in [jan, jun]", "0 0 * 1,6 *"),
    ("every day upto 15th", "0 0 1-15 * *"),
    ("every day from 10th", "0 0 10-31 * *"),
    ("every hour between 10th and 15th", "0 * 10-15 * *"),
    ("every 5 days BasedAt 10th", "0 0 5-30/5 * *"),
    ("every week on monday", "0 0 * * 1"),
    ("every monday at 9:00", "0 9 * * 1"),
    ("on [sat, sun] at 9:00", "0 9 * * 0,6"),
    ("every week on 13th", "0 0 13 * *"),
    ("every month", "0 0 1 * *"),
    ("every month on 1st", "0 0 1 * *"),
    ("every month on [1st, 15th, 20th] at 8:15", "15 8 1,15,20 * *"),
    ("every month on 31st", "0 0 31 * *"),
    ("every month on FirstDay", "0 0 1 * *"),
    ("every month on FirstDay + 5", "0 0 6 * *"),
    ("every month between 10th and 15th", "0 0 10 * *"),
    ("every 3 months on 1st at 6:00", "0 6 1 */3 *"),
    ("every 3 months AnchoredIn march on 1st", "0 0 1 3-12/3 *"),
    ("every year", "0 0 1 1 *"),
    ("every year on jul-04 at 12:00", "0 12 4 7 *"),
    ("every year in [mar, sep] on 10th", "0 0 10 3,9 *"),
    ("every year between feb and jul on 3rd", "0 0 3 2 *"),
    ("on feb-29", "0 0 29 2 *"),
    ("in march", "0 0 1 3 *"),
    ("at day [10, 11, 12]", "0 0 10-12 * *"),
]
SECONDS = [
    ("every 10 seconds", "*/10 * * * * *"),
    ("every second between 10:00 and 10:05 on 1st in jan", "* 0-5 10 1 1 *"),
    ("every minute at second 30", "30 * * * * *"),
    ("every 5 minutes between sec 10 and 20", "10 */5 * * * *"),
    ("at 18:00:30", "30 0 18 * * *"),
    ("every minute", "0 * * * * *"),
]
SPECIAL = [  # Cronos, Quartz
    ("every month on LastDay at 23:00", "0 23 L * *", "0 0 23 L * ?"),
    ("on LastDayOfMonth - 5", "0 0 L-5 * *", "0 0 0 L-5 * ?"),
    ("on FirstWeekday", "0 0 1W * *", "0 0 0 1W * ?"),
    ("on LastWeekday at 17:00", "0 17 LW * *", "0 0 17 LW * ?"),
    ("on ClosestWeekdayTo 15th", "0 0 15W * *", "0 0 0 15W * ?"),
    ("on ClosestWeekdayTo 31st", "0 0 LW * *", "0 0 0 LW * ?"),
    ("every month on 2ndFriday", "0 0 * * 5#2", "0 0 0 ? * 6#2"),
    ("every month on LastFri at 17:00", "0 17 * * 5L", "0 0 17 ? * 6L"),
    ("every month on monday", "0 0 * * 1#1", "0 0 0 ? * 2#1"),
    ("every day between mon and fri at 18:00", "0 18 * * 1-5", "0 0 18 ? * MON-FRI"),
    ("on [mon, wed, fri] at 9:00", "0 9 * * 1,3,5", "0 0 9 ? * MON,WED,FRI"),
    ("every day", "0 0 * * *", "0 0 0 * * ?"),
]
REFUSED = [
    ("every day at 9:00 tz Europe/Berlin", ["zone"]),
    ("every 2 weeks on monday", ["week"]),
    ("weekly", ["weekday"]),
    ("every 2 years on jan-01", ["year"]),
    ("on 2030-01-01", ["year"]),
    ("every day between 2026-01-01 and 2026-12-31", ["several units"]),
    ("every 2 days at 9:00", ["days"]),
    ("every 40 minutes", ["all combinations"]),
    ("every 7 minutes", ["not the same on each day"]),
    ("every 7 hours", ["not the same on each day"]),
    ("every 5 months on 1st", ["months"]),
    ("every 90 minutes", ["all combinations"]),
    ("every 30 minutes between 9:00 and 18:00", ["all combinations"]),
    ("every day at [10:10, 12:30]", ["all combinations"]),
    ("every 10 seconds", ["seconds"]),
    ("on LastDay", ["month"]),
    ("on LastFri", ["month"]),
    ("on 13th on friday", ["weekday together"]),
    ("on [jan-01, feb-02]", ["list of dates"]),
    ("every day between 30th and 31st", ["length of the month"]),
    ("every day between FirstWeekday and 10th", ["length of the month"]),
    ("every month between monday and friday", ["depends on the one before"]),
    ("every day on sunday between monday and friday", ["never"]),
    ("every week on 3rd between day 27 and day 28 upto day 5", ["never"]),
    ("every 2 weeks on monday at 9:00:30 tz Europe/Berlin", ["zone", "seconds", "week"]),
]


def cron_series(line: str, base: datetime, count: int) -> list[datetime]:
    cron = croniter(line, base, second_at_beginning=len(line.split()) == 6, day_or=False)
    return [cron.get_next(datetime) for _ in range(count)]


def natural_series(expression: str, base: datetime, count: int) -> list[datetime]:
    evaluator = Evaluator(parse_rules(expression))
    found, at = [], base
    for _ in range(count):
        following = evaluator.next_after(at)
        assert following is not None
        found.append(at := following)
    return found


def assert_equivalent(expression: str, line: str) -> None:
    for start in (
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2027, 12, 31, tzinfo=UTC),
        datetime(2028, 1, 1, tzinfo=UTC),
    ):
        yearly = expression.startswith(("every 3 months", "every month", "every year"))  # aligned: from a January on
        base = start.replace(month=1, day=1) if yearly else start
        first, *expected = cron_series(line, base, 201)
        # From the first occurrence on: the base itself need not match.
        assert natural_series(expression, first, 200) == expected


@pytest.mark.parametrize(("expression", "line"), CRONTAB, ids=[row[0] for row in CRONTAB])
def test_a_crontab_line_gives_the_same_moments(expression, line):
    assert to_cron(parse_rules(expression)) == line
    assert_equivalent(expression, line)


@pytest.mark.parametrize(("expression", "line"), SECONDS, ids=[row[0] for row in SECONDS])
def test_a_line_of_six_fields_gives_the_same_moments(expression, line):
    assert to_cron(parse_rules(expression), seconds=True) == line
    assert_equivalent(expression, line)


@pytest.mark.parametrize(("expression", "cronos", "quartz"), SPECIAL, ids=[row[0] for row in SPECIAL])
def test_other_kinds_of_cron_know_days_that_depend_on_the_month(expression, cronos, quartz):
    rules = parse_rules(expression)
    assert to_cron(rules, CronDialect.CRONOS) == cronos
    assert to_cron(rules, CronDialect.QUARTZ) == quartz
    if "W" not in cronos and "L-" not in cronos:  # croniter does not know these
        day = cronos.split()[-1]
        assert_equivalent(expression, cronos if not day.endswith("L") else cronos.replace("5L", "L5"))


@pytest.mark.parametrize(("expression", "reasons"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cron_cannot_say_is_refused_with_all_reasons(expression, reasons):
    with pytest.raises(CronConversionError) as refused:
        to_cron(parse_rules(expression))
    assert len(refused.value.reasons) == len(reasons)
    for reason, words in zip(refused.value.reasons, reasons, strict=True):
        assert words in reason
    assert all(reason in str(refused.value) for reason in refused.value.reasons)


def test_cronos_asks_for_both_days_where_both_are_named():
    assert to_cron(parse_rules("on 13th on friday at 13:13"), CronDialect.CRONOS) == "13 13 13 * 5"
    assert_equivalent("on 13th on friday at 13:13", "13 13 13 * 5")


@given(expressions(zones=False))
@settings(
    max_examples=int(os.environ.get("NATURAL_EXAMPLES", "1000")) // 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # a failing line says enough, and each takes long
)
def test_whatever_is_converted_gives_the_same_moments(expression):
    try:
        line = to_cron(parse_rules(expression), CronDialect.CRONOS, seconds=True)
    except (ScheduleSyntaxError, CronConversionError):
        assume(False)
        raise
    day, weekday = line.split()[3], line.split()[5]
    assume("W" not in day and "L" not in day)
    if weekday.endswith("L"):
        line = f"{line.removesuffix(weekday)}L{weekday[:-1]}"
    # Aligned: it begins with the first occurrence of a year.
    try:
        first, *expected = cron_series(line, datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC), 30)
    except CroniterBadDateError:  # it gives up after 50 years
        assume(False)
        raise
    assert natural_series(expression, first, 29) == expected
