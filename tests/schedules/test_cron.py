"""Cron expressions: what they mean (against cronsim, and a calendar counted by hand), and what is refused where."""

from __future__ import annotations

import calendar
import pickle
import statistics
import time
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.schedules import Cron, Expression, occurrences

START = datetime(2026, 11, 22, 8, 7, 3, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def following(text: str, count: int, after: datetime = START) -> list[str]:
    found = islice(occurrences(Cron(text, "UTC"), after), count)
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in found]


# --- against a second library


def field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    value = number.map(str) if not names else number.map(str) | st.sampled_from(names)
    pair = st.tuples(number, number).map(sorted).filter(lambda ends: ends[0] < ends[1])
    span = pair.map(lambda ends: f"{ends[0]}-{ends[1]}")
    step = st.integers(2, max(2, (high - low) // 2))
    item = st.one_of(
        value,
        span,
        st.tuples(span, step).map(lambda parts: f"{parts[0]}/{parts[1]}"),
        step.map(lambda by: f"*/{by}"),
    )
    return st.one_of(st.just("*"), item, st.lists(item, min_size=1, max_size=4).map(",".join))


MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
DAYS = field(1, 31) | st.just("L")
WEEKDAY = field(0, 6, WEEKDAYS) | st.tuples(st.integers(0, 6), st.integers(1, 5)).map("{0[0]}#{0[1]}".format)
CRONS = st.tuples(field(0, 59), field(0, 23), DAYS, field(1, 12, MONTHS), WEEKDAY).map(" ".join)


def wall(*parts: int) -> datetime:
    return datetime(*parts)  # noqa: DTZ001 - cronsim steps along walls


@settings(max_examples=600, deadline=None)
@given(text=CRONS, after=st.datetimes(wall(1999, 1, 1), wall(2099, 1, 1)))
@example(text="0 0 29 2 *", after=wall(2096, 3, 1))
@example(text="0 0 29 2 MON#5", after=wall(2097, 1, 1))
@example(text="59 23 31 12 *", after=wall(2027, 12, 31, 23, 59))
@example(text="0 0 1 1 *", after=wall(2027, 12, 31, 23, 59, 59))
@example(text="30 6 */10 * 1-5", after=wall(2026, 2, 27))
@example(text="30 6 10,20 * 1-5", after=wall(2026, 2, 27))
def test_it_means_what_another_library_says(text: str, after: datetime):
    """F5: also at 29 February, the 31st and the year's end."""
    try:
        simulated = CronSim(text, after)
    except CronSimError:
        return
    rule = read(text)
    if isinstance(rule, ScheduleSyntaxError):
        assert (rule.kind, next(simulated, None)) == ("never", None)
        return
    moment = after.replace(tzinfo=UTC)
    for expected in islice(simulated, 4):  # it looks fifty years ahead
        found = rule.next_after(moment)
        assert found == expected.replace(tzinfo=UTC)
        moment = found


def read(text: str) -> Cron | ScheduleSyntaxError:
    try:
        return Cron(text, "UTC")
    except ScheduleSyntaxError as error:
        return error


# --- against a calendar


@pytest.mark.fault("F5")
@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("0 0 29 2 *", lambda day: (day.month, day.day) == (2, 29)),
        ("0 0 29 2 6", lambda day: (day.month, day.day) == (2, 29) or (day.month == 2 and day.isoweekday() == 6)),
        ("0 0 31 * *", lambda day: day.day == 31),
        ("0 0 * * 1", lambda day: day.isoweekday() == 1),  # also in a 53rd week
        ("0 0 30,31 4,12 *", lambda day: day.month in (4, 12) and day.day in (30, 31)),
        ("0 0 L * *", lambda day: (day + timedelta(days=1)).day == 1),
        ("0 0 L 2 ?", lambda day: day.month == 2 and (day + timedelta(days=1)).day == 1),
        ("0 0 1,L * *", lambda day: 1 in (day.day, (day + timedelta(days=1)).day)),
        ("0 0 * * L5", lambda day: day.isoweekday() == 5 and (day + timedelta(days=7)).month != day.month),
        ("0 0 * * MON#2", lambda day: day.isoweekday() == 1 and 8 <= day.day <= 14),
        ("0 0 * * fri#5", lambda day: day.isoweekday() == 5 and day.day >= 29),
        ("0 0 31 12 *", lambda day: (day.month, day.day) == (12, 31)),
        ("0 0 1 1 *", lambda day: (day.month, day.day) == (1, 1)),
        ("0 0 */2 * 1", lambda day: day.day % 2 == 1 and day.isoweekday() == 1),
        ("0 0 1-7 * */7", lambda day: day.day <= 7 and day.isoweekday() == 7),
        ("0 0 * 2 fri-mon", lambda day: day.month == 2 and day.isoweekday() in (5, 6, 7, 1)),
    ],
)
def test_days_are_those_of_the_calendar(text, holds):
    first = date(2023, 12, 30)
    expected = [day for day in (first + timedelta(days=n) for n in range(1, 3_300)) if holds(day)]
    found = [moment.date() for moment in occurrences(Cron(text, "UTC"), datetime(2023, 12, 30, tzinfo=UTC),
                                                     until=datetime(2033, 1, 10, tzinfo=UTC))]  # fmt: skip
    last = date(2033, 1, 10)
    assert found == [day for day in expected if day <= last]
    assert found


