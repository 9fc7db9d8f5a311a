"""What people say in plain English is refused with words that can be put in its place."""

from __future__ import annotations

import pytest

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.idioms import reworded
from jobmaster.schedules.natural.problems import Kind, Problem
from jobmaster.schedules.natural.reading import parse_rules
from jobmaster.schedules.natural.rules import Span

SAID = {
    "every monday, wednesday and friday at 9:00": "every week on [monday, wednesday, friday] at 9:00",
    "every monday and friday at 9:00": "every week on [monday, friday] at 9:00",
    "every mondays & fridays at 9:00": "every week on [monday, friday] at 9:00",
    "every week on mon, wed or fri at 9:00": "every week on [mon, wed, fri] at 9:00",
    "every mon-fri at 9:00": "every day between mon and fri at 9:00",
    "every monday to friday at 9:00": "every day between monday and friday at 9:00",
    "every day on monday through friday at 9:00": "every day between monday and friday at 9:00",
    "every 10 minutes mon-fri": "every 10 minutes between mon and fri",
    "every 10 minutes on weekdays": "every 10 minutes between Monday and Friday",
    "every hour on business days": "every hour between Monday and Friday",
    "every hour at weekends": "every hour on [Saturday, Sunday]",
    "every workday at 9:00": "every day between Monday and Friday at 9:00",
    "every business day at 9:00": "every day between Monday and Friday at 9:00",
    "every half hour": "every 30 minutes",
    "every half an hour": "every 30 minutes",
    "every quarter hour": "every 15 minutes",
    "every night at 2:00": "every day at 2:00",
    "every morning at 7:00": "every day at 7:00",
    "5m": "every 5 minutes",
    "30 s": "every 30 seconds",
    "1h30m": "every 90 minutes",
    "every 1h30m": "every 90 minutes",
    "every other day at 9:00": "every 2 days at 9:00",
    "every second day at 9:00": "every 2 days at 9:00",
    "every third month on day 1": "every 3 months on day 1",
    "every 1.5 hours": "every 90 minutes",
    "every 2.5 days": "every 60 hours",
    "every day at 9.30": "every day at 9:30",
    "every day at 9h05": "every day at 9:05",
    "every day at [9.30, 14.30]": "every day at [9:30, 14:30]",
    "every 5 minutes between 9 and 17": "every 5 minutes between 9:00 and 17:00",
    "every 5 minutes anchored on 0": "every 5 minutes AnchoredOn 0",
    "every minute at minute 5-10": "every minute between minute 5 and 10",
    "every hour on the hour": "every hour at minute 0",
    "on weekdays at 9:00": "every day between Monday and Friday at 9:00",
    "at 9:00 on weekdays": "at 9:00 every day between Monday and Friday",
    "weekdays at 9:00": "every day between Monday and Friday at 9:00",
    "weekends at 10:00": "every week on [Saturday, Sunday] at 10:00",
    "monday to friday at 9:00": "every day between monday and friday at 9:00",
    "on Mon-Fri": "every day between Mon and Fri",
    "daily mon-fri": "daily between mon and fri",
    "mondays at 9:00": "every monday at 9:00",
    "every 2 mondays at 9:00": "every 2 weeks AnchoredOn monday at 9:00",
    "every second monday at 9:00": "every 2 weeks AnchoredOn monday at 9:00",
    "every other friday": "every 2 weeks AnchoredOn friday",
    "every 1,000 seconds": "every 1000 seconds",
    "every 1_000_000 seconds": "every 1000000 seconds",
    "every 5 minutes between 9am and 5:30pm": "every 5 minutes between 9:00am and 5:30pm",
    "every 5 minutes between 9 and 17:30": "every 5 minutes between 9:00 and 17:30",
    "EVERY MON-FRI AT 9:00": "EVERY day between MON and FRI AT 9:00",
}


@pytest.mark.parametrize(("text", "written"), SAID.items(), ids=SAID)
def test_the_suggestion_in_its_place_is_what_was_meant(text, written):
    corrected = text
    for _ in range(2):  # two times of day in one list are two places
        with pytest.raises(ScheduleSyntaxError) as caught:
            parse_rules(corrected)
        for error in sorted(caught.value.errors, key=lambda each: -each.position):
            corrected = corrected[: error.position] + error.suggestion + corrected[error.position + error.length :]
        if corrected.lower() == written.lower():
            break

    assert corrected.lower() == written.lower()
    parse_rules(corrected)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("18:00 and 9:00", "[18:00 and 23:59, 0:00 and 9:00]"),
        ("22:30:30 and 6:00:15", "[22:30:30 and 23:59:59, 0:00:00 and 6:00:15]"),
        ("fri and mon", "[fri and Saturday, Sunday and mon]"),
        ("Saturday and Sunday", "[Saturday and Saturday, Sunday and Sunday]"),
        ("november and february", "[november and December, January and february]"),
    ],
)
def test_a_range_around_an_end_is_two(text, written):
    with pytest.raises(ScheduleSyntaxError) as caught:
        parse_rules(f"every 5 minutes between {text}")

    assert caught.value.suggestion == written
    parse_rules(f"every 5 minutes between {written}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("every 30-10 seconds", "jitter"),
        ("every day except sunday", "no exceptions"),
        ("every day not on sunday at 9:00", "no exceptions"),
        ("tomorrow at 9:00", "its date"),
    ],
)
def test_what_cannot_be_said_is_explained(text, said):
    with pytest.raises(ScheduleSyntaxError, match=said) as caught:
        parse_rules(text)

    assert caught.value.suggestion == ""


@pytest.mark.parametrize(
    "text", ["every 5 minutes between 26:00 and 25:00", "every day at 25.30", "every 5 minutes between [mon-wed, fri]"]
)
def test_nothing_impossible_is_suggested(text):
    with pytest.raises(ScheduleSyntaxError) as caught:
        parse_rules(text)

    assert caught.value.suggestion in {"", "and"}


def test_problems_of_one_idiom_are_told_once():
    words = [Problem(Kind.UNKNOWN_TOKEN, "no word", Span(6, 10)), Problem(Kind.UNKNOWN_TOKEN, "no word", Span(11, 13))]

    assert [problem.suggestion for problem in reworded("every half an hour", words)] == ["30 minutes"]
