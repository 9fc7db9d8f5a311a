"""Expressions that are refused: why, where, and what was probably meant (`cases/invalid.txt`)."""

from __future__ import annotations

import copy
import pickle
import re
import time
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.problems import Kind
from jobmaster.schedules.natural.reading import LONGEST_TEXT, parse_rules
from jobmaster.schedules.natural.vocabulary import WORDS
from tests.schedules.natural.case_files import CASES

_CARETS = re.compile(r"( *)(\^+) ([a-z-]+)(?: -> (.*))?$")


class Expected(NamedTuple):
    position: int
    length: int
    kind: str
    suggestion: str


def refused_expressions() -> list[tuple[str, list[Expected]]]:
    found: list[tuple[str, list[Expected]]] = []
    for line in (CASES / "invalid.txt").read_text("utf-8").splitlines():
        carets = _CARETS.match(line)
        if carets is not None:
            found[-1][1].append(Expected(len(carets[1]), len(carets[2]), carets[3], carets[4] or ""))
        elif line and not line.startswith("#"):
            found.append((line, []))
    return found


REFUSED = refused_expressions()


def refusal(text: str) -> ScheduleSyntaxError:
    with pytest.raises(ScheduleSyntaxError) as caught:
        parse_rules(text)
    return caught.value


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_is_wrong_is_shown_where_it_is(text, expected):
    error = refusal(text)

    assert [Expected(each.position, each.length, each.kind, each.suggestion) for each in error.errors] == expected
    assert error.text == text


def test_every_row_of_the_table_has_several_cases():
    kinds = [expected[0].kind for _, expected in REFUSED]

    for kind in Kind:
        assert kind == Kind.TOO_LONG or kinds.count(kind) >= 3, kind
    assert len(REFUSED) >= 240


@pytest.mark.parametrize("text", [text for text, _ in REFUSED if not re.search(r"@|^ ", text)])
def test_at_signs_change_nothing_but_the_place(text):
    """Each rule word that exists gets its `@`; what is wrong stays wrong for the same reason."""
    signed = re.sub(
        r"(?i)(?<![\w/@])(every|at|on|in|between|from|upto|tz|timezone|hourly|daily|weekly)(?![a-z/])", r"@\1", text
    )

    # A suggestion quotes the text; `tz in` means that `in` is taken for the zone's name.
    assert [each.kind for each in refusal(signed).errors] == [each.kind for each in refusal(text).errors]


def test_the_text_of_an_error_shows_the_place_and_the_suggestion():
    assert str(refusal("every 5 minutes betwen 9:00 and 18:00")) == (
        "`betwen` is no word of NaturalCron; did you mean `between`?\n"
        "  every 5 minutes betwen 9:00 and 18:00\n"
        "                  ^^^^^^"
    )


def test_all_problems_of_a_step_are_shown_together():
    assert str(refusal("every 5 minuts on the 5th")) == (
        "`minuts` is no word of NaturalCron; did you mean `minutes`?\n"
        "  every 5 minuts on the 5th\n"
        "          ^^^^^^    ^^^\n"
        "also: `the` is no word of NaturalCron: leave it out"
    )


def test_a_sentence_that_is_true_of_several_places_is_said_once():
    assert str(refusal("0 9 * * *")) == (
        "`*` means nothing here: a cron expression is read by Cron\n  0 9 * * *\n      ^ ^ ^"
    )


def test_a_place_behind_the_text_is_shown_behind_it():
    assert str(refusal("every day at")).splitlines()[1:] == ["  every day at", "              ^"]


def test_line_breaks_and_tabs_do_not_move_the_carets():
    assert str(refusal("every\tday\r\nat foo")).splitlines()[1:] == ["  every day  at foo", "                ^^^"]


def test_of_a_long_text_the_part_around_the_place_is_shown():
    text = "every day at [" + ", ".join(f"{n % 24}:00" for n in range(100)) + ", 9:99]"
    lines = str(refusal(text)).splitlines()

    assert lines[1].startswith("  ... ")
    assert len(lines[1]) < 120
    assert lines[1][lines[2].index("^") :].startswith("99]")


