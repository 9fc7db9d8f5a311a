"""Calendars of single moments, and Never."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.schedules import Dates, Expression, Never, occurrences

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 1, tzinfo=UTC)
EVE = datetime(2026, 12, 24, 19, 0, tzinfo=BERLIN)
MOMENTS = st.lists(st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)), min_size=1)  # noqa: DTZ001


def test_it_holds_at_its_moments_and_ends_after_the_last():
    rule = Dates([EVE + timedelta(days=7), EVE, EVE])
    assert list(occurrences(rule, START)) == [EVE, EVE + timedelta(days=7)]
    assert rule.next_after(EVE) == EVE + timedelta(days=7)
    assert not rule.has_ended(EVE)
    assert rule.has_ended(EVE + timedelta(days=7))
    assert rule.next_after(EVE + timedelta(days=7)) is None
    assert not rule.is_phased


def test_its_text_is_iso_in_utc():
    rule = Dates([EVE, EVE + timedelta(days=7, microseconds=250_000)])
    assert rule.text == "2026-12-24T18:00:00Z, 2026-12-31T18:00:00.250000Z"
    assert Dates.parse(rule.text) == rule
    assert Dates.parse("2026-12-24 19:00+01:00,2026-12-31T18:00:00.25Z") == rule


@given(MOMENTS)
def test_every_calendar_survives_its_text(moments: list[datetime]):
    rule = Dates(moments)
    assert Dates.parse(rule.text) == rule
    assert list(occurrences(rule, datetime(1969, 1, 1, tzinfo=UTC))) == sorted(set(moments))


def test_the_two_passes_of_an_hour_are_two_moments():
    first = datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN)
    rule = Dates([first, first.replace(fold=1)]).in_zone(BERLIN)
    found = [moment.astimezone(UTC) for moment in occurrences(rule, START)]
    assert found == [datetime(2027, 10, 31, hour, 30, tzinfo=UTC) for hour in (0, 1)]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("tomorrow", 0),
        ("2026-12-24T18:00:00", 0),
        ("2026-12-24T18:00:00Z, 2026-13-24T18:00:00Z", 22),
        ("2026-12-24T18:00:00Z and 2026-12-25T18:00:00Z", 0),
        ("0001-01-01T00:00:00+14:00", 0),
    ],
)
def test_other_texts_are_refused_in_their_place(text, position):
    with pytest.raises(ScheduleSyntaxError, match="ISO form") as caught:
        Dates.parse(text)
    assert (caught.value.position, caught.value.text) == (position, text)


@pytest.mark.parametrize("moments", [[], [datetime(2026, 1, 1)], ["2026-01-01"], [None]])  # noqa: DTZ001 - the mistake
def test_only_moments_with_a_zone_make_a_calendar(moments):
    with pytest.raises(ConfigurationError, match="calendar"):
        Dates(moments)


def test_it_is_told_in_its_zone():
    assert Dates([EVE]).explain() == "on 2026-12-24 at 18:00 UTC"
    assert Dates([EVE]).in_zone(BERLIN).explain() == "on 2026-12-24 at 19:00 CET"
    more = Dates([EVE + timedelta(days=n, seconds=n) for n in range(5)])
    assert more.explain() == (
        "on 2026-12-24 at 18:00 UTC, on 2026-12-25 at 18:00:01 UTC, on 2026-12-26 at 18:00:02 UTC and 2 more moments"
    )
    assert f"{Dates([EVE]).next_after(START.astimezone(timezone(timedelta(hours=9))))}" == "2026-12-25 03:00:00+09:00"


def test_equal_ones_are_equal_and_survive_a_pickle():
    rule = Dates([EVE]).in_zone(BERLIN)
    assert isinstance(rule, Expression)
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert hash(Dates([EVE])) == hash(Dates([EVE.astimezone(UTC)]))
    assert Dates([EVE]) not in {rule, Dates([EVE + timedelta(seconds=1)])}


def test_never_never_runs():
    rule = Never()
    assert isinstance(rule, Expression)
    assert (rule.type_id, rule.text, rule.zone, rule.is_phased, rule.explain()) == (
        "Never-Recurs",
        "",
        None,
        False,
        "never",
    )
    assert rule.next_after(START) is None
    assert rule.has_ended(START)
    assert rule.in_zone(BERLIN) == rule == Never.parse("") == pickle.loads(pickle.dumps(rule))
    assert hash(rule) == hash(Never())
    with pytest.raises(ScheduleSyntaxError, match="has no text"):
        Never.parse("at all")
