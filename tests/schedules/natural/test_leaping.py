"""The last occurrences before a moment are the tail of the series, however they were found."""

import os
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.model.schedule import Misfire
from jobmaster.rules.planning import plan
from jobmaster.rules.series import SECOND, Series, finish, latest, moment_of
from jobmaster.schedules import NaturalCron
from jobmaster.schedules.expression import occurrences
from jobmaster.schedules.natural import leaping
from tests.schedules.natural.random_expressions import points, ranges
from tests.schedules.natural.test_occurrences_daylight import ZONES, around
from tests.unit.planning_rules import schedule

EXAMPLES = int(os.environ.get("NATURAL_EXAMPLES", "1000"))
MOST = 1_000
DAY = 86_400 * SECOND
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True, scope="module")
def leaps_over_anything():
    few = leaping._FEW
    leaping._FEW = 0
    yield
    leaping._FEW = few


@st.composite
def fine_rules(draw):
    """Rules that are finer than a day and have a phase, most of the time, and how long their steps are."""
    unit, seconds = draw(st.sampled_from([("second", 1), ("minute", 60), ("hour", 3600)]))
    count = draw(st.one_of(st.integers(2, 12), st.sampled_from([1, 7, 15, 30, 45, 90, 100])))
    text = [f"every {count} {unit}s" if count > 1 else f"every {unit}"]
    if draw(st.integers(0, 7)) == 0:
        text[0] += f" BasedAt {draw(st.integers(0, 23))}"
    if draw(st.integers(0, 1)):
        text.append(draw(points({unit, "year"})))
    text += draw(st.lists(ranges(), max_size=2))
    return " ".join(text), count * seconds


def tail_by_steps(rule, after, until):
    """All occurrences, or those of the first MOST steps, and up to when they are all."""
    found = []
    for moment in occurrences(rule, after, until=until):
        found.append(moment.astimezone(UTC))
        if len(found) == MOST:
            return found, found[-1]
    return found, until


