"""docs/guide/naturalcron.md: every expression means what stands beside it, and no word of the language is missing."""

from __future__ import annotations

import re
from datetime import time
from pathlib import Path

import pytest

from jobmaster.schedules import natural
from jobmaster.schedules.natural import NaturalCron
from jobmaster.schedules.natural.vocabulary import WORDS, Class

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "naturalcron.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")] for line in GUIDE.splitlines() if line.startswith("| `")
]
BUILDERS = [(builder.strip("`"), text.strip("`")) for builder, text in ROWS if text.startswith("`") and "(" in builder]
SENTENCES = [(expression.strip("`"), sentence) for expression, sentence in ROWS if not sentence.startswith("`")]


@pytest.mark.parametrize(("expression", "sentence"), SENTENCES, ids=[row[0] for row in SENTENCES])
def test_an_expression_means_what_stands_beside_it(expression: str, sentence: str) -> None:
    assert NaturalCron(expression).explain() == sentence


@pytest.mark.parametrize(("builder", "text"), BUILDERS, ids=[row[1] for row in BUILDERS])
def test_a_builder_writes_what_stands_beside_it(builder: str, text: str) -> None:
    names = {name: getattr(natural, name) for name in natural.__all__}
    rule = eval(builder, {**names, "time": time}).build()  # noqa: S307 - our own page

    assert rule.text == text


def test_the_tables_are_found() -> None:
    assert len(SENTENCES) > 40
    assert len(BUILDERS) == 10


def test_expressions_in_running_text_can_be_read() -> None:
    running = "\n".join(line for line in GUIDE.splitlines() if not line.startswith("|")).replace("\n", " ")
    found = re.findall(r"`((?:@?every|at|on) [^`]+)`", running)

    assert len(found) > 8
    for expression in found:
        NaturalCron(re.sub(r"^every N$", "every 2 days", expression))


def test_all_words_are_named() -> None:
    told = {word.lower() for code in re.findall(r"`([^`]+)`", GUIDE) for word in re.findall(r"[@\w/]+", code)}
    kinds = {Class.EVERY, Class.SHORTCUT, Class.POINT, Class.BETWEEN, Class.BOUND, Class.TZ, Class.ANCHOR, Class.UNIT}
    missing = {word for word, meaning in WORDS.items() if meaning.type in {*kinds, Class.ORDINAL, Class.CLOSEST}} - told
    days = {"firstday", "firstdayofmonth", "firstofthemonth", "lastday", "lastdayofmonth", "lastdayofthemonth"}

    assert not missing
    assert {*days, "firstweekday", "lastweekday"} <= told