def test_a_text_may_have_a_thousand_characters():
    assert parse_rules("every day".ljust(LONGEST_TEXT)) == parse_rules("every day")

    error = refusal("every day".ljust(LONGEST_TEXT + 1))
    assert (error.kind, error.message) == ("too-long", "an expression has at most 1,000 characters, this one has 1,001")
    assert len(str(refusal("x" * 1_000_000))) < 300


def test_of_many_unknown_words_the_first_are_told():
    error = refusal("abcd " * 200)

    assert len(error.errors) == 10
    assert str(error).count("\n") == 2


def test_an_empty_text_is_told_what_to_write():
    for text in ("", "   ", ",", ";\t"):
        error = refusal(text)
        assert (error.kind, error.position) == ("no-every-and-no-at-on-in", 0)
        assert error.suggestion == "every day at 9:00"


def test_what_is_suggested_for_a_misspelled_word_is_a_word():
    for small, word in WORDS.items():
        if len(small) >= 5:
            error = refusal(f"every day {small[:2]}{small[3:]}x")
            assert error.kind == "unknown-token"
            assert error.suggestion, word.spelling


def test_errors_can_be_sent_between_processes():
    error = refusal("every 5 minuts on the 5th")

    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(copied) == str(error)
        assert vars(copied).keys() == vars(error).keys()
        assert len(copied.errors) == 2


def test_an_error_can_be_made_of_a_message_alone():
    error = ScheduleSyntaxError("no such thing", 4)

    assert (str(error), error.position, error.text, error.errors) == ("no such thing", 4, "", (error,))


# -------------------------------------------------------------------------------------------------------------- chance

NTH = re.compile(r"(?i)(first|1st|second|2nd|third|3rd|fourth|4th|fifth|5th|last)[a-z]")
VALUES = "1stMon LastFriday FirstDay 0 1 5 31 99 2023 10:30 10:30:15 24:00 9pm Jan-23 2023-01-23 12-31 2023-JAN"
SIGNS = ", , , [ ] [ ] + - : ; @ . / @every @at @on @between tz Europe/Berlin foo é ſt １ 00000000000000000000"
WORDS_AND_SIGNS = [word.spelling for word in WORDS.values() if not NTH.match(word.spelling)]
WORDS_AND_SIGNS += [*VALUES.split(), *SIGNS.split()]


@given(st.lists(st.sampled_from(WORDS_AND_SIGNS), max_size=25), st.sampled_from([" ", " ", ""]))
@settings(max_examples=1500)
def test_any_sequence_of_words_is_read_or_refused(words, separator):
    read_or_refuse(separator.join(words))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=500)
def test_any_text_is_refused_or_read(text):
    read_or_refuse(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * LONGEST_TEXT,
        "on [" + "1st," * 240,
        "every day " * 100,
        "9" * LONGEST_TEXT,
        "every " + "9" * 900 + " days",
        "on LastDay + " + "9" * 900,
        "at " + "1:" * 490,
        "on " + "1-" * 490,
        "on " + "jan-" * 240,
        "1st" * 330,
        "@" * LONGEST_TEXT,
        "tz " * 330,
        "\x00" * LONGEST_TEXT,
        "a" * LONGEST_TEXT,
        "".join(f"{letter}ondyx " for letter in "abcdefghijklmnopqrstuvwxyz" * 5),
    ],
    ids=lambda text: text[:12],
)
def test_hostile_texts_are_answered_at_once(text):
    read_or_refuse(text[:LONGEST_TEXT])


def read_or_refuse(text: str) -> None:
    begin = time.process_time()
    error = None
    try:
        parse_rules(text)
    except ScheduleSyntaxError as refused:
        error = refused
    assert time.process_time() - begin < 2
    if error is not None:
        assert 0 <= error.position <= len(text)
        assert error.kind in set(Kind)
        assert "\n" not in error.message
        assert str(error)


@pytest.mark.parametrize(
    "text", ["every day tz Berlin\x1b[31m", "every day\x1b[2J", "every day at 9:00\x00", "every \u202eday"]
)
def test_control_characters_of_a_text_do_not_reach_the_terminal(text):
    with pytest.raises(ScheduleSyntaxError) as caught:
        parse_rules(text)

    assert str(caught.value).replace("\n", "").isprintable()
