"""Sentences that a person would say."""

import re
from dataclasses import replace

import pytest

from jobmaster.schedules.natural import english
from jobmaster.schedules.natural.explaining import explain
from jobmaster.schedules.natural.reading import parse_rules
from jobmaster.schedules.natural.rules import LAST, MonthEdge, NthWeekday, WeekdayEdge, day_in_month
from tests.schedules.natural import case_files

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
