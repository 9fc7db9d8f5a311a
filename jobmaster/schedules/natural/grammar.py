"""The grammar of NaturalCron, for lark. This module imports lark: import it only when something must be parsed.

The grammar takes a little more than the language, so that what is wrong with a value can be said by those who read
values (`values.py`) instead of by a parser that was surprised. Words get their class from the vocabulary, after the
lexer: they are no terminals of the grammar.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lark import Lark, Token, Transformer, v_args

from jobmaster.schedules.natural.phrases import (
    AnchorPhrase,
    Atom,
    EveryPhrase,
    Group,
    PairPhrase,
    Phrase,
    PointPhrase,
    RangePhrase,
    Shape,
    ZonePhrase,
)
from jobmaster.schedules.natural.rules import ClosestWeekday, RangeWord, Span, SpecialDay, Unit
from jobmaster.schedules.natural.vocabulary import RULE_CLASSES, WORDS

_GRAMMAR = r"""
start: _clause+
_clause: every | point | range | bound | zone

every: EVERY (UNIT | ORDINAL) [anchor]               -> every_unit
     | EVERY NUMBER (UNIT | ORDINAL) [anchor]        -> every_units
     | EVERY WEEKDAY [anchor]                        -> every_weekday
     | SHORTCUT [anchor]                             -> every_unit_in_one
anchor: ANCHOR NUMBER [ORDINAL]                      -> anchor_number
      | ANCHOR (MONTH | WEEKDAY)                     -> anchor_name

point: POINT group                                           -> single_point
     | POINT [UNIT] "[" group ("," group)* _CLOSE            -> list_point
range: BETWEEN pair                                          -> single_range
     | BETWEEN [UNIT] "[" pair ("," pair)* _CLOSE            -> list_range
pair: group _AND group
bound: BOUND group
zone: ZONE

group: _value+
_value: clock | hour | date | ordinal | number | edge | name | special | closest

clock: CLOCK [AMPM]
hour: NUMBER AMPM
date: DATE
ordinal: NUMBER ORDINAL
number: NUMBER                                       -> bare_number
      | NUMBER UNIT                                  -> number_with_unit
      | UNIT NUMBER [ORDINAL]                        -> unit_with_number
edge: EDGE [SIGN NUMBER]                             -> bare_edge
    | EDGE [SIGN NUMBER] UNIT                        -> edge_with_unit
    | UNIT EDGE [SIGN NUMBER]                        -> unit_with_edge
name: [UNIT] (MONTH | WEEKDAY)
special: [UNIT] SPECIAL [SIGN NUMBER]
closest: [UNIT] CLOSEST NUMBER [ORDINAL]

%declare EVERY SHORTCUT POINT BETWEEN BOUND ANCHOR UNIT ORDINAL WEEKDAY MONTH SPECIAL CLOSEST EDGE _AND AMPM

