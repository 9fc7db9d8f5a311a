"""NaturalCron as a recurrence rule among others."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.schedules import Expression, NaturalCron, compile_expression

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


def wall(*parts):
    return datetime(*parts)  # noqa: DTZ001 - a wall clock


def test_it_is_an_expression_with_a_type_and_a_text():
    rule = NaturalCron.parse("  every day\tat 9:00 ", tz="Europe/Berlin")

    assert isinstance(rule, Expression)
    assert (rule.type_id, rule.text, rule.zone) == ("NaturalCron", "every day at 9:00", BERLIN)
    assert compile_expression(rule.type_id, rule.text, tz="Europe/Berlin") == rule
    assert str(rule) == "every day at 9:00"
    assert repr(rule) == "NaturalCron('every day at 9:00', tz='Europe/Berlin')"


def test_the_zone_of_the_text_wins():
    rule = NaturalCron("every day at 9:00 tz asia/tokyo", tz="Europe/Berlin")

    assert rule.zone == ZoneInfo("Asia/Tokyo")
    assert rule.in_zone(BERLIN) is rule
    assert repr(rule) == "NaturalCron('every day at 9:00 tz asia/tokyo')"


def test_a_zone_can_be_given_later():
    rule = NaturalCron("every day at 9:00")
    in_berlin = rule.in_zone(BERLIN)

    assert (rule.zone, in_berlin.zone) == (None, BERLIN)
    assert in_berlin == NaturalCron("every day at 9:00", "europe/berlin") != rule
    assert in_berlin.in_zone(NEW_YORK).zone == NEW_YORK


def test_occurrences_are_in_the_zone_of_the_rule_or_of_the_moment():
    moment = datetime(2026, 7, 1, 12, tzinfo=NEW_YORK)

    without = NaturalCron("every day at 9:00").next_after(moment)
    assert (without, without.tzinfo) == (datetime(2026, 7, 2, 9, tzinfo=UTC), NEW_YORK)

    within = NaturalCron("every day at 9:00", tz="Europe/Berlin").next_after(moment)
    assert (within, within.tzinfo) == (datetime(2026, 7, 2, 9, tzinfo=BERLIN), BERLIN)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="has no zone"):
        NaturalCron("every day").next_after(wall(2026, 7, 1))


def test_the_last_of_dates_ends_it():
    rule = NaturalCron("at [2026-01-01 10:00, 2026-02-01 10:00]")

    assert not rule.has_ended(datetime(2026, 1, 31, tzinfo=UTC))
    assert rule.has_ended(datetime(2026, 2, 1, 10, tzinfo=UTC))


def test_clocks_are_followed_without_a_zone():
    rule = NaturalCron("every day at 2:30 tz Europe/Berlin")

    assert rule.next_wall(wall(2026, 3, 28, 12)) == wall(2026, 3, 29, 2, 30)
    assert NaturalCron("on feb-30").next_wall(wall(2026, 3, 28, 12)) is None


def test_it_says_whether_moments_depend_on_the_one_before():
    assert NaturalCron("every 90 minutes").is_phased
    assert not NaturalCron("every day at 9:00").is_phased


def test_it_explains_itself_and_becomes_cron():
    rule = NaturalCron("every day between mon and fri at 18:00")

    assert "18:00" in rule.explain()
    assert rule.to_cron() == "0 18 * * 1-5"
    assert rule.to_cron(seconds=True) == "0 0 18 * * 1-5"


@pytest.mark.parametrize(
    "rule",
    [NaturalCron("daily"), NaturalCron("daily", tz="Europe/Berlin"), NaturalCron("daily at 9:00 tz Europe/Berlin")],
    ids=repr,
)
def test_copies_are_equal(rule):
    for copied in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        assert copied == rule
        assert hash(copied) == hash(rule)
        assert (copied.text, copied.zone) == (rule.text, rule.zone)


def test_it_is_equal_to_nothing_else():
    assert NaturalCron("every day") != NaturalCron("daily")
    assert NaturalCron("daily") != "daily"


def test_it_cannot_be_changed():
    rule = NaturalCron("daily")

    with pytest.raises(AttributeError):
        rule.text = "hourly"
    with pytest.raises(AttributeError):
        rule.anything = 1


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ScheduleSyntaxError, match="did you mean `every`"):
        NaturalCron("evry day")
    with pytest.raises(TypeError, match="not int"):
        NaturalCron(5)
    with pytest.raises(ConfigurationError, match="Europe/Berlin"):
        NaturalCron("every day", tz="Berlin")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/New_York"])
@pytest.mark.parametrize("text", ["every second", "every day at 9:00", "every 3 weeks", "every 30 minutes"])
def test_after_the_last_moment_of_the_calendar_comes_nothing(text, zone):
    rule = NaturalCron(text, tz=zone)
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    assert rule.next_after(last) is None
    assert rule.has_ended(last)
    assert NaturalCron("every 12 hours").next_after(datetime(9999, 12, 31, 23, tzinfo=ZoneInfo(zone))) is None
