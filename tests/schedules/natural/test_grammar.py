"""What texts mean: every word, every form of a value, every place where a blank or a comma may stand or be missing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.reading import parse_rules
from jobmaster.schedules.natural.rules import (
    LAST,
    ClosestWeekday,
    Every,
    MonthEdge,
    NthWeekday,
    Part,
    Point,
    Range,
    RangeWord,
    Rules,
    Unit,
    WeekdayEdge,
    Window,
    day_in_month,
)
from jobmaster.schedules.natural.vocabulary import MONTHS, SHORTCUTS, UNITS, WEEKDAYS, WORDS, Class
from tests.schedules.natural import case_files

UNIT = {
    "s": Unit.SECOND,
    "m": Unit.MINUTE,
    "h": Unit.HOUR,
    "d": Unit.DAY,
    "w": Unit.WEEK,
    "M": Unit.MONTH,
    "y": Unit.YEAR,
}


def item(**parts):
    """`item(M=1, d=23)`, in the order of rules."""
    found = [Part(UNIT[letter], value) for letter, value in parts.items()]
    return tuple(sorted(found, key=lambda part: part.unit, reverse=True))


def items_of(value: str):
    """What `on VALUE` matches."""
    (point,) = parse_rules(f"on {value}").points
    return list(point.items)


# ------------------------------------------------------------------------------------------------------- public cases


VALID = sorted({case["expression"] for case in case_files.published() if "invalid" not in case})


@pytest.mark.parametrize("expression", VALID)
def test_the_public_expressions_are_read_with_and_without_at_signs_in_any_case(expression):
    rules = parse_rules(expression)

    assert parse_rules(expression.replace("@", " ")) == rules
    assert parse_rules(expression.upper()) == rules
    assert parse_rules(expression.lower()) == rules
    assert parse_rules(f"  {expression.replace(' ', '   ')}\t\r\n;") == rules


@pytest.mark.parametrize(
    "case", [case for case in case_files.published() if "invalid" in case], ids=lambda case: case["id"]
)
def test_the_public_invalid_expressions_are_refused_for_their_reason(case):
    for text in (case["expression"], case["expression"].replace("@", " ")):
        with pytest.raises(ScheduleSyntaxError) as caught:
            parse_rules(text)
        assert [error.kind for error in caught.value.errors] == case["errors"]


# --------------------------------------------------------------------------------------------------------------- every


@pytest.mark.parametrize(("unit", "word"), [(unit, word) for unit, words in UNITS.items() for word in words.split()])
def test_every_knows_all_names_of_units(unit, word):
    assert parse_rules(f"every {word}").every == Every(1, unit)
    assert parse_rules(f"@Every 12 {word.upper()}").every == Every(12, unit)
    assert parse_rules(f"every12{word}").every == Every(12, unit)


@pytest.mark.parametrize("suffix", ["st", "nd", "rd", "th"])
def test_the_suffixes_of_days_are_names_of_days(suffix):
    assert parse_rules(f"every 2{suffix}").every == Every(2, Unit.DAY)
    assert items_of(f"21{suffix}") == [item(d=21)]


@pytest.mark.parametrize(("word", "unit"), list(SHORTCUTS.items()))
def test_shortcuts_are_every_unit_once(word, unit):
    assert parse_rules(word) == parse_rules(f"@{word.title()}") == Rules(Every(1, unit), (), ())


@pytest.mark.parametrize(("number", "name"), list(enumerate(WEEKDAYS, start=1)))
def test_a_weekday_after_every_is_its_anchor(number, name):
    assert parse_rules(f"every {name}").every == parse_rules(f"every {name[:3]}").every == Every(1, Unit.WEEK, number)


@pytest.mark.parametrize("word", ["AnchoredOn", "AnchoredAt", "AnchoredIn", "BasedOn", "BasedAt", "BasedIn"])
def test_the_words_of_anchors_are_equal(word):
    assert parse_rules(f"every 5 days {word} 10th").every == Every(5, Unit.DAY, 10)
    assert parse_rules(f"every 5 minutes {word} 7").every == Every(5, Unit.MINUTE, 7)
    assert parse_rules(f"every 2 months, {word} JUL").every == Every(2, Unit.MONTH, 7)
    assert parse_rules(f"every 2 wks {word} sunday").every == Every(2, Unit.WEEK, 1)
    assert parse_rules(f"every 2 wks {word} 7").every == Every(2, Unit.WEEK, 7)
    assert parse_rules(f"yearly {word} 2020").every == Every(1, Unit.YEAR, 2020)


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10:30", item(h=10, m=30)),
        ("9:05", item(h=9, m=5)),
        ("00:00:00", item(h=0, m=0, s=0)),
        ("10:30:15", item(h=10, m=30, s=15)),
        ("10:30pm", item(h=22, m=30)),
        ("10:30 AM", item(h=10, m=30)),
        ("12:00am", item(h=0, m=0)),
        ("12:00pm", item(h=12, m=0)),
        ("12:30:30 pm", item(h=12, m=30, s=30)),
        ("9pm", item(h=21)),
        ("9 pm", item(h=21)),
        ("12am", item(h=0)),
        ("12pm", item(h=12)),
        ("0am", item(h=0)),
        ("2023-01-23", item(y=2023, M=1, d=23)),
        ("2023-JAN-23", item(y=2023, M=1, d=23)),
        ("2023-January-last", item(y=2023, M=1, d=MonthEdge(last=True))),
        ("2023-02-LastDayOfMonth", item(y=2023, M=2, d=MonthEdge(last=True))),
        ("2023-01", item(y=2023, M=1)),
        ("2023-JAN", item(y=2023, M=1)),
        ("12-31", item(M=12, d=31)),
        ("Jan-23", item(M=1, d=23)),
        ("sep-last", item(M=9, d=MonthEdge(last=True))),
        ("Jan-23 14:00", item(M=1, d=23, h=14, m=0)),
        ("2023-01-23 10pm", item(y=2023, M=1, d=23, h=22)),
        ("1st", item(d=1)),
        ("21th", item(d=21)),
        ("3 rd", item(d=3)),
        ("1st Jan", item(d=1, M=1)),
        ("1st Jan 2023", item(d=1, M=1, y=2023)),
        ("1st 2 2023", item(d=1, M=2, y=2023)),
        ("1st 12", item(d=1, M=12)),
        ("1st jan 2021 10:30pm", item(d=1, M=1, y=2021, h=22, m=30)),
        ("3rd january 10:30:25 am", item(d=3, M=1, h=10, m=30, s=25)),
        ("January 1st", item(M=1, d=1)),
        ("January 1st 2023", item(M=1, d=1, y=2023)),
        ("January 1st, 2023, 9:00", item(M=1, d=1, y=2023, h=9, m=0)),
        ("Feb 29th 14:00", item(M=2, d=29, h=14, m=0)),
        ("jan 5 10:00", item(M=1, d=5, h=10, m=0)),
        ("21 10:10:10", item(d=21, h=10, m=10, s=10)),
        ("21 9pm", item(d=21, h=21)),
        ("3rd 1 10:30", item(d=3, M=1, h=10, m=30)),
        ("day 10", item(d=10)),
        ("10 day", item(d=10)),
        ("day 10th", item(d=10)),
        ("hour 0", item(h=0)),
        ("sec 59", item(s=59)),
        ("59 mins", item(m=59)),
        ("month 12", item(M=12)),
        ("year 2024", item(y=2024)),
        ("2024 year", item(y=2024)),
        ("week 1", item(w=1)),
        ("week sunday", item(w=1)),
        ("month january", item(M=1)),
        ("day LastDay", item(d=MonthEdge(last=True))),
        ("last day", item(d=MonthEdge(last=True))),
        ("day last", item(d=MonthEdge(last=True))),
        ("first day", item(d=MonthEdge(last=False))),
        ("day first + 3", item(d=MonthEdge(last=False, shift=3))),
        ("last - 3 day", item(d=MonthEdge(last=True, shift=-3))),
        ("last hour", item(h=23)),
        ("hour last - 2", item(h=21)),
        ("first minute", item(m=0)),
        ("minute first + 90", item(m=59)),
        ("month last", item(M=12)),
        ("week last", item(w=7)),
        ("last year", item(y=9999)),
        ("monday", item(w=2)),
        ("Mon 14:00", item(w=2, h=14, m=0)),
        ("13th friday", item(d=13, w=6)),
        ("march", item(M=3)),
        ("ClosestWeekdayTo 10", item(d=ClosestWeekday(10))),
        ("ClosestWeekDayTo 6th", item(d=ClosestWeekday(6))),
        ("ClosestWeekdayTo 1st 8:30", item(d=ClosestWeekday(1), h=8, m=30)),
        ("FirstDay+5", item(d=MonthEdge(last=False, shift=5))),
        ("LastDay -5", item(d=MonthEdge(last=True, shift=-5))),
        ("LastDay - 5 10:00", item(d=MonthEdge(last=True, shift=-5), h=10, m=0)),
        ("FirstWeekday -1", item(d=WeekdayEdge(last=False, shift=-1))),
        ("LastWeekday", item(d=WeekdayEdge(last=True))),
        ("2ndMonday + 1", item(d=NthWeekday(2, 2, 1))),
        ("LastSun 3am", item(d=NthWeekday(LAST, 1), h=3)),
    ],
)
def test_values_are_read_with_their_units(value, expected):
    assert items_of(value) == [expected]


@pytest.mark.parametrize(
    "word", [word for word in WORDS.values() if word.type == Class.SPECIAL], ids=lambda word: word.spelling
)
def test_every_special_day_is_a_day_of_the_month(word):
    assert items_of(word.spelling) == items_of(word.spelling.upper()) == [item(d=word.value)]


@pytest.mark.parametrize(("number", "name"), list(enumerate(MONTHS, start=1)))
def test_months_have_two_names(number, name):
    assert items_of(name) == items_of(name[:3]) == items_of(f"month {number}") == [item(M=number)]


@pytest.mark.parametrize("value", ["Feb 30th", "feb-30", "2023-02-29", "31st apr", "2023-02-31", "5thMonday"])
def test_days_that_no_month_has_are_no_error(value):
    assert len(items_of(value)) == 1


# --------------------------------------------------------------------------------------------------------------- lists


def test_items_of_lists_are_alternatives():
    assert items_of("[mon, wed]") == [item(w=2), item(w=4)]
    assert items_of("day [10, 11, 12]") == [item(d=10), item(d=11), item(d=12)]
    assert items_of("hour [9am, 17, last]") == [item(h=9), item(h=17), item(h=23)]
    assert items_of("[Jan-01 10:00, Feb-02 11:00]") == [item(M=1, d=1, h=10, m=0), item(M=2, d=2, h=11, m=0)]
    assert items_of("[1st jan, feb-02]") == [item(M=1, d=1), item(M=2, d=2)]
    assert items_of("[1stMonday 3am, 15th 10am]") == [item(d=NthWeekday(1, 2), h=3), item(d=15, h=10)]
    assert items_of("[5th]") == items_of("5th")


def test_words_of_points_are_equal_and_clauses_stand_in_any_order():
    points = parse_rules("on monday at 9:00").points

    assert points == parse_rules("in monday @in 9:00").points == parse_rules("at monday, on 9:00").points
    assert parse_rules("tz UTC at 9:00, every day").zone == "UTC"
    assert points == (Point((item(w=2),)), Point((item(h=9, m=0),)))


@pytest.mark.parametrize(
    "text",
    [
        "every 2 days, at [10:10, 11:10]",
        "@every 2 days @at [10:10, 11:10]",
        "every 2 days,at[10:10,11:10],",
        ",every,2 days at [10:10 , 11:10]",
        "every\t2\ndays;at [10:10,\r\n11:10];",
        "every2days at[10:10,11:10]",
    ],
)
def test_blanks_and_commas_are_free_where_nothing_depends_on_them(text):
    assert parse_rules(text) == parse_rules("every 2 days at [10:10, 11:10]")


# -------------------------------------------------------------------------------------------------------------- ranges


def windows(text: str):
    (found,) = parse_rules(f"every second {text}").ranges
    return [(window.start, window.end) for window in found.windows]


def test_ranges_have_both_ends():
    assert windows("between 9:00 and 18:00") == [(item(h=9, m=0), item(h=18, m=0))]
    assert windows("between 10:10am and 13:05") == [(item(h=10, m=10), item(h=13, m=5))]
    assert windows("between sec 10 and 20") == [(item(s=10), item(s=20))]
    assert windows("between day Last - 5 and Last - 1") == [
        (item(d=MonthEdge(last=True, shift=-5)), item(d=MonthEdge(last=True, shift=-1)))
    ]
    assert windows("between mon and fri") == [(item(w=2), item(w=6))]
    assert windows("between mon 9:00 and fri 18:00") == [(item(w=2, h=9, m=0), item(w=6, h=18, m=0))]
    assert windows("between 10:00 and 10:00") == [(item(h=10, m=0), item(h=10, m=0))]


def test_lists_of_ranges_are_alternatives():
    assert windows("between [Feb and Jul, Sep and Nov]") == [(item(M=2), item(M=7)), (item(M=9), item(M=11))]
    assert windows("between hour [1 and 2, 4 and 5]") == [(item(h=1), item(h=2)), (item(h=4), item(h=5))]


def test_from_and_upto_have_their_other_end():
    last = MonthEdge(last=True)

    assert windows("from 10:15pm") == [(item(h=22, m=15), item(h=23, m=59))]
    assert windows("upto 10:15") == [(item(h=0, m=0), item(h=10, m=15))]
    assert windows("from 10th") == [(item(d=10), item(d=last))]
    assert windows("upto LastWeekday") == [(item(d=1), item(d=WeekdayEdge(last=True)))]
    assert windows("from wed") == [(item(w=4), item(w=7))]
    assert windows("from 2024-03-05") == [(item(y=2024, M=3, d=5), item(y=9999, M=12, d=last))]
    assert windows("upto mar") == [(item(M=1), item(M=3))]


def test_ranges_repeat_and_remember_their_word():
    rules = parse_rules("every hour from 9:00 upto 18:00 between mon and fri")

    assert [each.word for each in rules.ranges] == [RangeWord.FROM, RangeWord.UPTO, RangeWord.BETWEEN]
    assert rules.ranges[2] == Range(RangeWord.BETWEEN, (Window(item(w=2), item(w=6)),))


@pytest.mark.parametrize(
    "pair",
    [
        "FirstMon and FirstFri",
        "5thMon and 5thWed",
        "10th and LastDay",
        "LastDay - 3 and LastWeekday",
        "31st and LastDay",
    ],
)
def test_ranges_that_are_in_order_in_some_month_are_taken(pair):
    assert len(windows(f"between {pair}")) == 1


# --------------------------------------------------------------------------------------------------------------- zones


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("tz Europe/Berlin", "Europe/Berlin"),
        ("TZ america/new_york", "America/New_York"),
        ("@timezone ASIA/TOKYO", "Asia/Tokyo"),
        ("tz utc", "UTC"),
        ("tz Etc/GMT+5", "Etc/GMT+5"),
        ("tz America/Port-au-Prince", "America/Port-au-Prince"),
        ("tz EST5EDT", "EST5EDT"),
    ],
)
def test_zones_are_named_in_any_case(text, zone):
    assert parse_rules(f"every day {text} at 9:00").zone == zone
    assert parse_rules(f"every day at 9:00, {text},").zone == zone


# ---------------------------------------------------------------------------------------------------- days of the month


@pytest.mark.parametrize(
    ("day", "length", "starts_on", "expected"),
    [
        (31, 30, 1, None),
        (30, 30, 1, 30),
        (MonthEdge(last=True, shift=-40), 31, 1, 1),
        (MonthEdge(last=False, shift=40), 28, 1, 28),
        (WeekdayEdge(last=False), 31, 1, 2),
        (WeekdayEdge(last=False), 31, 7, 3),
        (WeekdayEdge(last=True), 28, 1, 27),
        (WeekdayEdge(last=True), 29, 1, 27),
        (WeekdayEdge(last=True), 30, 1, 30),
        (WeekdayEdge(last=False, shift=-5), 30, 1, 1),
        (NthWeekday(1, 1), 30, 1, 1),
        (NthWeekday(5, 2), 30, 1, 30),
        (NthWeekday(5, 3), 30, 1, None),
        (NthWeekday(LAST, 3), 30, 1, 24),
        (NthWeekday(LAST, 3, 9), 30, 1, 30),
        (ClosestWeekday(1), 31, 7, 3),
        (ClosestWeekday(1), 31, 1, 2),
        (ClosestWeekday(31), 29, 7, 28),
        (ClosestWeekday(31), 30, 7, 28),
        (ClosestWeekday(15), 31, 1, 16),
    ],
)
def test_special_days_stay_in_their_month(day, length, starts_on, expected):
    assert day_in_month(day, length=length, starts_on=starts_on) == expected


# ---------------------------------------------------------------------------------------------------------------- costs


def test_the_parser_is_loaded_when_something_is_parsed():
    program = (
        "import sys, jobmaster, jobmaster.schedules, jobmaster.schedules.natural.builder\n"
        "from jobmaster.schedules import NaturalCron\n"
        "assert 'lark' not in sys.modules\n"
        "NaturalCron('every day')\n"
        "assert 'lark' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.alone
def test_common_expressions_are_read_in_a_fraction_of_a_millisecond():
    texts = ["every day at 9:00", "every 5 minutes", "every month on LastWeekday at 17:00", "daily tz Europe/Berlin"]
    costs = []
    for _ in range(50):
        for text in texts:
            begin = time.process_time_ns()
            parse_rules.__wrapped__(text)
            costs.append(time.process_time_ns() - begin)
    assert statistics.median(costs) < 300_000
