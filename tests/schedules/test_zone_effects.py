"""The next runs of a rule, with what changes of clocks do to them in plain English."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobmaster.schedules import Cron, Dates, Expression, Interval, NaturalCron, Never, next_runs
from tests.schedules.clock_changes import all_changes

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2027, 3, 27, 23, 45, tzinfo=UTC)  # 0:45; 2:00 to 3:00 is skipped
AUTUMN = datetime(2027, 10, 30, 22, 45, tzinfo=UTC)  # 0:45; 2:00 to 3:00 comes twice


def told(rule: Expression, after: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    return [f"{run.moment:%d %H:%M} {run.note}".strip() for run in next_runs(rule.in_zone(zone), after, count)]


def test_most_runs_need_no_note():
    runs = next_runs(Cron("0 9 * * *", BERLIN), datetime(2027, 3, 1, tzinfo=UTC), 60)
    assert len(runs) == 60
    assert {run.note for run in runs} == {""}
    assert [run.moment.hour for run in runs] == [9] * 60


@pytest.mark.parametrize("rule", [Cron("30 2 * * *"), NaturalCron.parse("every day at 2:30")], ids=repr)
def test_a_skipped_time_runs_at_the_end_of_the_gap(rule: Expression):
    assert told(rule, SPRING - timedelta(days=1), 3) == [
        "27 02:30",
        "28 03:00 02:30 does not exist on 2027-03-28 in Europe/Berlin: runs at 03:00",
        "29 02:30",
    ]


@pytest.mark.parametrize("rule", [Cron("30 2 * * *"), NaturalCron.parse("every day at 2:30")], ids=repr)
def test_a_repeated_time_runs_at_the_first(rule: Expression):
    assert told(rule, AUTUMN, 2) == [
        "31 02:30 02:30 comes twice on 2027-10-31 in Europe/Berlin: runs at the first",
        "01 02:30",
    ]


def test_a_zone_in_the_text_is_noted_as_well():
    rule = NaturalCron.parse("every day at 2:30 tz Europe/Berlin")
    assert [run.note for run in next_runs(rule, SPRING, 2)] == [
        "02:30 does not exist on 2027-03-28 in Europe/Berlin: runs at 03:00",
        "",
    ]


def test_rules_of_every_hour_leave_the_gap_out_and_repeat_the_hour():
    assert told(Cron("30 * * * *"), SPRING, 3) == [
        "28 01:30",
        "28 03:30 02:30 does not exist on 2027-03-28 in Europe/Berlin: goes on at 03:30",
        "28 04:30",
    ]
    assert told(Cron("30 * * * *"), AUTUMN, 4) == [
        "31 01:30",
        "31 02:30 02:30 comes twice on 2027-10-31 in Europe/Berlin: runs both times",
        "31 02:30 02:30 comes twice on 2027-10-31 in Europe/Berlin: runs in the second pass, too",
        "31 03:30",
    ]


def test_several_skipped_times_are_one_run():
    assert told(Cron("*/20 0-5 * * *"), SPRING, 4) == [
        "28 01:00",
        "28 01:20",
        "28 01:40",
        "28 03:00 02:00 to 02:40 do not exist on 2027-03-28 in Europe/Berlin: runs at 03:00",
    ]


def test_many_skipped_times_are_told_as_the_gap():
    assert told(Cron("* * * * * *"), datetime(2027, 3, 28, 0, 59, 58, tzinfo=UTC), 2) == [
        "28 01:59",
        "28 03:00 02:00 to 03:00 do not exist on 2027-03-28 in Europe/Berlin: runs at 03:00",
    ]


@pytest.mark.parametrize("rule", [Interval(1800), NaturalCron.parse("every 30 minutes")], ids=repr)
def test_short_periods_go_on_by_elapsed_time(rule: Expression):
    assert told(rule, SPRING, 4) == [
        "28 01:15",
        "28 01:45",
        "28 03:15 clocks go forward by 1 hour on 2027-03-28 in Europe/Berlin: goes on by elapsed time",
        "28 03:45",
    ]


def test_an_interval_goes_on_by_elapsed_time():
    nine = datetime(2027, 3, 27, 9, 0, tzinfo=BERLIN)
    assert told(Interval(timedelta(days=1)), nine, 2) == [
        "28 10:00 clocks go forward by 1 hour on 2027-03-28 in Europe/Berlin: goes on by elapsed time",
        "29 10:00",
    ]
    assert told(Interval(timedelta(days=1)), datetime(2027, 10, 30, 9, 0, tzinfo=BERLIN), 1) == [
        "31 08:00 clocks go back by 1 hour on 2027-10-31 in Europe/Berlin: goes on by elapsed time"
    ]


def test_half_an_hour_is_told_as_minutes():
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    assert told(Interval(timedelta(days=1)), datetime(2027, 4, 3, 9, 0, tzinfo=lord_howe), 1, lord_howe) == [
        "04 08:30 clocks go back by 30 minutes on 2027-04-04 in Australia/Lord_Howe: goes on by elapsed time"
    ]
    assert told(Cron("10 2 * * *"), datetime(2027, 10, 2, 9, 0, tzinfo=lord_howe), 1, lord_howe) == [
        "03 02:30 02:10 does not exist on 2027-10-03 in Australia/Lord_Howe: runs at 02:30"
    ]


def test_it_ends_with_the_rule_and_needs_a_zone_to_say_anything():
    moment = datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN)
    assert [run.moment.astimezone(UTC) for run in next_runs(Dates([moment]), AUTUMN, 5)] == [moment.astimezone(UTC)]
    assert next_runs(Never(), AUTUMN, 5) == []
    assert next_runs(Cron("* * * * *"), AUTUMN, 0) == []
    assert {run.note for run in next_runs(Cron("30 2 * * *"), SPRING, 3)} == {""}
    assert {run.note for run in next_runs(Cron("30 2 * * *", "UTC"), SPRING, 3)} == {""}


@pytest.mark.slow
def test_every_change_of_every_zone_is_noted_once_for_a_time_in_it():
    """A fixed time amid each gap and overlap: its run on that day has a note, those of the days around it have none."""
    for change in all_changes():
        plain = change.moment.replace(tzinfo=None)
        amid = min(plain + change.before, plain + change.after) + abs(change.size) / 2
        runs = next_runs(Cron(f"{amid.minute} {amid.hour} * * *", change.zone), change.moment - timedelta(days=2.5), 5)
        noted = [run for run in runs if run.note]
        assert len(noted) == 1, (change, runs)
        expected = "does not exist" if change.size > timedelta(0) else "runs at the first"
        assert f"{amid:%H:%M} " in noted[0].note
        assert expected in noted[0].note
        assert f"on {amid:%Y-%m-%d} in {change.zone.key}" in noted[0].note