@pytest.mark.parametrize("day", range(1, 32))
def test_the_nearest_weekday_stays_in_its_month(day):
    found = [moment.date() for moment in occurrences(Cron(f"0 0 {day}W * *", "UTC"), datetime(2026, 1, 1, tzinfo=UTC) -
                                                     timedelta(seconds=1), until=datetime(2028, 1, 1, tzinfo=UTC)
                                                     - timedelta(seconds=1))]  # fmt: skip
    expected = []
    for year in (2026, 2027):
        for month in range(1, 13):
            length = calendar.monthrange(year, month)[1]
            if day <= length:
                weekdays = [date(year, month, n) for n in range(1, length + 1)]
                near = [one for one in weekdays if one.isoweekday() < 6]
                expected.append(min(near, key=lambda one: abs(one - date(year, month, day))))
    assert found == expected


# --- forms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/20 * * * * *", ["2026-11-22 08:07:20", "2026-11-22 08:07:40", "2026-11-22 08:08:00"]),
        ("5,7 30 9 * * *", ["2026-11-22 09:30:05", "2026-11-22 09:30:07", "2026-11-23 09:30:05"]),
        ("0 0 12 1 1 ? 2027-2028", ["2027-01-01 12:00:00", "2028-01-01 12:00:00"]),
        ("@hourly", ["2026-11-22 09:00:00", "2026-11-22 10:00:00"]),
        ("@daily", ["2026-11-23 00:00:00", "2026-11-24 00:00:00"]),
        ("@Midnight", ["2026-11-23 00:00:00"]),
        ("@weekly", ["2026-11-29 00:00:00", "2026-12-06 00:00:00"]),
        ("@monthly", ["2026-12-01 00:00:00", "2027-01-01 00:00:00"]),
        ("@yearly", ["2027-01-01 00:00:00", "2028-01-01 00:00:00"]),
        ("@annually", ["2027-01-01 00:00:00"]),
        ("  0   3\t* * * ", ["2026-11-23 03:00:00"]),
        ("0 9 * * Monday", ["2026-11-23 09:00:00", "2026-11-30 09:00:00"]),
        ("0 9 1 january,July *", ["2027-01-01 09:00:00", "2027-07-01 09:00:00"]),
        ("0 9 * * 7", ["2026-11-22 09:00:00", "2026-11-29 09:00:00"]),
        ("5-5 * * * *", ["2026-11-22 09:05:00", "2026-11-22 10:05:00"]),
        ("0 9-9 * * mon-mon", ["2026-11-23 09:00:00", "2026-11-30 09:00:00"]),
        ("50-10/10 * * * *", ["2026-11-22 08:10:00", "2026-11-22 08:50:00", "2026-11-22 09:00:00"]),
        ("59/15 * * * *", ["2026-11-22 08:59:00", "2026-11-22 09:59:00"]),
        ("0 0 ? * ?", ["2026-11-23 00:00:00"]),
    ],
)
def test_every_form_is_read(text, expected):
    assert following(text, len(expected)) == expected