ZONE.9: /@?(?:tz|timezone)[\s;]+[^\s;,\[\]@]+/i
CLOCK.8: /[0-9]+(?::[0-9]+)+/
DATE.7: /(?:[0-9]+|(?:<month>))(?:-[0-9a-z]+)+/i
NUMBERED_WORD.6: /[0-9]+(?:st|nd|rd|th)[a-z]+/i
NUMBER.5: /[0-9]+/
WORD.4: /@?(?:[^\W\d]|\/)+/
SIGN: /[+-]/
_CLOSE: "]"
OTHER.-9: /./s
BLANK: /[\s;]+/
%ignore BLANK
"""

_MONTHS = [word for word in WORDS if WORDS[word].type == "MONTH"]
UNKNOWN = "UNKNOWN"
"""Type of a token that belongs to nothing. No rule takes it, and none takes the type COLON, a colon beside a blank."""


class _Words:
    """Between lexer and parser: gives words their class, drops commas outside brackets."""

    always_accept = ("NUMBERED_WORD", "OTHER", "WORD")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        for token in stream:
            match token.type:
                case "WORD" | "NUMBERED_WORD":
                    _classify(token)
                case "LSQB":
                    depth += 1
                case "_CLOSE":
                    depth -= 1
                    if depth < 0:
                        token.type = UNKNOWN
                case "COMMA" if depth <= 0:
                    continue
                case "OTHER":
                    token.type = "COLON" if str(token) == ":" else UNKNOWN
            yield token


def _classify(token: Token) -> None:
    text = token.lower()
    word = WORDS.get(text)
    if word is None and text[0] == "@":
        word = WORDS.get(text[1:])
        if word is not None and word.type not in RULE_CLASSES:
            word = None
    if word is None:
        token.type = UNKNOWN
        return
    token.type = "_AND" if word.type == "AND" else word.type.value
    token.value = word.value


def _span(first: Token, *others: Token | None) -> Span:
    end = first.end_pos
    for token in others:
        if token is not None:
            end = token.end_pos
    return Span(first.start_pos or 0, end or 0)


def _unit(token: Token) -> Unit:
    return Unit.DAY if token.type == "ORDINAL" else Unit(token.value)


def _shifted(token: Token, sign: Token | None, number: Token | None) -> SpecialDay:
    day: SpecialDay = token.value
    if sign is None or number is None or isinstance(day, ClosestWeekday):
        return day
    return replace(day, shift=int(number) if sign == "+" else -int(number))


@v_args(inline=True)
class _Phrases(Transformer[Token, list[Phrase]]):
    """Makes phrases of what the parser finds, while it goes on."""

    def start(self, *phrases: Phrase) -> list[Phrase]:
        return list(phrases)

    def every_unit(self, every: Token, unit: Token, anchor: AnchorPhrase | None) -> EveryPhrase:
        return EveryPhrase(1, _unit(unit), None, anchor, _span(every, unit), _span(unit))

    def every_units(self, every: Token, count: Token, unit: Token, anchor: AnchorPhrase | None) -> EveryPhrase:
        return EveryPhrase(int(count), _unit(unit), None, anchor, _span(every, unit), _span(count))

    def every_weekday(self, every: Token, weekday: Token, anchor: AnchorPhrase | None) -> EveryPhrase:
        return EveryPhrase(1, Unit.WEEK, weekday.value, anchor, _span(every, weekday), _span(weekday))

    def every_unit_in_one(self, shortcut: Token, anchor: AnchorPhrase | None) -> EveryPhrase:
        return EveryPhrase(1, _unit(shortcut), None, anchor, _span(shortcut), _span(shortcut))

    def anchor_number(self, word: Token, number: Token, ordinal: Token | None) -> AnchorPhrase:
        return AnchorPhrase(int(number), None, _span(number, ordinal))

    def anchor_name(self, word: Token, name: Token) -> AnchorPhrase:
        return AnchorPhrase(name.value, Unit.MONTH if name.type == "MONTH" else Unit.WEEK, _span(name))

    def single_point(self, word: Token, group: Group) -> PointPhrase:
        return PointPhrase(_rule_word(word), None, [group], _span(word))

    def list_point(self, word: Token, unit: Token | None, *groups: Group) -> PointPhrase:
        return PointPhrase(_rule_word(word), _prefix(unit), list(groups), _span(word))

    def single_range(self, word: Token, pair: PairPhrase) -> RangePhrase:
        return RangePhrase(RangeWord.BETWEEN, None, [pair], _span(word))

    def list_range(self, word: Token, unit: Token | None, *pairs: PairPhrase) -> RangePhrase:
        return RangePhrase(RangeWord.BETWEEN, _prefix(unit), list(pairs), _span(word))

    def pair(self, start: Group, end: Group) -> PairPhrase:
        return PairPhrase(start, end)

    def bound(self, word: Token, group: Group) -> RangePhrase:
        if _rule_word(word) == "from":
            return RangePhrase(RangeWord.FROM, None, [PairPhrase(group, [])], _span(word))
        return RangePhrase(RangeWord.UPTO, None, [PairPhrase([], group)], _span(word))

    def zone(self, token: Token) -> ZonePhrase:
        name = re.split(r"[\s;]+", token, maxsplit=1)[1]
        span = _span(token)
        return ZonePhrase(name, Span(span.end - len(name), span.end), span)

    def group(self, *atoms: Atom) -> Group:
        return list(atoms)

    def clock(self, clock: Token, half: Token | None) -> Atom:
        return Atom(Shape.CLOCK, str(clock), _span(clock, half), afternoon=_afternoon(half))

    def hour(self, number: Token, half: Token) -> Atom:
        return Atom(Shape.HOUR, str(number), _span(number, half), unit=Unit.HOUR, afternoon=_afternoon(half))

    def date(self, token: Token) -> Atom:
        return Atom(Shape.DATE, str(token), _span(token))

    def ordinal(self, number: Token, ordinal: Token) -> Atom:
        return Atom(Shape.ORDINAL, str(number), _span(number, ordinal), unit=Unit.DAY)

    def bare_number(self, number: Token) -> Atom:
        return Atom(Shape.NUMBER, str(number), _span(number))

    def number_with_unit(self, number: Token, unit: Token) -> Atom:
        return Atom(Shape.NUMBER, str(number), _span(number, unit), unit=_unit(unit))

    def unit_with_number(self, unit: Token, number: Token, ordinal: Token | None) -> Atom:
        return Atom(Shape.NUMBER, str(number), _span(unit, number, ordinal), unit=_unit(unit))

    def bare_edge(self, edge: Token, sign: Token | None, number: Token | None) -> Atom:
        return Atom(Shape.EDGE, str(edge), _span(edge, number), _shifted(edge, sign, number))

    def edge_with_unit(self, edge: Token, sign: Token | None, number: Token | None, unit: Token) -> Atom:
        return Atom(Shape.EDGE, str(edge), _span(edge, number, unit), _shifted(edge, sign, number), _unit(unit))

    def unit_with_edge(self, unit: Token, edge: Token, sign: Token | None, number: Token | None) -> Atom:
        return Atom(Shape.EDGE, str(edge), _span(unit, edge, number), _shifted(edge, sign, number), _unit(unit))

    def name(self, unit: Token | None, name: Token) -> Atom:
        own = Unit.MONTH if name.type == "MONTH" else Unit.WEEK
        return Atom(Shape.NAMED, str(name), _span(name), name.value, own, prefix=_prefix(unit))

    def special(self, unit: Token | None, day: Token, sign: Token | None, number: Token | None) -> Atom:
        value = _shifted(day, sign, number)
        return Atom(Shape.NAMED, str(day), _span(day, number), value, Unit.DAY, prefix=_prefix(unit))

    def closest(self, unit: Token | None, word: Token, number: Token, ordinal: Token | None) -> Atom:
        value = ClosestWeekday(int(number))
        return Atom(Shape.NAMED, str(word), _span(word, number, ordinal), value, Unit.DAY, prefix=_prefix(unit))


def _rule_word(token: Token) -> str:
    return token.lstrip("@").lower()


def _prefix(unit: Token | None) -> Unit | None:
    return None if unit is None else _unit(unit)


def _afternoon(half: Token | None) -> bool | None:
    return None if half is None else half.lower() == "pm"


@functools.cache
def _parser() -> Lark:
    return Lark(
        _GRAMMAR.replace("<month>", "|".join(sorted(_MONTHS, reverse=True))),
        parser="lalr",
        lexer="basic",
        transformer=_Phrases(),
        postlex=_Words(),
        maybe_placeholders=True,
    )


def phrases(text: str) -> list[Phrase]:
    """The clauses of `text`.

    Raises:
        lark.UnexpectedToken: the text is no sequence of clauses.
    """
    found: Any = _parser().parse(text)
    return list(found)


def tokens(text: str) -> list[Token]:
    """All tokens of `text`, those of type UNKNOWN among them."""
    return list(_parser().lex(text))
