"""Sentences that a person would say."""

import re

import pytest

from jobmaster.schedules.natural.explaining import explain
from jobmaster.schedules.natural.reading import parse_rules
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
