"""Our rule for daylight saving at every change of clocks of every zone, 2020 to 2040: minutes are counted one by one.

F3 and F4: fixed times run exactly once on both changes (in the gap: at its end; in the overlap: in the first pass), and
rules without named hours run whenever clocks show such a time: by elapsed time.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest

from jobmaster.schedules import Cron, Expression, Interval, NaturalCron
from jobmaster.schedules.daylight import change_at, instant, wall_reached
from tests.schedules.clock_changes import (
    DAY,
    MINUTE,
    ClockChange,
    Holds,
    Shown,
    all_changes,
    changes_of,
    each_time_shown,
    each_wall_once,
    minutes_around,
)

REACH = timedelta(hours=3)

FIXED: dict[str, Holds] = {
    "30 2 * * *": lambda wall: (wall.hour, wall.minute) == (2, 30),
    "0 2 * * *": lambda wall: (wall.hour, wall.minute) == (2, 0),
    "30 1 * * *": lambda wall: (wall.hour, wall.minute) == (1, 30),
    "0 3 * * *": lambda wall: (wall.hour, wall.minute) == (3, 0),
    "0 0 * * *": lambda wall: (wall.hour, wall.minute) == (0, 0),
    "15,45 0,1,23 * * *": lambda wall: wall.hour in (0, 1, 23) and wall.minute in (15, 45),
    "0 */2 * * *": lambda wall: wall.hour % 2 == 0 and wall.minute == 0,
    "59 0-22 * * *": lambda wall: wall.hour != 23 and wall.minute == 59,
    "30 2 * * sun": lambda wall: (wall.hour, wall.minute) == (2, 30) and wall.isoweekday() == 7,
    "10 2 L * *": lambda wall: (wall.hour, wall.minute) == (2, 10) and (wall + DAY).day == 1,
}
ELAPSED: dict[str, Holds] = {
    "* * * * *": lambda wall: True,
    "*/15 * * * *": lambda wall: wall.minute % 15 == 0,
    "0 * * * *": lambda wall: wall.minute == 0,
    "30 * * * *": lambda wall: wall.minute == 30,
    "7-59/13 * * * *": lambda wall: wall.minute in range(7, 60, 13),
    "45 0-23 * * sat,sun": lambda wall: wall.minute == 45 and wall.isoweekday() in (6, 7),
}
RUNNING_ON: dict[str, Holds] = {
    "*/20 0-2 * * *": lambda wall: wall.hour <= 2 and wall.minute % 20 == 0,
    "*/30 2 * * *": lambda wall: wall.hour == 2 and wall.minute % 30 == 0,
}

IN_WORDS: dict[str, Holds] = {
    "every day at 2:30": FIXED["30 2 * * *"],
    "every sunday at 2:30": FIXED["30 2 * * sun"],
    "at [0:15, 0:45, 1:15, 1:45, 23:15, 23:45]": FIXED["15,45 0,1,23 * * *"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def surroundings() -> list[tuple[ClockChange, list[Shown]]]:
    return [(change, minutes_around(change, REACH)) for change in all_changes()]


def runs(rule: Expression, change: ClockChange, minutes: list[Shown]) -> list[datetime]:
    """What the rule says for the minutes, each occurrence asked for from the one before."""
    found, moment = [], (minutes[0].moment - timedelta(seconds=1)).astimezone(change.zone)
    while (following := rule.next_after(moment)) is not None:
        assert following.tzinfo is change.zone
        asked, given = moment.astimezone(UTC), following.astimezone(UTC)
        assert given > asked, (rule, change, asked, given)
        if given > minutes[-1].moment:
            break
        found.append(given)
        moment = following
    return found


def test_there_is_something_to_test():
    zones = [name for name in available_timezones() if changes_of(name)]
    assert len(zones) > 150
    assert len(all_changes()) > 1_000
    assert any(change.size == timedelta(minutes=30) for change in all_changes())  # Lord Howe
    assert Counter(change.size > timedelta(0) for change in all_changes()).keys() == {True, False}


@pytest.mark.fault("F3", "F4")
@pytest.mark.parametrize("text", FIXED)
def test_fixed_times_run_exactly_once_on_both_changes(text: str, surroundings: list[tuple[ClockChange, list[Shown]]]):
    for change, minutes in surroundings:
        rule = Cron(text, change.zone)
        assert runs(rule, change, minutes) == each_wall_once(minutes, FIXED[text]), (text, change)


@pytest.mark.fault("F3", "F4")
@pytest.mark.parametrize("text", IN_WORDS)
def test_fixed_times_in_words_do_the_same(text: str, surroundings: list[tuple[ClockChange, list[Shown]]]):
    for change, minutes in surroundings[::2]:
        rule = NaturalCron.parse(text, change.zone)
        assert runs(rule, change, minutes) == each_wall_once(minutes, IN_WORDS[text]), (text, change)


@pytest.mark.fault("F3", "F4")
@pytest.mark.parametrize("text", ELAPSED)
def test_rules_of_every_hour_go_on_by_elapsed_time(text: str, surroundings: list[tuple[ClockChange, list[Shown]]]):
    # `* * * * *` asks for each minute: around every tenth change it says enough.
    for change, minutes in surroundings[:: 10 if text == "* * * * *" else 1]:
        rule = Cron(text, change.zone)
        assert runs(rule, change, minutes) == each_time_shown(minutes, ELAPSED[text]), (text, change)


@pytest.mark.fault("F3", "F4")
@pytest.mark.parametrize("text", RUNNING_ON)
def test_steps_in_named_hours_run_in_both_passes_and_after_a_gap(
    text: str, surroundings: list[tuple[ClockChange, list[Shown]]]
):
    for change, minutes in surroundings:
        holds, rule = RUNNING_ON[text], Cron(text, change.zone)
        expected = {*each_time_shown(minutes, holds), *each_wall_once(minutes, holds)}
        assert runs(rule, change, minutes) == sorted(expected), (text, change)


def test_an_occurrence_is_the_same_from_wherever_it_is_asked(surroundings: list[tuple[ClockChange, list[Shown]]]):
    texts = ("30 2 * * *", "15,45 0,1,23 * * *", "30 * * * *", "*/20 0-2 * * *")
    for change, minutes in surroundings[::7]:
        for text in texts:
            rule = Cron(text, change.zone)
            expected = runs(rule, change, minutes)
            for shown in minutes[: -int(REACH / MINUTE / 2) : 13]:
                following = next((moment for moment in expected if moment > shown.moment), None)
                if following is not None:
                    asked = shown.moment.astimezone(change.zone)
                    found = rule.next_after(asked)
                    assert found is not None
                    assert found.astimezone(UTC) == following, (text, change, shown)


def test_intervals_do_not_see_the_change(surroundings: list[tuple[ClockChange, list[Shown]]]):
    rule = Interval(timedelta(minutes=50))
    for change, minutes in surroundings[::5]:
        zoned = rule.in_zone(change.zone)
        moment = minutes[0].moment
        for number in range(1, 8):
            found = zoned.next_after(moment)
            assert found is not None
            assert found.tzinfo is change.zone
            moment = found
            assert moment.astimezone(UTC) == minutes[0].moment + number * timedelta(minutes=50)


def test_periods_in_words_do_not_see_the_change(surroundings: list[tuple[ClockChange, list[Shown]]]):
    for change, minutes in surroundings[::5]:
        found = runs(NaturalCron.parse("every 25 minutes", change.zone), change, minutes)
        start = minutes[0].moment - timedelta(seconds=1)
        assert found == [start + number * timedelta(minutes=25) for number in range(1, len(found) + 1)]
        assert len(found) == 2 * REACH // timedelta(minutes=25)


def test_gaps_and_overlaps_are_found_to_the_second(surroundings: list[tuple[ClockChange, list[Shown]]]):
    for change, minutes in surroundings[::3]:
        plain = change.moment.replace(tzinfo=None)
        before, after = plain + change.before, plain + change.after
        low, high = min(before, after), max(before, after)
        for inside in (low, low + (high - low) / 3, high - timedelta(seconds=1)):
            found = change_at(inside, change.zone)
            assert found is not None, (change, inside)
            assert (found.moment, found.before, found.after) == (change.moment, before, after)
            expected = change.moment if found.is_gap else inside.replace(tzinfo=UTC) - change.before
            assert instant(inside, change.zone).astimezone(UTC) == expected
        for outside in (low - timedelta(seconds=1), high):
            assert change_at(outside, change.zone) is None, (change, outside)
        for shown in minutes[::11]:
            reached = wall_reached(shown.moment, change.zone)
            assert instant(reached, change.zone).astimezone(UTC) <= shown.moment
            assert instant(reached + MINUTE, change.zone).astimezone(UTC) > shown.moment
