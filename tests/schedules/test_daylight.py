"""The daylight-saving rule where clocks do unusual things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.schedules import Cron, occurrences
from jobmaster.schedules.daylight import change_at, instant, next_once, next_shown, wall_reached

ZONES = st.sampled_from(
    [
        "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "America/Santiago", "Asia/Beirut",
        "Africa/Casablanca", "Europe/Dublin", "Antarctica/Troll", "Africa/Cairo", "Asia/Gaza", "Pacific/Apia", "UTC",
        "Asia/Kathmandu", "Pacific/Chatham", "America/Nuuk", "Africa/El_Aaiun", "Asia/Tehran",
    ]
).map(ZoneInfo)  # fmt: skip
WALLS = st.datetimes(datetime(1975, 1, 1), datetime(2060, 1, 1))  # noqa: DTZ001 - walls


def wall(*parts: int) -> datetime:
    return datetime(*parts)  # noqa: DTZ001 - a wall


def first_runs(text: str, zone: str, after: datetime, count: int) -> list[str]:
    moments = occurrences(Cron(text, zone), after)
    return [f"{next(moments):%Y-%m-%d %H:%M %z}" for _ in range(count)]


@pytest.mark.fault("F3")
def test_a_day_that_does_not_exist_runs_at_the_start_of_the_next_one():
    """Samoa went over the date line: 30 December 2011 was no day there."""
    start = datetime(2011, 12, 29, 0, 0, tzinfo=ZoneInfo("Pacific/Apia"))
    assert first_runs("0 12 * * *", "Pacific/Apia", start, 3) == [
        "2011-12-29 12:00 -1000",
        "2011-12-31 00:00 +1400",  # noon of the 30th, at the end of the gap
        "2011-12-31 12:00 +1400",
    ]
    assert first_runs("0 * * * *", "Pacific/Apia", start + timedelta(hours=22), 3) == [
        "2011-12-29 23:00 -1000",
        "2011-12-31 00:00 +1400",
        "2011-12-31 01:00 +1400",
    ]


@pytest.mark.fault("F3", "F4")
def test_midnight_may_be_skipped_or_come_after_its_own_hour_again():
    santiago = "America/Santiago"  # forward at 24:00 to 1:00, back at 24:00 to 23:00
    assert first_runs("0 0 * * *", santiago, datetime(2027, 9, 4, 12, tzinfo=UTC), 2) == [
        "2027-09-05 01:00 -0300",
        "2027-09-06 00:00 -0300",
    ]
    assert first_runs("30 23 * * *", santiago, datetime(2027, 4, 3, 12, tzinfo=UTC), 2) == [
        "2027-04-03 23:30 -0300",
        "2027-04-04 23:30 -0400",
    ]
    assert first_runs("0 0 * * *", santiago, datetime(2027, 4, 3, 12, tzinfo=UTC), 2) == [
        "2027-04-04 00:00 -0400",
        "2027-04-05 00:00 -0400",
    ]


@pytest.mark.fault("F4")
def test_a_series_asked_for_in_the_second_pass_goes_on_behind_the_overlap():
    second_pass = datetime(2027, 10, 31, 1, 15, tzinfo=UTC)  # 2:15 for the second time
    assert first_runs("30 2 * * *", "Europe/Berlin", second_pass, 1) == ["2027-11-01 02:30 +0100"]
    assert first_runs("0 3 * * *", "Europe/Berlin", second_pass, 1) == ["2027-10-31 03:00 +0100"]
    assert first_runs("30 * * * *", "Europe/Berlin", second_pass, 1) == ["2027-10-31 02:30 +0100"]


def test_a_change_is_told_with_both_walls():
    change = change_at(wall(2027, 3, 28, 2, 30), ZoneInfo("Europe/Berlin"))
    assert change is not None
    assert change.is_gap
    assert (change.moment, change.before, change.after) == (
        datetime(2027, 3, 28, 1, tzinfo=UTC),
        wall(2027, 3, 28, 2),
        wall(2027, 3, 28, 3),
    )
    assert change_at(wall(2027, 3, 28, 3), ZoneInfo("Europe/Berlin")) is None
    assert change_at(wall(2027, 3, 28, 2, 30), ZoneInfo("UTC")) is None


@given(WALLS, WALLS, ZONES)
def test_later_walls_never_mean_earlier_moments(one: datetime, other: datetime, zone: ZoneInfo):
    first, second = sorted((one, other))
    assert instant(first, zone).astimezone(UTC) <= instant(second, zone).astimezone(UTC)


@given(WALLS, st.timedeltas(timedelta(0), timedelta(hours=3)), ZONES)
def test_close_walls_never_mean_earlier_moments(one: datetime, later: timedelta, zone: ZoneInfo):
    assert instant(one, zone).astimezone(UTC) <= instant(one + later, zone).astimezone(UTC)


@given(WALLS.map(lambda plain: plain.replace(tzinfo=UTC)), ZONES)
def test_the_wall_that_was_reached_is_the_latest_one(moment: datetime, zone: ZoneInfo):
    reached = wall_reached(moment, zone)
    assert instant(reached, zone).astimezone(UTC) <= moment
    assert instant(reached + timedelta(microseconds=1), zone).astimezone(UTC) > moment


@pytest.mark.fault("F7")
def test_what_is_past_the_last_year_is_no_moment():
    new_york = ZoneInfo("America/New_York")
    asked = datetime(9999, 12, 31, 12, tzinfo=UTC)
    for step in (next_once, next_shown):
        assert step(asked, new_york, lambda plain: wall(9999, 12, 31, 23)) is None  # 4:00 of the year 10000 in UTC
        assert step(asked, new_york, lambda plain: plain + timedelta(days=1)) is None
        assert step(asked, new_york, lambda plain: None) is None
        assert step(asked, new_york, lambda plain: wall(9999, 12, 31, 18)) == datetime(
            9999, 12, 31, 18, tzinfo=new_york
        )