def test_a_year_that_is_over_ends_the_rule():
    rule = Cron("0 0 12 24 12 ? 2027", BERLIN)
    only = datetime(2027, 12, 24, 12, tzinfo=BERLIN)
    assert rule.next_after(START) == only
    assert not rule.has_ended(START)
    assert rule.next_after(only) is None
    assert rule.has_ended(only)
    assert Cron("0 0 0 1 1 ? 2027").next_after(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)) is not None


def test_fractions_of_a_second_are_before_or_behind():
    rule = Cron("30 8 * * *", "UTC")
    half_past = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    assert rule.next_after(half_past - timedelta(microseconds=1)) == half_past
    assert rule.next_after(half_past + timedelta(microseconds=1)) == half_past + timedelta(days=1)


# --- H


def test_hashed_fields_are_the_same_everywhere_and_differ_by_id():
    minutes = {Cron("H * * * *", hash_id=f"schedule-{n}").fields.minutes for n in range(200)}
    assert len(minutes) > 40
    assert Cron("H H * * *", hash_id="a").fields == Cron("H H * * *", hash_id="a").fields
    assert Cron("H H * * *").hashed("a") == Cron("H H * * *", hash_id="a")
    assert Cron("H H(0-5) * * *", hash_id="nightly").explain() == "every day at 3:06"


@pytest.mark.parametrize("number", range(40))
def test_hashed_fields_stay_in_their_ranges(number):
    fields = Cron("H H(9-17) H * *", hash_id=f"id {number}").fields
    assert 9 <= fields.hours[0] <= 17
    assert max(fields.days.numbers) <= 28  # every month has the day
    stepped = Cron("H/15 * H/7 * *", hash_id=f"id {number}").fields
    assert len(stepped.minutes) == 4
    assert {after - before for before, after in pairwise(stepped.minutes)} == {15}
    assert max(stepped.days.numbers) <= 28


def test_what_is_not_hashed_is_read_once_for_all_schedules():
    one, other = Cron("0 3 * * mon", hash_id="a"), Cron("0 3 * * mon", hash_id="b")
    assert one == other
    assert one.fields is other.fields


def test_aliases_are_not_hashed():
    assert following("@daily", 1) == ["2026-11-23 00:00:00"]
    assert Cron("@daily", hash_id="anything").explain() == "every day at 0:00"


# --- what is refused