@given(
    fine_rules(),
    st.sampled_from([*ZONES, "UTC"]),
    st.tuples(st.integers(0, 3), st.integers(-7 * 86_400, 86_400)),
    st.floats(0, 1),
    st.sampled_from([1, 2, 10, 100, 900]),
)
@settings(max_examples=max(100, EXAMPLES // 8), deadline=None, suppress_health_check=list(HealthCheck))
def test_they_are_the_tail_of_the_series(fine, name, begin, part, count):
    (text, step), (change, shift) = fine, begin
    zone = ZoneInfo(name)
    try:
        rule = NaturalCron(text, tz=zone)
    except ScheduleSyntaxError:
        assume(False)
    changes = around(zone, 2026)
    after = (changes[change % len(changes)] + timedelta(seconds=shift)).astimezone(zone)
    span = timedelta(seconds=part * max(14 * 86_400, min(60 * 86_400, MOST * step)))
    expected, until = tail_by_steps(rule, after, after.astimezone(UTC) + span)
    found = rule.latest(after, until, count)
    event("leapt" if found is not None else "to be followed")
    if found is not None:
        assert [moment.astimezone(UTC) for moment in found] == expected[-count:]


@pytest.mark.parametrize(
    "text",
    [
        "every 30 seconds",
        "every 90 minutes",
        "every 7 hours",
        "every 90 minutes between 9:00 and 18:00",
        "every 7 minutes between [0:30 and 2:40, 3:20 and 22:00]",
        "every 25 seconds on sunday",
        "every 25 seconds at hour [0, 2]",
        "every 45 minutes at hour [1, 2, 3]",
        "every 10 minutes between mon and fri between 2:15 and 3:45",
        "every 20 minutes between minute 10 and 50",
        "every 5 minutes at second 30",
        "every 6 hours at minute 30 upto friday",
    ],
)
@pytest.mark.parametrize("name", ["Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "UTC"])
def test_common_rules_are_leapt_over_changes_of_clocks(text, name):
    zone = ZoneInfo(name)
    rule = NaturalCron(text, tz=zone)
    for change in around(zone, 2026)[:2]:
        for before, later in ((timedelta(days=4, seconds=77), 4), (timedelta(hours=50, minutes=7), 30)):
            after = (change - before).astimezone(zone)
            until = change + timedelta(hours=later)
            expected = [moment.astimezone(UTC) for moment in occurrences(rule, after, until=until)]
            for count in (1, 3, 50):
                found = rule.latest(after, until, count)
                assert found is not None
                assert [moment.astimezone(UTC) for moment in found] == expected[-count:]


@pytest.mark.parametrize("text", ["every second", "every day", "at 9:00", "every 2 minutes at second [0, 30]"])
def test_what_needs_no_leap_or_knows_none_says_so(text):
    after = datetime(2026, 3, 1, tzinfo=BERLIN)
    assert NaturalCron(text, tz="Europe/Berlin").latest(after, after + timedelta(days=1), 5) is None


def test_nothing_is_in_an_empty_span():
    after = datetime(2026, 3, 1, tzinfo=BERLIN)
    for text in ("every 30 seconds", "every 30 seconds on monday"):
        assert NaturalCron(text).latest(after, after, 5) == []
        assert NaturalCron(text).latest(after, after + timedelta(seconds=29), 5) == []


def test_moments_need_a_zone_and_are_told_in_that_of_the_rule():
    after = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="no zone"):
        NaturalCron("every 30 seconds").latest(after, datetime(2026, 3, 2), 1)  # noqa: DTZ001
    (found,) = NaturalCron("every 30 seconds", tz="Europe/Berlin").latest(after, after + timedelta(hours=1), 1)
    assert str(found.tzinfo) == "Europe/Berlin"


SINCE = round(datetime(2026, 3, 27, 11, 0, 7, tzinfo=UTC).timestamp()) * SECOND
NOW = SINCE + 3 * DAY + 11 * SECOND  # clocks were put forward on the 29th


@pytest.mark.parametrize(
    "text",
    [
        "every 30 seconds",
        "every second",
        "every 90 minutes between 9:00 and 18:00",
        "every 20 seconds upto second 58",  # its windows are too close together for a leap
    ],
)
def test_after_three_days_asleep_each_policy_does_what_its_name_says(text):
    rule = NaturalCron(text, tz="Europe/Berlin")
    every = followed(rule)
    past = [at for at in every if at <= NOW]
    for policy, limit, expected in (
        (Misfire.SKIP, 100, []),
        (Misfire.ONCE, 100, past[-1:]),
        (Misfire.ALL, 100, past[-100:]),
        (Misfire.ALL, 7, past[-7:]),
    ):
        subject = schedule(since_us=SINCE, misfire=policy, misfire_limit=limit, misfire_grace_us=SECOND // 2)
        made = finish(plan(subject, rule, now_us=NOW, horizon_us=600 * SECOND))
        at = [each.at_us for each in made.occurrences]
        assert [each for each in at if each <= NOW] == expected
        coming = [each for each in at if each > NOW]
        assert coming == [each for each in every if each > NOW][: len(coming)], "the phase is kept"
        assert coming or not [each for each in every if NOW < each <= NOW + 600 * SECOND]


def followed(rule):
    """All occurrences of the sleep and of the hour after it."""
    until = moment_of(NOW + 3600 * SECOND)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        (moment.astimezone(UTC) - epoch) // timedelta(microseconds=1)
        for moment in occurrences(rule, moment_of(SINCE), until=until)
    ]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("every 2 seconds", 3_650),
        ("every 30 seconds between 9:00 and 18:00", 3_650),
        ("every 2 seconds on monday", 3_650),
        ("every 90 minutes between mon and fri between 9:00 and 18:00", 3_650),
        ("every 7 seconds between second 5 and 50", 3_650),
        ("every 2 seconds between 00:00:05 and 23:59:58", 1),  # given up in time
    ],
)
def test_no_search_takes_long(text, days):
    rule = NaturalCron(text, tz="Europe/Berlin")
    rule.next_after(moment_of(SINCE))
    begun = time.thread_time()
    rule.latest(moment_of(SINCE), moment_of(SINCE + days * DAY), 100)
    assert time.thread_time() - begun < 2.0


def test_what_cannot_be_leapt_is_followed_to_the_end_in_pieces():
    rule = NaturalCron("every 7 seconds upto second 56", tz="Europe/Berlin")
    until_us = SINCE + 12 * 3600 * SECOND
    expected = [at for at in followed(rule) if at <= until_us]
    assert finish(latest(Series(rule), SINCE, until_us, 3)).moments == expected[-3:]
    assert sum(1 for _ in latest(Series(rule), SINCE, until_us, 3)) > len(expected)
