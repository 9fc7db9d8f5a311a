"""Sentences that a person would say."""

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural import english
from jobmaster.schedules.natural.explaining import explain
from jobmaster.schedules.natural.reading import parse_rules
from jobmaster.schedules.natural.rules import LAST, MonthEdge, NthWeekday, RangeWord, Unit, WeekdayEdge, day_in_month
from tests.schedules.natural import case_files
from tests.schedules.natural.random_expressions import expressions

SENTENCES = case_files.rows("sentences.txt")


@pytest.mark.parametrize(("expression", "sentence"), SENTENCES, ids=[row[0] for row in SENTENCES])
def test_an_expression_reads_as_a_sentence(expression, sentence):
    assert explain(parse_rules(expression)) == sentence


def test_there_are_as_many_sentences_as_we_promise():
    assert len({sentence for _, sentence in SENTENCES}) >= 40


@pytest.mark.parametrize("case", case_files.published_occurrences(), ids=lambda case: case.expression)
def test_every_public_expression_has_a_tidy_sentence(case):
    sentence = explain(parse_rules(case.expression))
    assert re.match(r"(every|on|in|at|from|the|\d+ days|up to) ?", sentence), sentence
    assert not re.search(r"  | ,|,,|None|\bNone\b|[.,]$", sentence), sentence
    assert not re.search(r"\b(\w+) \1\b", sentence), sentence


MONTHS = [(length, starts_on) for length in range(28, 32) for starts_on in range(1, 8)]
SPECIAL = [
    *(MonthEdge(last=last) for last in (True, False)),
    *(WeekdayEdge(last=last) for last in (True, False)),
    *(NthWeekday(nth, 3) for nth in (1, 2, 3, 4, 5, LAST)),
]


@pytest.mark.parametrize("day", SPECIAL, ids=english.day)
@pytest.mark.parametrize("shift", [*range(-33, 0), *range(1, 34)])
def test_a_moved_day_is_said_to_stay_in_its_month_where_it_is_cut(day, shift):
    moved = replace(day, shift=shift)
    found = [(day_in_month(day, length=length, starts_on=first), length, first) for length, first in MONTHS]
    asked = [(number + shift, length, first) for number, length, first in found if number is not None]
    words = english.day(moved)

    if words in {"the first day", "the last day"}:
        same = MonthEdge(last=words == "the last day")
        for length, first in MONTHS:
            own = day_in_month(moved, length=length, starts_on=first)
            assert own == day_in_month(same, length=length, starts_on=first)
        return
    assert ("at least the 1st" in words) == any(number < 1 for number, _, _ in asked)
    assert ("at most the last day" in words) == any(number > length for number, length, _ in asked)


def is_told(part, sentence):
    value, name = part.value, part.unit.name
    if not isinstance(value, int):
        return english.day(value).removeprefix("the ") in sentence or "the end" in sentence
    if value in {part.unit.lowest, part.unit.highest}:
        return True  # may be told as midnight, the end, or not at all
    words = {
        "WEEK": lambda: [english.weekday(value)],
        "MONTH": lambda: [english.month(value)],
        "DAY": lambda: [english.ordinal(value)],
        "HOUR": lambda: [f"{value}:", f" {value}"],
    }.get(name, lambda: [f":{value:02}", f" {value}"])()
    return any(word in sentence for word in words)


@given(expressions())
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_that_is_written_is_left_out(expression):
    try:
        rules = parse_rules(expression)
    except ScheduleSyntaxError:
        assume(False)
    sentence = explain(rules)
    parts = [part for point in rules.points for item in point.items for part in item]
    hours = {part.value for part in parts if part.unit is Unit.HOUR}  # those within a run are not named
    parts = [part for part in parts if part.unit is not Unit.HOUR or not {part.value - 1, part.value + 1} <= hours]
    for each in rules.ranges:
        for window in each.windows:
            parts += window.start if each.word is not RangeWord.UPTO else ()
            parts += window.end if each.word is not RangeWord.FROM else ()

    assert [part for part in parts if not is_told(part, sentence)] == [], sentence