BAD = [
    ("", 0, "5 fields"),
    ("* * * *", 7, "this one has 4"),
    ("* * * * * * * *", 14, "this one has 8"),
    ("60 * * * *", 0, "minute: `60` is none; allowed: 0 to 59"),
    ("0,10,70 * * * *", 5, "minute: `70`"),
    ("* 24 * * *", 2, "hour: `24`"),
    ("* * 0 * *", 4, "day of month: `0`"),
    ("* * 32 * *", 4, "day of month: `32`"),
    ("* * * 13 *", 6, "month: `13`"),
    ("* * * 0 *", 6, "month: `0`"),
    ("* * * foo *", 6, "month: `foo`"),
    ("* * * * 8", 8, "weekday: `8`"),
    ("* * * * mon,fun", 12, "weekday: `fun`"),
    ("* * * * mon#6", 8, "weekday: `mon#6`"),
    ("* * * * 1,2#3", 8, "plain weekdays and those with #"),
    ("0 * * * * * 1969", 12, "year: `1969`"),
    ("77 * * * * *", 0, "second: `77`"),
    ("1,,2 * * * *", 0, "minute: a comma"),
    ("* 5, * * *", 2, "hour: a comma"),
    ("*/0 * * * *", 0, "minute: `*/0`"),
    ("*/90 * * * *", 0, "a step of 90 never comes to a second value (0 to 59)"),
    ("* */24 * * *", 2, "a step of 24"),
    ("1-2-3 * * * *", 0, "minute: `1-2-3`"),
    ("-5 * * * *", 0, "minute: `-5`"),
    ("5- * * * *", 0, "minute: `5-`"),
    ("1.5 * * * *", 0, "minute: `1.5`"),
    ("? * * * *", 0, "minute: `?`"),
    ("* * L-3 * *", 4, "day of month: `L-3`"),
    ("* * 15w,3 * *", 4, "`W` stands alone"),
    ("* * * * L", 8, "weekday: `L`"),
    ("* * * * 1#1,7L", 12, "weekday: `7L` is none"),
    ("R * * * *", 0, "another time on each machine"),
    ("0 R(1-5) * * *", 2, "another time on each machine"),
    ("@reboot", 0, "cron knows no `@reboot`"),
    ("@every 5m", 0, "Interval"),
    ("@daily 5", 0, "cron knows"),
    ("0 0 30 2 *", 4, "this never happens"),
    ("0 0 31 2,4,6,9,11 *", 4, "this never happens"),
    ("0 0 0 29 2 ? 2027", 6, "this never happens"),
    ("0 0 0 31 4 ?", 6, "this never happens"),
    ("0 3 * * *\u00a0", 8, "weekday: `*\u00a0`"),
    ("٣ * * * *", 0, "minute"),
    ("0-99999999999999999999 * * * *", 0, "minute"),
]


@pytest.mark.parametrize(("text", "position", "words"), BAD)
def test_what_cannot_be_read_is_shown_in_its_place(text, position, words):
    with pytest.raises(ScheduleSyntaxError) as caught:
        Cron(text)
    assert (caught.value.position, caught.value.text) == (position, text)
    assert words in caught.value.message
    assert not text or "^" in str(caught.value)


@pytest.mark.parametrize(("text", "meant"), [("0 9 * * 5L", "L5"), ("0 9 * * 7l", "L0"), ("R 9 * * *", "H")])
def test_what_was_probably_meant_is_said(text, meant):
    with pytest.raises(ScheduleSyntaxError) as caught:
        Cron(text)
    assert caught.value.suggestion == meant
    error = caught.value
    Cron(text[: error.position] + meant + text[error.position + error.length :])


def test_what_is_no_text_is_refused():
    with pytest.raises(TypeError, match="not NoneType"):
        Cron(None)


@settings(max_examples=1_000, deadline=None)
@given(st.text(alphabet="0123456789*/-,#?LWHRr@()montuefribxä \t", max_size=30) | st.text(max_size=20))
@example("0 0 1 1 1 1 1")
@example("H(0-0) * * * *")
@example("* * * * *#1")
def test_any_text_is_read_or_refused(text: str):
    rule = read(text)
    if isinstance(rule, ScheduleSyntaxError):
        assert 0 <= rule.position <= max(len(text), 500)
        assert "Traceback" not in str(rule)
        return
    assert rule.explain()
    moment = rule.next_after(START)
    assert moment is None or moment > START


def test_a_text_that_is_too_long_is_refused_at_once():
    with pytest.raises(ScheduleSyntaxError, match="at most 500"):
        Cron("0," * 100_000 + "0 * * * *")


