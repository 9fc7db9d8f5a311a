"""Intervals: elapsed time, .NET's text, and the last occurrences without following the series."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.schedules import Expression, Interval, occurrences

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 22, 8, 7, 3, tzinfo=UTC)
PERIODS = st.timedeltas(timedelta(seconds=1), timedelta(days=400))


@pytest.mark.parametrize(
    ("period", "text", "words"),
    [
        (timedelta(minutes=5), "00:05:00", "every 5 minutes"),
        (90, "00:01:30", "every 1 minute 30 seconds"),
        (1, "00:00:01", "every second"),
        (60, "00:01:00", "every minute"),
        (3600, "01:00:00", "every hour"),
        (86_400, "1.00:00:00", "every 24 hours"),  # not every day: clocks may be changed
        (1.5, "00:00:01.500", "every 1.5 seconds"),
        (timedelta(days=10, hours=12), "10.12:00:00", "every 10 days 12 hours"),
        (timedelta(seconds=2, microseconds=1), "00:00:02.000001", "every 2.000001 seconds"),
    ],
)
def test_the_text_is_net_s_and_the_words_are_ours(period, text, words):
    rule = Interval(period)
    assert (rule.text, rule.explain()) == (text, words)
    assert Interval.parse(text) == rule
    assert rule.type_id == "TimeSpanInterval"


@given(PERIODS)
def test_every_period_survives_its_text(period: timedelta):
    assert Interval.parse(Interval(period).text).every == period


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("0:5:0", timedelta(minutes=5)),
        (" 00:05:00 ", timedelta(minutes=5)),
        ("00:00:01.5000000", timedelta(seconds=1.5)),
        ("00:00:01.0000019", timedelta(seconds=1, microseconds=1)),
        ("01.00:00:00", timedelta(days=1)),
    ],
)
def test_what_net_writes_is_read(text, period):
    assert Interval.parse(text).every == period


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "[d.]hh:mm:ss"),
        ("5 minutes", 0, "[d.]hh:mm:ss"),
        ("00:05", 0, "[d.]hh:mm:ss"),
        ("-00:05:00", 0, "[d.]hh:mm:ss"),
        ("24:00:00", 0, "days stand before a dot"),
        ("00:60:00", 3, "minutes are 0 to 59"),
        ("00:00:75", 6, "seconds are 0 to 59"),
        ("00:00:00", 0, "at least one second"),
        ("00:00:00.999", 0, "at least one second"),
        ("00:05:00 anchored yesterday", 18, "ISO form"),
        ("00:05:00 anchored 2026-01-01T00:00:00", 18, "with its offset"),
        ("00:05:00.12345678", 0, "[d.]hh:mm:ss"),
    ],
)
def test_other_texts_are_refused_in_their_place(text, position, words):
    with pytest.raises(ScheduleSyntaxError) as caught:
        Interval.parse(text)
    assert (caught.value.position, caught.value.text) == (position, text)
    assert words in caught.value.message


@pytest.mark.parametrize("period", [0, 0.5, -5, timedelta(0), float("nan"), float("inf"), True, "5", None, 1e300])
def test_no_period_below_a_second(period):
    with pytest.raises(ConfigurationError, match=r"period|longer"):
        Interval(period)


def test_each_occurrence_is_one_period_of_elapsed_time_after_the_one_before():
    before_the_change = datetime(2027, 10, 31, 0, 0, tzinfo=UTC).astimezone(BERLIN)
    found = islice(occurrences(Interval(1800).in_zone(BERLIN), before_the_change), 4)
    assert [f"{moment:%H:%M %Z}" for moment in found] == ["02:30 CEST", "02:00 CET", "02:30 CET", "03:00 CET"]
    assert Interval(5).is_phased


@given(PERIODS, st.integers(-3, 10**6), st.integers(1, 20))
def test_the_latest_are_those_of_the_series(period: timedelta, length: int, count: int):
    rule = Interval(period)
    until = START + period * min(length, 40) / 3
    series = list(occurrences(rule, START, until=until))
    assert rule.latest(START, until, count) == series[-count:]


def test_the_latest_of_years_come_at_once():
    found = Interval(1).latest(START, START + timedelta(days=9_000, microseconds=5), 3)
    assert found == [START + timedelta(days=9_000, seconds=-back) for back in (2, 1, 0)]
    assert Interval(1).latest(START, START, 3) == []


def test_an_anchor_makes_a_grid_in_both_directions():
    rule = Interval(timedelta(minutes=7), anchor=datetime(2026, 11, 22, 9, 0, tzinfo=BERLIN))
    assert not rule.is_phased
    assert rule.next_after(START) == datetime(2026, 11, 22, 8, 14, tzinfo=UTC)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    moment = rule.next_after(past)
    assert past < moment <= past + rule.every
    assert (moment - rule.anchor) % rule.every == timedelta(0)
    assert rule.next_after(moment) == moment + rule.every
    assert rule.text == "00:07:00 anchored 2026-11-22T08:00:00Z"
    assert Interval.parse(rule.text) == rule
    assert rule.explain() == "every 7 minutes, counted from 2026-11-22 08:00:00 UTC"
    assert rule.latest(START, START + timedelta(hours=1), 2) == list(
        occurrences(rule, START, until=START + timedelta(hours=1))
    )[-2:]  # fmt: skip


@pytest.mark.fault("F7")
def test_the_end_of_the_calendar_is_an_end():
    last = datetime.max.replace(tzinfo=UTC)
    assert Interval(5).next_after(last) is None
    assert Interval(5).has_ended(last)
    assert Interval(timedelta(days=999_999_999)).next_after(START) is None
    assert Interval(1).next_after(datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)).second == 8


def test_equal_ones_are_equal_and_survive_a_pickle():
    rule = Interval(300).in_zone(BERLIN)
    assert isinstance(rule, Expression)
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert hash(Interval(300)) == hash(Interval(timedelta(minutes=5)))
    assert Interval(300) not in {rule, Interval(301), Interval(300, START)}


def test_a_moment_without_a_zone_is_refused():
    for ask in (Interval(5).next_after, Interval(5).has_ended, lambda moment: Interval(5, anchor=moment)):
        with pytest.raises(ValueError, match="no zone"):
            ask(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake
