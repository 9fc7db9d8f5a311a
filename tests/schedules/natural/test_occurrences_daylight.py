"""Changes of clocks: a fixed hour once, everything finer by elapsed time, whatever the zone."""

import functools
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobmaster.schedules.natural.occurrences import Evaluator
from jobmaster.schedules.natural.reading import parse_rules

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Africa/Casablanca",  # back for Ramadan
    "Asia/Kathmandu",  # never; +5:45
    "Africa/Cairo",  # at midnight
    "America/St_Johns",
    "Pacific/Auckland",
    "Asia/Beirut",
    "America/Havana",
    "Antarctica/Troll",  # two hours
    "Pacific/Apia",  # left out a day in 2011
]


def transitions(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year in which the offset changes (UTC)."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24)]
    return [
        first
        for first, second in pairwise(hours)
        if first.astimezone(zone).utcoffset() != second.astimezone(zone).utcoffset()
    ]


@functools.cache
def around(zone: ZoneInfo, year: int) -> list[datetime]:
    return transitions(zone, year) or [datetime(year, 3, 1, tzinfo=UTC)]


def instants(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    evaluator = Evaluator(parse_rules(expression))
    found, at = [], start.astimezone(zone)
    while (following := evaluator.next_after(at)) is not None and following.astimezone(UTC) <= end:
        found.append(following.astimezone(UTC))
        at = following
    return found


def shown(moments: list[datetime], zone: ZoneInfo) -> list[datetime]:
    return [moment.astimezone(zone).replace(tzinfo=None) for moment in moments]


def first_seen(zone: ZoneInfo, start: datetime, end: datetime) -> dict[datetime, datetime]:
    """By wall minute, the first moment at which clocks show it: found by looking at every minute."""
    seen: dict[datetime, datetime] = {}
    moment = start
    while moment <= end:
        seen.setdefault(moment.astimezone(zone).replace(tzinfo=None), moment)
        moment += timedelta(minutes=1)
    return seen


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("year", [2011, 2024, 2026])
def test_fixed_times_happen_once_at_their_first_pass_or_right_after_the_gap(name, year):
    zone = ZoneInfo(name)
    expression = "at [0:00, 0:15, 1:00, 1:30, 1:45, 2:00, 2:15, 2:30, 3:00, 12:00]"
    walls_of_day = [(0, 0), (0, 15), (1, 0), (1, 30), (1, 45), (2, 0), (2, 15), (2, 30), (3, 0), (12, 0)]
    for change in around(zone, year):
        start, end = change - timedelta(days=2), change + timedelta(days=2)
        seen = first_seen(zone, start, end)
        expected = set()
        day = min(seen).date() + timedelta(days=1)
        while day < max(seen).date():
            for hour, minute in walls_of_day:
                wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - a wall
                # Where clocks skip it: the first minute that they show after it.
                expected.add(seen.get(wall) or seen[min(later for later in seen if later > wall)])
            day += timedelta(days=1)
        found = [
            moment for moment in instants(expression, zone, start, end) if min(expected) <= moment <= max(expected)
        ]
        assert found == sorted(expected)


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("every 30 minutes", 1800),
        ("every 20 seconds", 20),
        ("every hour", 3600),
        ("every 90 minutes", 5400),
        ("every 7 hours", 25200),
    ],
)
def test_intervals_go_by_elapsed_time(name, expression, seconds):
    zone = ZoneInfo(name)
    for change in around(zone, 2026):
        start = change - timedelta(hours=3, minutes=17)
        found = instants(expression, zone, start, start + timedelta(seconds=max(7 * seconds, 6 * 3600)))
        assert len(found) >= 7
        assert {later - earlier for earlier, later in pairwise([start, *found])} == {timedelta(seconds=seconds)}


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("every hour at minute 30", lambda wall: wall.minute == 30),
        ("at minute [0, 20, 40]", lambda wall: wall.minute in (0, 20, 40)),
        ("every 15 minutes AnchoredAt 0 at second 0", lambda wall: wall.minute % 15 == 0),
        ("every minute at second 0 between 1:10 and 2:40", lambda wall: (1, 10) <= (wall.hour, wall.minute) <= (2, 40)),
    ],
)
def test_what_has_no_fixed_hour_happens_whenever_clocks_show_it(name, expression, matches):
    zone = ZoneInfo(name)
    for change in around(zone, 2026):
        start, end = change - timedelta(hours=5), change + timedelta(hours=5)
        minutes = [start + timedelta(minutes=n) for n in range(1, 601)]
        expected = [moment for moment in minutes if matches(moment.astimezone(zone))]
        assert instants(expression, zone, start, end) == expected


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("every 2 days at 2:30", 2),
        ("every 2 days at 1:30", 2),
        ("every 3 days at [0:30, 2:15]", 3),
        ("every 7 days at 0:00", 7),
    ],
)
def test_a_distance_in_days_survives_a_change_of_clocks(name, expression, days):
    """A time put off to the end of a gap does not move the ones after it."""
    zone = ZoneInfo(name)
    for change in around(zone, 2026):
        for offset in range(days):
            start = change - timedelta(days=7 + offset, hours=1)
            dates = sorted(
                {wall.date() for wall in shown(instants(expression, zone, start, change + timedelta(days=15)), zone)}
            )
            assert {later - earlier for earlier, later in pairwise(dates)} == {timedelta(days=days)}


@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001 - a wall
    st.sampled_from(
        [
            "every day",
            "every 25 minutes between 1:10 and 3:00",
            "every day between 1:00 and 3:00",
            "every second at hour 2",
            "every 10 minutes at hour [1, 2]",
            "every 2 hours anchoredAt 0",
            "every week on sunday at [1:30, 2:30]",
            "every 40 minutes on sunday",
            "every hour on [sat, sun] at minute [10, 50]",
            "every 3 hours between hour 0 and 12",
            "every month on LastSun at 2:30",
            "every 2 days at [2:00, 2:10, 2:20, 2:30, 2:40, 2:50]",
        ]
    ),
    st.integers(0, 1),
)
@settings(max_examples=400, deadline=None)
def test_series_near_changes_never_go_back(name, base, expression, fold):
    zone = ZoneInfo(name)
    near = min(around(zone, base.year), key=lambda change: abs(change.replace(tzinfo=None) - base))
    start = near + timedelta(seconds=base.minute * 60 + base.second, hours=base.hour % 8 - 4)
    evaluator = Evaluator(parse_rules(expression))
    at = start.astimezone(zone)
    for _ in range(20):
        found = evaluator.next_after(at)
        assert found is not None
        assert found.astimezone(UTC) > at.astimezone(UTC)
        at = found


def test_an_interval_passes_twice_through_the_repeated_hour():
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 24, 23, 45, tzinfo=UTC)
    found = instants("every 30 minutes", zone, start, start + timedelta(hours=3))
    assert [f"{wall:%H:%M}" for wall in shown(found, zone)] == ["02:15", "02:45", "02:15", "02:45", "03:15", "03:45"]


def test_a_fixed_time_does_not_pass_twice_even_if_asked_from_between_its_passes():
    zone = ZoneInfo("Europe/Berlin")
    between = datetime(2026, 10, 25, 2, 10, tzinfo=zone, fold=1)
    for expression in ("at 2:30", "every day at 2:30", "every 2 days at 2:30", "every 10 minutes at hour 2"):
        found = Evaluator(parse_rules(expression)).next_after(between)
        assert found.astimezone(UTC) > datetime(2026, 10, 25, 2, tzinfo=UTC), expression


def test_a_rule_that_only_ever_falls_into_gaps_is_bounded():
    zone = ZoneInfo("Europe/Berlin")
    rules = parse_rules("every 10 minutes on LastSun in march between 2:10 and 2:50")
    assert Evaluator(rules).next_after(datetime(2026, 3, 1, tzinfo=zone)) is None


def test_aligned_hours_go_on_after_a_gap():
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight in Berlin
    found = instants("every 2 hours anchoredAt 0", zone, start, start + timedelta(hours=8))
    assert [f"{wall:%H:%M:%S}" for wall in shown(found, zone)] == ["03:00:00", "04:00:00", "06:00:00", "08:00:00"]


@pytest.mark.fault("F3")
@pytest.mark.parametrize(
    ("name", "expression", "start", "expected"),
    [
        ("Pacific/Apia", "every day", "2011-12-28 10:00", ["2011-12-29 10:00", "2011-12-31 10:00", "2012-01-01 10:00"]),
        ("Pacific/Apia", "every 2 days", "2011-12-28 10:00", ["2012-01-01 10:00", "2012-01-03 10:00"]),
        ("Pacific/Apia", "every week", "2011-12-23 10:00", ["2012-01-06 10:00", "2012-01-13 10:00"]),
        ("Pacific/Apia", "every month", "2011-11-30 10:00", ["2012-01-30 10:00", "2012-02-29 10:00"]),
        ("Pacific/Kwajalein", "every day", "1993-08-20 10:00", ["1993-08-22 10:00", "1993-08-23 10:00"]),
        ("Pacific/Kiritimati", "every day", "1994-12-30 00:20", ["1995-01-01 00:20", "1995-01-02 00:20"]),
        # What an hour is asked for happens once, right after the gap, and moves nothing that follows.
        (
            "Pacific/Apia",
            "every 2 days at 9:00",
            "2011-12-28 09:00",
            ["2011-12-31 00:00", "2012-01-01 09:00", "2012-01-03 09:00"],
        ),
        ("Pacific/Apia", "every friday at 9:00", "2011-12-23 09:00", ["2011-12-31 00:00", "2012-01-06 09:00"]),
    ],
)
def test_a_day_that_a_zone_left_out_moves_no_series(name, expression, start, expected):
    """Three zones changed sides of the date line."""
    zone = ZoneInfo(name)
    begin = datetime.strptime(start, "%Y-%m-%d %H:%M").replace(tzinfo=zone)
    found = shown(instants(expression, zone, begin, begin + timedelta(days=100)), zone)
    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in found[: len(expected)]] == expected