def test_an_unknown_zone_is_named_with_what_may_be_meant():
    with pytest.raises(ConfigurationError, match="did you mean 'Europe/Berlin'"):
        Cron("0 3 * * *", "Europe/Berlim")
    assert Cron("0 3 * * *", "europe/berlin").zone == BERLIN


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no zone"):
        Cron("0 3 * * *").next_after(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake


# --- far away


@pytest.mark.fault("F7")
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati", "Europe/Berlin"])
@pytest.mark.parametrize("text", ["* * * * *", "0 3 * * *", "0 0 29 2 *", "*/15 0-5 * * *", "59 23 31 12 *"])
def test_the_end_of_the_calendar_is_an_end(text, zone):
    rule = Cron(text, zone)
    far = datetime(9999, 12, 31, 11, 0, tzinfo=UTC)
    moment, count = rule.next_after(far), 0
    while moment is not None:
        assert moment.astimezone(UTC) > far
        far, count = moment.astimezone(UTC), count + 1
        assert count < 1_000
        moment = rule.next_after(moment)
    assert rule.has_ended(far)
    assert rule.next_after(datetime.max.replace(tzinfo=UTC)) is None


@pytest.mark.fault("F7")
def test_years_after_2038_are_years_like_others():
    rule = Cron("14 3 19 1 *", "UTC")
    assert rule.next_after(datetime(2038, 1, 19, 3, 13, 59, tzinfo=UTC)) == datetime(2038, 1, 19, 3, 14, tzinfo=UTC)
    assert rule.next_after(datetime(2038, 1, 19, 3, 14, tzinfo=UTC)) == datetime(2039, 1, 19, 3, 14, tzinfo=UTC)
    summer = Cron("0 12 1 7 *", BERLIN).next_after(datetime(2107, 1, 1, tzinfo=UTC))
    assert summer is not None
    assert summer.astimezone(UTC) == datetime(2107, 7, 1, 10, tzinfo=UTC)  # the zone's rule goes on for ever


@pytest.mark.fault("F5", "F7")
def test_the_rarest_day_is_found_over_a_century_without_a_leap_day():
    rule = Cron("0 0 * 2 sat#5", "UTC")
    found = rule.next_after(datetime(2092, 3, 1, tzinfo=UTC))
    assert found is not None
    assert (found.month, found.day, found.isoweekday()) == (2, 29, 6)
    assert all(date(year, 2, 29).isoweekday() != 6 for year in range(2093, found.year) if calendar.isleap(year))


# --- as a value


def test_equal_ones_are_equal_and_survive_a_pickle():
    rule = Cron("H 3 * * *", "Europe/Berlin", hash_id="a")
    assert isinstance(rule, Expression)
    assert pickle.loads(pickle.dumps(rule)) == rule == Cron("H  3 * * *", BERLIN, hash_id="a")
    assert hash(rule) == hash(Cron("H 3 * * *", BERLIN, hash_id="a"))
    assert rule not in {Cron("H 3 * * *", BERLIN), Cron("H 3 * * *", "UTC", hash_id="a"), Cron("H 4 * * *", BERLIN)}
    assert repr(rule) == "Cron(text='H 3 * * *', zone=zoneinfo.ZoneInfo(key='Europe/Berlin'), hash_id='a')"
    with pytest.raises(AttributeError):
        rule.text = "* * * * *"


def test_without_a_zone_it_is_utc_and_told_in_the_zone_that_asks():
    rule = Cron("0 3 * * *")
    found = rule.next_after(START.astimezone(BERLIN))
    assert found is not None
    assert (f"{found}", found.tzinfo) == ("2026-11-23 04:00:00+01:00", BERLIN)
    moved = rule.in_zone(BERLIN).next_after(START)
    assert f"{moved}" == "2026-11-23 03:00:00+01:00"
    assert not rule.is_phased


@pytest.mark.alone
def test_the_next_occurrence_costs_less_than_50_microseconds():
    for text in ("*/15 * * * *", "0 3 * * *", "0 9 * * 1-5", "0 0 L * *", "30 8 * * MON#2", "*/10 * * * * *"):
        rule, costs = Cron(text, BERLIN), []
        for number in range(300):
            moment = START + timedelta(hours=7 * number)
            before = time.perf_counter()
            rule.next_after(moment)
            costs.append(time.perf_counter() - before)
        print(f"{text}: median {statistics.median(costs) * 1e6:.1f} µs")
        assert statistics.median(costs) < 50e-6, text
