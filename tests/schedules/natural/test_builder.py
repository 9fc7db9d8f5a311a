"""Builders make text of the language, and everything they make is valid unless the user asked for nonsense."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural import (
    Daily,
    DayPosition,
    Every,
    Hourly,
    Minutely,
    Month,
    MonthDay,
    Monthly,
    NaturalCron,
    Nth,
    Secondly,
    Start,
    Weekday,
    Weekly,
    Yearly,
)

BERLIN = ZoneInfo("Europe/Berlin")


BUILT = [
    (Every(30).minutes().between("09:00", "18:00"), "every 30 minutes between 09:00 and 18:00"),
    # Frequencies.
    (Every().second(), "every second"),
    (Every().minute(), "every minute"),
    (Every().hour(), "every hour"),
    (Every().day(), "every day"),
    (Every().week(), "every week"),
    (Every().month(), "every month"),
    (Every().year(), "every year"),
    (Every().weekday(Weekday.WEDNESDAY), "every Wed"),
    (Every(5).seconds(), "every 5 seconds"),
    (Every(1).minutes(), "every 1 minute"),
    (Every(2).hours(), "every 2 hours"),
    (Every(3).days(), "every 3 days"),
    (Every(2).weeks(), "every 2 weeks"),
    (Every(6).months(), "every 6 months"),
    (Every(4).years(), "every 4 years"),
    (Secondly(), "secondly"),
    (Minutely(), "minutely"),
    (Hourly(), "hourly"),
    (Daily(), "daily"),
    (Weekly(), "weekly"),
    (Monthly(), "monthly"),
    (Yearly(), "yearly"),
    # Anchors.
    (Every(2).weeks().anchored_on(Weekday.SUNDAY), "every 2 weeks AnchoredOn Sun"),
    (Every(5).days().anchored_on(10), "every 5 days AnchoredOn 10"),
    (Every(2).months().anchored_in(Month.AUGUST), "every 2 months AnchoredIn Aug"),
    (Every(4).years().anchored_in(2024), "every 4 years AnchoredIn 2024"),
    (Every(5).hours().anchored_at(0), "every 5 hours AnchoredAt 0"),
    (Every(5).days().anchored_at("10th"), "every 5 days AnchoredAt 10th"),
    # Points.
    (Daily().at("9:00"), "daily at 9:00"),
    (Daily().at("9:00", "17:30"), "daily at [9:00, 17:30]"),
    (Daily().at(time(14, 30)), "daily at 14:30"),
    (Daily().at(time(14, 30, 5)), "daily at 14:30:05"),
    (Daily().at(time(9), time(17)), "daily at [09:00, 17:00]"),
    (Daily().at_time(9), "daily at 09:00"),
    (Daily().at_time(2, 15, ampm="pm"), "daily at 02:15pm"),
    (Daily().at_time(23, 5, 0), "daily at 23:05:00"),
    (Weekly().on(Weekday.MONDAY, Weekday.FRIDAY), "weekly on [Mon, Fri]"),
    (Weekly().on("monday"), "weekly on monday"),
    (Daily().in_(Month.JANUARY), "daily in Jan"),
    (Daily().in_(Month.JANUARY, "june"), "daily in [Jan, june]"),
    (Monthly().at_day(1), "monthly on 1st"),
    (
        Monthly().at_day(1, 2, 3, 11, 12, 13, 21, 22, 23, 31),
        "monthly on [1st, 2nd, 3rd, 11th, 12th, 13th, 21st, 22nd, 23rd, 31st]",
    ),
    (Yearly().on_date(Month.DECEMBER, 25), "yearly on 25th Dec"),
    (Yearly().on(MonthDay(Month.MAY, 1), MonthDay(Month.OCTOBER, 3)), "yearly on [1st May, 3rd Oct]"),
    (Monthly().at_day_position(DayPosition.FIRST_DAY), "monthly on FirstDay"),
    (Monthly().at_day_position(DayPosition.LAST_DAY, -1), "monthly on LastDay - 1"),
    (Monthly().at_day_position(DayPosition.FIRST_WEEKDAY, 2), "monthly on FirstWeekday + 2"),
    (Monthly().at_day_position(DayPosition.LAST_WEEKDAY), "monthly on LastWeekday"),
    (Monthly().on_nth_weekday(Nth.FIRST, Weekday.MONDAY), "monthly on 1stMon"),
    (Monthly().on_nth_weekday(Nth.SECOND, Weekday.TUESDAY), "monthly on 2ndTue"),
    (Monthly().on_nth_weekday(Nth.THIRD, Weekday.THURSDAY), "monthly on 3rdThu"),
    (Monthly().on_nth_weekday(Nth.FOURTH, Weekday.FRIDAY, 1), "monthly on 4thFri + 1"),
    (Monthly().on_nth_weekday(Nth.FIFTH, Weekday.SATURDAY), "monthly on 5thSat"),
    (Monthly().on_nth_weekday(Nth.LAST, Weekday.SUNDAY, -2), "monthly on LastSun - 2"),
    (Monthly().on_closest_weekday_to(15), "monthly on ClosestWeekdayTo 15th"),
    # Without a frequency.
    (Start().on("LastDay"), "on LastDay"),
    (Start().at(date(2026, 1, 31)), "at 2026-01-31"),
    (Start().at(datetime.fromisoformat("2026-01-31 09:05")), "at 2026-01-31 09:05"),
    (Start().every().day().at_time(9), "every day at 09:00"),
    (Start().every(2).days(), "every 2 days"),
    (Start().daily().at("9am"), "daily at 9am"),
    # Ranges.
    (Every(5).minutes().between(time(9), time(17, 30)), "every 5 minutes between 09:00 and 17:30"),
    (Daily().between(Weekday.MONDAY, Weekday.FRIDAY), "daily between Mon and Fri"),
    (Daily().between(Month.MARCH, Month.OCTOBER), "daily between Mar and Oct"),
    (
        Daily().between(MonthDay(Month.JUNE, 15), MonthDay(Month.AUGUST, 31)),
        "daily between 15th Jun and 31st Aug",
    ),
    (
        Every(10).minutes().between(("9:00", "12:00"), (time(13), time(17))),
        "every 10 minutes between [9:00 and 12:00, 13:00 and 17:00]",
    ),
    (Every(10).minutes().between(("9:00", "12:00")), "every 10 minutes between 9:00 and 12:00"),
    (Hourly().between_time((9, 0), (17, 30)), "hourly between 09:00 and 17:30"),
    (Hourly().between_time((9, 0, 0), (17, 30, 59)), "hourly between 09:00:00 and 17:30:59"),
    (Hourly().between_time((9, 0), (5, 30), ampm=("am", "pm")), "hourly between 09:00am and 05:30pm"),
    (Daily().between(date(2026, 1, 1), date(2026, 12, 31)), "daily between 2026-01-01 and 2026-12-31"),
    (Daily().from_(Weekday.WEDNESDAY), "daily from Wed"),
    (Daily().from_(MonthDay(Month.JUNE, 2)), "daily from 2nd Jun"),
    (Hourly().from_time(22, 15), "hourly from 22:15"),
    (Hourly().from_time(10, ampm="pm"), "hourly from 10:00pm"),
    (Hourly().from_day(10), "hourly from 10th"),
    (Daily().upto(Month.JUNE), "daily upto Jun"),
    (Hourly().upto_time(6, 30), "hourly upto 06:30"),
    (Hourly().upto_day(21), "hourly upto 21st"),
    (Hourly().from_time(9).upto_time(18).between("mon", "fri"), "hourly from 09:00 upto 18:00 between mon and fri"),
    # Zones and spelling.
    (Daily().at("9:00").with_time_zone("Europe/Berlin"), "daily at 9:00 tz Europe/Berlin"),
    (Daily().at("9:00").with_time_zone(BERLIN), "daily at 9:00 tz Europe/Berlin"),
    (
        Start().use_ampersat().every(2).weeks().anchored_on(Weekday.SUNDAY).at("9:00").with_time_zone("UTC"),
        "@every 2 weeks AnchoredOn Sun @at 9:00 @tz UTC",
    ),
    (Daily().between("mon", "fri").use_ampersat(), "@daily @between mon and fri"),
    (Weekly().on(Weekday.MONDAY).use_week_full_name(), "weekly on Monday"),
    (
        Start().use_week_full_name().every().month().on_nth_weekday(Nth.LAST, Weekday.MONDAY),
        "every month on LastMonday",
    ),
    (Yearly().on_date(Month.SEPTEMBER, 4).use_month_full_name(), "yearly on 4th September"),
    (Every().weekday(Weekday.FRIDAY).use_week_full_name(), "every Friday"),
    # All together.
    (
        Every(30).minutes().in_(Month.JANUARY).between(time(9), time(18)).on(Weekday.MONDAY),
        "every 30 minutes in Jan between 09:00 and 18:00 on Mon",
    ),
]


@pytest.mark.parametrize(("builder", "text"), BUILT, ids=[text for _, text in BUILT])
def test_calls_become_text_that_is_valid(builder, text):
    assert builder.text() == str(builder) == text
    assert builder.build() == NaturalCron(text)
    assert builder.use_ampersat().use_week_full_name().use_month_full_name().build().rules == NaturalCron(text).rules


def test_a_builder_may_be_the_beginning_of_several():
    daily = Daily()
    morning, evening = daily.at_time(9), daily.at_time(21)

    assert [each.text() for each in (daily, morning, evening)] == ["daily", "daily at 09:00", "daily at 21:00"]
    assert morning.use_ampersat().text() == "@daily @at 09:00"
    assert morning.text() == "daily at 09:00"


def test_the_zone_may_be_given_at_the_end():
    rule = Daily().at("9:00").build(tz="Europe/Berlin")

    assert rule.zone == BERLIN
    assert rule.text == "daily at 9:00"


def test_what_makes_no_sense_is_told_with_the_text():
    with pytest.raises(ScheduleSyntaxError) as caught:
        Every(0).minutes().between("18:00", "9:00").build()

    assert [error.kind for error in caught.value.errors] == ["interval-not-positive", "bad-range"]
    assert caught.value.text == "every 0 minutes between 18:00 and 9:00"


@pytest.mark.parametrize(
    "call",
    [
        lambda: Daily().at(),
        lambda: Daily().between(),
        lambda: Daily().between("9:00"),
        lambda: Daily().between("9:00", "10:00", "11:00"),
        lambda: Daily().between("9:00", ("10:00", "11:00")),
        lambda: Daily().at(9).text(),
    ],
)
def test_calls_without_the_values_they_need_are_refused(call):
    with pytest.raises(TypeError):
        call()


def test_a_moment_with_a_zone_is_refused():
    with pytest.raises(ValueError, match="with_time_zone"):
        Start().at(datetime(2026, 1, 31, 9, tzinfo=UTC)).text()


def test_numbers_of_weekdays_and_months_are_those_of_the_language():
    for weekday in Weekday:
        assert Every().weekday(weekday).build().rules.every.anchor == weekday
    for month in Month:
        assert Daily().in_(month).build().rules.points[0].items[0][0].value == month


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (time(9, tzinfo=UTC), "no zone of its own"),
        (time(9, 0, 0, 1), "whole seconds"),
        (datetime(2026, 1, 31, 9, 0, 0, 1), "whole seconds"),  # noqa: DTZ001 - a wall
    ],
)
def test_no_part_of_a_time_is_dropped(value, why):
    with pytest.raises(ValueError, match=why):
        Daily().at(value).text()


def test_early_years_have_four_digits():
    assert Start().on(date(987, 1, 31)).text() == "on 0987-01-31"


def test_numbers_of_months_and_weekdays_are_taken():
    assert Start().on_date(2, 29).text() == "on 29th Feb"
    assert Start().on_nth_weekday(Nth.FIRST, 2).text() == "on 1stMon"
